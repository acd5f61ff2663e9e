// What the kernel tests share: seeded numbers, memory whose edges are watched, and a report. One test.cc
// per family compares every row of its table with the definition; rows that this CPU cannot run are named.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/sanitizer.h"
#include "subbyte/isa.h"

namespace subbyte::test {

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int between(int low, int high) { return low + static_cast<int>(engine_() % static_cast<unsigned>(high - low + 1)); }
  float real(float low, float high) { return low + (high - low) * static_cast<float>(engine_() >> 8) / 16777216.0f; }
  // Codes and weights at the ends of their range as often as in the middle: where 16-bit sums would saturate.
  std::uint8_t byte() {
    const std::uint8_t ends[] = {0, 127, 128, 255};
    return between(0, 1) ? static_cast<std::uint8_t>(between(0, 255)) : ends[between(0, 3)];
  }

 private:
  std::mt19937 engine_;
};

// Zeroed bytes that end where a page begins that nobody may touch: reading one byte more ends the test, on every CPU
// and in inline assembly too. Pages are kept for the next one.
class Guarded {
 public:
  explicit Guarded(std::size_t bytes)
      : room_((bytes + page() - 1) / page() * page()), begin_(take(room_)), data_(begin_ + room_ - bytes) {
    std::memset(data_, 0, bytes);
    poison(begin_, static_cast<std::size_t>(data_ - begin_) / 8 * 8);  // what lies before it, AddressSanitizer sees
  }
  Guarded(Guarded&& other) noexcept : room_(other.room_), begin_(other.begin_), data_(other.data_) { other.begin_ = nullptr; }
  ~Guarded() {
    if (!begin_) return;
    unpoison(begin_, room_);
    kept()[room_].push_back(begin_);
  }
  std::uint8_t* data() const { return data_; }

 private:
  static std::size_t page() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }
  static std::map<std::size_t, std::vector<std::uint8_t*>>& kept() {
    static std::map<std::size_t, std::vector<std::uint8_t*>> all;
    return all;
  }
  static std::uint8_t* take(std::size_t room) {
    std::vector<std::uint8_t*>& free = kept()[room];
    if (!free.empty()) {
      std::uint8_t* p = free.back();
      free.pop_back();
      return p;
    }
    void* p = mmap(nullptr, room + page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, room, PROT_READ | PROT_WRITE) != 0) std::abort();
    return static_cast<std::uint8_t*>(p);
  }

  std::size_t room_;
  std::uint8_t *begin_, *data_;
};

// Exactly `count` elements.
template <typename T>
class Input {
 public:
  explicit Input(std::size_t count) : memory_(count * sizeof(T)), size_(count) {}
  T* data() { return reinterpret_cast<T*>(memory_.data()); }
  T& operator[](std::size_t i) { return data()[i]; }
  std::size_t size() const { return size_; }

 private:
  Guarded memory_;
  std::size_t size_;
};

// 64-byte aligned bytes, rounded up to whole cache lines: packed weights, tables.
class AlignedInput {
 public:
  explicit AlignedInput(std::size_t bytes) : memory_((bytes + 63) / 64 * 64) {}
  std::uint8_t* data() { return memory_.data(); }

 private:
  Guarded memory_;
};

// Bytes that a kernel writes, all set to a pattern before, with 64 more of it on both sides.
class Output {
 public:
  explicit Output(std::size_t bytes) : bytes_(bytes), memory_(bytes + 2 * kGuard, kPattern) {}
  std::uint8_t* data() { return memory_.data() + kGuard; }
  float* real() { return reinterpret_cast<float*>(data()); }
  // Whether no byte outside of [first, last) was written. A byte may have been written with the pattern;
  // over many trials that hides nothing.
  bool untouched_outside(std::size_t first, std::size_t last) const {
    const auto is_pattern = [](std::uint8_t b) { return b == kPattern; };
    return std::all_of(memory_.begin(), memory_.begin() + static_cast<std::ptrdiff_t>(kGuard + first), is_pattern) &&
           std::all_of(memory_.begin() + static_cast<std::ptrdiff_t>(kGuard + last), memory_.end(), is_pattern);
  }
  bool operator==(const Output& other) const { return memory_ == other.memory_; }

 private:
  static constexpr std::size_t kGuard = 64;
  static constexpr std::uint8_t kPattern = 0xA5;
  std::size_t bytes_;
  std::vector<std::uint8_t> memory_;
};

struct Report {
  int trials = 0, failures = 0;
  std::vector<std::string> skipped;

  // The row under test, for whoever has to report a read outside of its memory.
  static inline const char* row = "";

  // Whether the CPU can run a row; says so if not.
  bool runs(Isa isa, const char* name) {
    row = name;
    if (isa_supported(isa)) return true;
    skipped.push_back(name);
    return false;
  }
  void expect(bool condition, const char* row, const std::string& what) {
    ++trials;
    if (condition) return;
    if (++failures <= 20) std::printf("FAILED %s: %s\n", row, what.c_str());
  }
};

// A random 256-entry table and an epilogue over it.
inline Epilogue random_epilogue(Random& random, Finish finish, std::uint8_t* table) {
  for (int i = 0; i < 256; ++i) table[i] = random.byte();
  Epilogue e;
  e.finish = finish;
  e.zero = random.between(0, 255);
  if (random.between(0, 1)) {
    e.low = random.between(0, 255);
    e.high = random.between(e.low, 255);
  }
  e.table = table;
  e.residual_zero = random.between(0, 255);
  e.residual_factor = random.real(0.0f, 3.0f);
  return e;
}

// Per channel multipliers that bring sums of `terms` products to codes; one in eight saturates.
inline float random_multiplier(Random& random, int terms) {
  const float unit = 1.0f / (150.0f * static_cast<float>(terms));
  return random.real(0.2f, 2.0f) * unit * (random.between(0, 7) == 0 ? 1000.0f : 1.0f);
}

// One per family, in its test.cc.
#define SUBBYTE_FAMILY(name) void test_##name(Report& report, unsigned seed);
#include "kernels/families.inc"

}  // namespace subbyte::test
