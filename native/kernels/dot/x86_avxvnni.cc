// AVX-VNNI: vpdpbusd on 256-bit registers. 16 outputs are two of them; 6 pixels x 2 sums, 2 weights and the
// 4-byte broadcast of the activation fit the 16 registers.
//
// A tile is tall: its sub-tiles of 6 pixels run over the same weights, a slice of the operand at a time, while
// those are in the first-level cache; narrow weights are decoded once per slice. Sums wait in memory between
// slices.
//
// vpdpbusd is written as inline assembly: GCC's intrinsic copies accumulators around.
#include <immintrin.h>

#include "kernels/dot/dot.h"
#include "kernels/dot/slices.h"
#include "kernels/dot/x86_tile.h"
#include "kernels/sanitizer.h"

namespace subbyte::dot {
namespace {

#define NOINLINE __attribute__((noinline, noclone))

constexpr int kTileRows = 48, kRows = 6;

using Group = const std::uint32_t __attribute__((may_alias, aligned(1)));

// acc0, acc1 += x[0..3] * w0, w1
SUBBYTE_INLINE void dot4(__m256i& acc0, __m256i& acc1, const std::uint8_t* x, __m256i w0, __m256i w1) {
  __m256i a;
  announce_read(x, sizeof(Group));
  asm("vpbroadcastd %3, %2\n\t%{vex%} vpdpbusd %4, %2, %0\n\t%{vex%} vpdpbusd %5, %2, %1"
      : "+x"(acc0), "+x"(acc1), "=&x"(a)
      : "m"(*reinterpret_cast<Group*>(x)), "x"(w0), "x"(w1));
}

// int8 weights of 16 outputs at w, `stride` bytes from group to group; tile rows row .. row + kCount.
template <int kCount>
NOINLINE void multiply(const Tile& t, const Slice& s, const std::int8_t* w, std::ptrdiff_t stride, int row,
                       std::int32_t (*sums)[16]) {
  __m256i acc[kCount][2];
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) acc[r][0] = load(sums[r]), acc[r][1] = load(sums[r] + 8);
  for (int run = s.first; run < s.last; ++run) {
    const std::uint8_t* x[kCount];
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r) x[r] = t.in[run * t.in_stride + row + r];
    const std::ptrdiff_t end = 4 * static_cast<std::ptrdiff_t>(s.end);
    for (std::ptrdiff_t at = 4 * static_cast<std::ptrdiff_t>(s.begin); at < end; at += 4, w += stride) {
      const __m256i w0 = load(w), w1 = load(w + 32);
#pragma GCC unroll 6
      for (int r = 0; r < kCount; ++r) dot4(acc[r][0], acc[r][1], x[r] + at, w0, w1);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) store(sums[r], acc[r][0]), store(sums[r] + 8, acc[r][1]);
}

void multiply_rows(const Tile& t, const Slice& s, const std::int8_t* w, std::ptrdiff_t stride, int rows,
                   std::int32_t (*sums)[16]) {
  const int parts = (rows + kRows - 1) / kRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
      case 1: multiply<1>(t, s, w, stride, r, sums + r); break;
      case 2: multiply<2>(t, s, w, stride, r, sums + r); break;
      case 3: multiply<3>(t, s, w, stride, r, sums + r); break;
      case 4: multiply<4>(t, s, w, stride, r, sums + r); break;
      case 5: multiply<5>(t, s, w, stride, r, sums + r); break;
      case 6: multiply<6>(t, s, w, stride, r, sums + r); break;
    }
    r += n;
  }
}

