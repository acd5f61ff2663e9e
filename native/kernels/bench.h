// What the kernel benchmarks share: operands and a stopwatch. One bench.cc per family runs every row of its table on
// shapes of EfficientNetV2.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "kernels/epilogue.h"
#include "subbyte/engine.h"

namespace subbyte::bench {

// Bytes at a cache line, with room to read past the end; seeded by their position.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes + kRoom) {
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::uint8_t>(i * 37 + i / 251);
  }
  std::uint8_t* data() { return bytes_.data() + (64 - reinterpret_cast<std::uintptr_t>(bytes_.data()) % 64) % 64; }

 private:
  static constexpr std::size_t kRoom = 4096;
  std::vector<std::uint8_t> bytes_;
};

// float32 numbers near 1.
class Reals {
 public:
  explicit Reals(std::size_t count) : numbers_(count + 256) {
    for (std::size_t i = 0; i < numbers_.size(); ++i) numbers_[i] = 0.5f + static_cast<float>(i % 13) / 13.0f;
  }
  float* data() { return numbers_.data(); }

 private:
  std::vector<float> numbers_;
};

class Report {
 public:
  Report(const char* filter, double seconds) : filter_(filter), seconds_(seconds) {}

  // Calls run(row) for the rows of a table that are asked for; names those that this CPU cannot run.
  template <typename Kernel, typename F>
  void rows(const Kernel* table, int count, const F& run) const {
    for (const Kernel* k = table; k != table + count; ++k) {
      if (std::strstr(k->name, filter_) == nullptr) continue;
      if (isa_supported(k->isa)) {
        run(*k);
      } else {
        std::printf("%-34s this CPU cannot run it\n", k->name);
      }
    }
  }

  // Prints how many of `unit` a second `work` does, which does `amount` of them.
  template <typename F>
  void measure(Isa isa, const char* name, const char* shape, double amount, const char* unit, const F& work) {
    const double rate = amount / fastest(work);
    std::printf("%-34s %-34s %9.2f G %s/s", name, shape, rate / 1e9, unit);
    if (std::strcmp(unit, "MAC") == 0) std::printf("  %5.1f %% of peak", 100 * rate / peak(isa, false));
    if (std::strcmp(unit, "float MAC") == 0) std::printf("  %5.1f %% of peak", 100 * rate / peak(isa, true));
    std::printf("\n");
  }

 private:
  using Clock = std::chrono::steady_clock;

  // Seconds of one call, the least of batches of about a millisecond or `seconds_`, whichever is shorter.
  template <typename F>
  double fastest(const F& work) const {
    const double batch = std::min(1e-3, seconds_);
    double best = 1e9;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds_);
    for (int calls = 1; best == 1e9 || Clock::now() < end;) {
      const auto start = Clock::now();
      for (int i = 0; i < calls; ++i) work();
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      best = std::min(best, std::max(seconds, 1e-9) / calls);
      if (seconds < batch && calls < 1 << 20) calls *= 2;
    }
    return best;
  }

  double peak(Isa isa, bool real) {
    double& known = peaks_[{isa, real}];
    if (known == 0) known = (real ? peak_real_macs : peak_dot_macs)(isa, std::max(seconds_, 0.001));
    return known;
  }

  const char* filter_;
  double seconds_;
  std::map<std::pair<Isa, bool>, double> peaks_;
};

// One per family, in its bench.cc.
#define SUBBYTE_FAMILY(name) void bench_##name(Report& report);
#include "kernels/families.inc"

}  // namespace subbyte::bench
