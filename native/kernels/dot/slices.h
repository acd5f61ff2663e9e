// Cutting the operand of a tall tile into slices whose weights stay in the first-level cache while sub-tiles of a
// few rows run over them.
#pragma once

#include "kernels/dot/dot.h"

namespace subbyte::dot {
namespace {

constexpr int kSlice = 128;  // groups of 4 inputs

// Groups begin .. end of runs first .. last, and where their packed weights begin.
struct Slice {
  int first, last, begin, end;
  const std::uint8_t* packed;
};

// Packs of one run of a slice.
template <int kBits>
inline int packs(const Slice& s) {
  return (s.end - s.begin + groups_per_pack(kBits) - 1) / groups_per_pack(kBits);
}

// The slice after `s`, `stride` bytes between packs: several whole runs where they are short, a part of one where
// they are long.
template <int kBits>
inline void advance(const Tile& t, std::ptrdiff_t stride, Slice& s) {
  s.packed += stride * packs<kBits>(s) * (s.last - s.first);
  if (s.end == t.groups) {
    const int runs = kSlice / t.groups > 1 ? kSlice / t.groups : 1;
    s.first = s.last;
    s.last = t.runs - s.first < runs ? t.runs : s.first + runs;
    s.begin = 0;
  } else {
    s.begin = s.end;
  }
  s.end = t.groups - s.begin <= kSlice ? t.groups : s.begin + kSlice;
}

template <int kBits>
inline Slice first_slice(const Tile& t, std::ptrdiff_t stride) {
  Slice s{0, 0, t.groups, t.groups, t.weights};
  advance<kBits>(t, stride, s);
  return s;
}

// Groups of one run that are kept, kSlice of them at most, and where their packed weights begin.
struct Kept {
  int run, count;
  const std::int32_t* at;  // dot.h
  const std::uint8_t* packed;
};

inline int count_kept(const std::int32_t* at) {
  int count = 0;
  while (count < kSlice && at[count] >= 0) ++count;
  return count;
}

inline Kept first_kept(const Tile& t) { return {0, count_kept(t.kept), t.kept, t.weights}; }

// What is kept after `k`, of the same run or the next.
template <int kBits>
inline void advance(const Tile& t, std::ptrdiff_t stride, Kept& k) {
  k.packed += stride * ((k.count + groups_per_pack(kBits) - 1) / groups_per_pack(kBits));
  k.at += k.count;
  if (*k.at < 0) ++k.run, ++k.at;
  k.count = k.run < t.runs ? count_kept(k.at) : 0;
}

}  // namespace
}  // namespace subbyte::dot