// The same of `count` groups of one run that are kept.
template <int kCount>
NOINLINE void multiply_kept(const Tile& t, const Kept& k, const std::int8_t* w, std::ptrdiff_t stride, int row,
                            std::int32_t (*sums)[16]) {
  __m256i acc[kCount][2];
  const std::uint8_t* x[kCount];
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) {
    acc[r][0] = load(sums[r]), acc[r][1] = load(sums[r] + 8);
    x[r] = t.in[k.run * t.in_stride + row + r];
  }
  for (int i = 0; i < k.count; ++i, w += stride) {
    const std::ptrdiff_t at = k.at[i];
    const __m256i w0 = load(w), w1 = load(w + 32);
#pragma GCC unroll 6
    for (int r = 0; r < kCount; ++r) dot4(acc[r][0], acc[r][1], x[r] + at, w0, w1);
  }
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) store(sums[r], acc[r][0]), store(sums[r] + 8, acc[r][1]);
}

void multiply_kept_rows(const Tile& t, const Kept& k, const std::int8_t* w, std::ptrdiff_t stride, int rows,
                        std::int32_t (*sums)[16]) {
  const int parts = (rows + kRows - 1) / kRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
      case 1: multiply_kept<1>(t, k, w, stride, r, sums + r); break;
      case 2: multiply_kept<2>(t, k, w, stride, r, sums + r); break;
      case 3: multiply_kept<3>(t, k, w, stride, r, sums + r); break;
      case 4: multiply_kept<4>(t, k, w, stride, r, sums + r); break;
      case 5: multiply_kept<5>(t, k, w, stride, r, sums + r); break;
      case 6: multiply_kept<6>(t, k, w, stride, r, sums + r); break;
    }
    r += n;
  }
}

template <int kBits>
NOINLINE void run_sparse(const Tile& t, int vectors, int rows) {
  alignas(32) std::int32_t sums[kMaxVectors][kTileRows][16];
  alignas(32) std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (int v = 0; v < vectors; ++v) {
    const __m256i low = load(t.bias + 16 * v), high = load(t.bias + 16 * v + 8);
    for (int r = 0; r < rows; ++r) store(sums[v][r], low), store(sums[v][r] + 8, high);
    for (Kept k = first_kept(t); k.run < t.runs; advance<kBits>(t, stride, k)) {
      if (k.count == 0) continue;
      const std::uint8_t* packed = k.packed + 64 * v;
      if constexpr (kBits == 8) {
        multiply_kept_rows(t, k, reinterpret_cast<const std::int8_t*>(packed), stride, rows, sums[v]);
      } else {
        decode<kBits>(decoded, packed, stride, t.levels, k.count);
        multiply_kept_rows(t, k, decoded[0], 64, rows, sums[v]);
      }
    }
  }
  finish_tile(t, vectors, rows, sums);
}

template <int kBits>
NOINLINE void run(const Tile& t, int vectors, int rows) {
  alignas(32) std::int32_t sums[kMaxVectors][kTileRows][16];
  alignas(32) std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  for (int v = 0; v < vectors; ++v) {
    const __m256i low = load(t.bias + 16 * v), high = load(t.bias + 16 * v + 8);
    for (int r = 0; r < rows; ++r) store(sums[v][r], low), store(sums[v][r] + 8, high);
  }
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (Slice s = first_slice<kBits>(t, stride); s.first < t.runs; advance<kBits>(t, stride, s)) {
    for (int v = 0; v < vectors; ++v) {
      const std::uint8_t* packed = s.packed + 64 * v;
      if constexpr (kBits == 8) {
        multiply_rows(t, s, reinterpret_cast<const std::int8_t*>(packed), stride, rows, sums[v]);
      } else {
        const int groups = s.end - s.begin;
        for (int i = 0; i < s.last - s.first; ++i) {
          decode<kBits>(decoded + groups * i, packed + stride * packs<kBits>(s) * i, stride, t.levels, groups);
        }
        multiply_rows(t, s, decoded[0], 64, rows, sums[v]);
      }
    }
  }
  finish_tile(t, vectors, rows, sums);
}

}  // namespace

#define SUBBYTE_ONLY_AVXVNNI
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { \
    return ((traits) & kSkips) != 0 ? run_sparse<format.bits>(t, outputs / 16, r) : run<format.bits>(t, outputs / 16, r); \
  }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
