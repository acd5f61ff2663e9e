// ARMv8.6 int8 matrix multiplication: one usmmla multiplies 2 pixels x 8 inputs (u8) by 8 inputs x 2 outputs (s8),
// twice the products of a dot product. 6 pixels x 16 outputs in 24 registers.
//
// The instruction wants 8 inputs of an output side by side, two groups of 4. A tile is tall, so that weights are
// brought into that order (and narrow ones decoded) once for many pixels, a slice at a time.
#include <arm_neon.h>

#include "kernels/dot/arm64_tile.h"

namespace subbyte::dot {
namespace {

constexpr int kPairs = 3;  // of pixels

// [pair of groups][8 pairs of outputs] x (8 inputs of one output, 8 of the next); the last group of a run with an
// odd number of them is paired with zeros.
using Matrices = std::int8_t[kSlice][8][16];

void interleave(std::int8_t (*out)[8][16], const std::int8_t* w, std::ptrdiff_t stride, int groups) {
  for (int g = 0; g < groups; g += 2, w += 2 * stride, ++out) {
    for (int q = 0; q < 4; ++q) {
      const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(w + 16 * q));
      const int32x4_t b =
          g + 1 < groups ? vreinterpretq_s32_s8(vld1q_s8(w + stride + 16 * q)) : vdupq_n_s32(0);
      vst1q_s8((*out)[2 * q], vreinterpretq_s8_s32(vzip1q_s32(a, b)));
      vst1q_s8((*out)[2 * q + 1], vreinterpretq_s8_s32(vzip2q_s32(a, b)));
    }
  }
}

// Sums of 2 pixels x 2 outputs, for 16 outputs, from and to rows of memory.
SUBBYTE_INLINE void load_sums(const std::int32_t* a, const std::int32_t* b, int32x4_t (&acc)[8]) {
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const int64x2_t first = vreinterpretq_s64_s32(vld1q_s32(a + 4 * q));
    const int64x2_t second = vreinterpretq_s64_s32(vld1q_s32(b + 4 * q));
    acc[2 * q] = vreinterpretq_s32_s64(vzip1q_s64(first, second));
    acc[2 * q + 1] = vreinterpretq_s32_s64(vzip2q_s64(first, second));
  }
}

SUBBYTE_INLINE void store_sums(const int32x4_t (&acc)[8], std::int32_t* a, std::int32_t* b) {
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const int64x2_t low = vreinterpretq_s64_s32(acc[2 * q]), high = vreinterpretq_s64_s32(acc[2 * q + 1]);
    vst1q_s32(b + 4 * q, vreinterpretq_s32_s64(vzip2q_s64(low, high)));
    vst1q_s32(a + 4 * q, vreinterpretq_s32_s64(vzip1q_s64(low, high)));
  }
}

template <int kCount>
SUBBYTE_INLINE void step(int32x4_t (&acc)[kCount][8], const uint8x16_t (&x)[kCount], const std::int8_t (&w)[8][16]) {
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    const int8x16_t weights = vld1q_s8(w[j]);
#pragma GCC unroll 3
    for (int p = 0; p < kCount; ++p) acc[p][j] = vusmmlaq_s32(acc[p][j], x[p], weights);
  }
}

// One group and zeros.
SUBBYTE_INLINE uint8x8_t load_group(const std::uint8_t* p) {
  std::uint32_t group;
  __builtin_memcpy(&group, p, 4);
  return vcreate_u8(group);
}

// kCount pairs of tile rows from `row` on; where `rows` is odd, the last pair is one row twice.
template <int kCount>
NOINLINE void multiply(const Tile& t, const Slice& s, const std::int8_t (*w)[8][16], int row, int rows,
                       std::int32_t (*sums)[16]) {
  int32x4_t acc[kCount][8];
#pragma GCC unroll 3
  for (int p = 0; p < kCount; ++p) {
    const int second = 2 * p + 1 < rows ? 2 * p + 1 : 2 * p;
    load_sums(sums[2 * p], sums[second], acc[p]);
  }
  for (int run = s.first; run < s.last; ++run) {
    const std::uint8_t *a[kCount], *b[kCount];
#pragma GCC unroll 3
    for (int p = 0; p < kCount; ++p) {
      const std::uint8_t* const* in = t.in + run * t.in_stride + row + 2 * p;
      a[p] = in[0], b[p] = in[2 * p + 1 < rows ? 1 : 0];
    }
    const std::ptrdiff_t end = 4 * static_cast<std::ptrdiff_t>(s.end);
    std::ptrdiff_t at = 4 * static_cast<std::ptrdiff_t>(s.begin);
    uint8x16_t x[kCount];
    for (; at + 8 <= end; at += 8, ++w) {
#pragma GCC unroll 3
      for (int p = 0; p < kCount; ++p) x[p] = vcombine_u8(vld1_u8(a[p] + at), vld1_u8(b[p] + at));
      step(acc, x, *w);
    }
    if (at < end) {
#pragma GCC unroll 3
      for (int p = 0; p < kCount; ++p) x[p] = vcombine_u8(load_group(a[p] + at), load_group(b[p] + at));
      step(acc, x, *w++);
    }
  }
#pragma GCC unroll 3
  for (int p = 0; p < kCount; ++p) {
    const int second = 2 * p + 1 < rows ? 2 * p + 1 : 2 * p;
    store_sums(acc[p], sums[2 * p], sums[second]);
  }
}

void multiply_rows(const Tile& t, const Slice& s, const std::int8_t (*w)[8][16], int rows, std::int32_t (*sums)[16]) {
  for (int r = 0; r < rows; r += 2 * kPairs) {
    const int n = rows - r < 2 * kPairs ? rows - r : 2 * kPairs;
    if (n > 4) {
      multiply<3>(t, s, w, r, n, sums + r);
    } else if (n > 2) {
      multiply<2>(t, s, w, r, n, sums + r);
    } else {
      multiply<1>(t, s, w, r, n, sums + r);
    }
  }
}

// Two groups of one row.
SUBBYTE_INLINE uint8x8_t load_two(const std::uint8_t* p, std::ptrdiff_t first, std::ptrdiff_t second) {
  std::uint32_t a, b;
  __builtin_memcpy(&a, p + first, 4);
  __builtin_memcpy(&b, p + second, 4);
  return vcreate_u8(a | static_cast<std::uint64_t>(b) << 32);
}

// multiply() of what is kept of a run; the last of an odd number of groups is paired with itself, and weights of zero.
template <int kCount>
NOINLINE void multiply_kept(const Tile& t, const Kept& k, const std::int8_t (*w)[8][16], int row, int rows,
                            std::int32_t (*sums)[16]) {
  int32x4_t acc[kCount][8];
  const std::uint8_t *a[kCount], *b[kCount];
#pragma GCC unroll 3
  for (int p = 0; p < kCount; ++p) {
    const int second = 2 * p + 1 < rows ? 2 * p + 1 : 2 * p;
    load_sums(sums[2 * p], sums[second], acc[p]);
    a[p] = t.in[k.run * t.in_stride + row + 2 * p], b[p] = t.in[k.run * t.in_stride + row + second];
  }
  for (int i = 0; i < k.count; i += 2, ++w) {
    const std::ptrdiff_t first = k.at[i], second = i + 1 < k.count ? k.at[i + 1] : first;
    uint8x16_t x[kCount];
#pragma GCC unroll 3
    for (int p = 0; p < kCount; ++p) x[p] = vcombine_u8(load_two(a[p], first, second), load_two(b[p], first, second));
    step(acc, x, *w);
  }
#pragma GCC unroll 3
  for (int p = 0; p < kCount; ++p) {
    const int second = 2 * p + 1 < rows ? 2 * p + 1 : 2 * p;
    store_sums(acc[p], sums[2 * p], sums[second]);
  }
}

void multiply_kept_rows(const Tile& t, const Kept& k, const std::int8_t (*w)[8][16], int rows,
                        std::int32_t (*sums)[16]) {
  for (int r = 0; r < rows; r += 2 * kPairs) {
    const int n = rows - r < 2 * kPairs ? rows - r : 2 * kPairs;
    if (n > 4) {
      multiply_kept<3>(t, k, w, r, n, sums + r);
    } else if (n > 2) {
      multiply_kept<2>(t, k, w, r, n, sums + r);
    } else {
      multiply_kept<1>(t, k, w, r, n, sums + r);
    }
  }
}

template <int kBits>
NOINLINE void run_sparse(const Tile& t, int vectors, int rows) {
  Sums sums;
  Matrices matrices;
  std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  start_sums(t, vectors, rows, sums);
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (Kept k = first_kept(t); k.run < t.runs; advance<kBits>(t, stride, k)) {
    if (k.count == 0) continue;
    for (int v = 0; v < vectors; ++v) {
      const std::uint8_t* packed = k.packed + 64 * v;
      const auto* w = reinterpret_cast<const std::int8_t*>(packed);
      std::ptrdiff_t step = stride;
      if constexpr (kBits < 8) {
        decode<kBits>(decoded, packed, stride, t.levels, k.count);
        w = decoded[0], step = 64;
      }
      interleave(matrices, w, step, k.count);
      multiply_kept_rows(t, k, matrices, rows, sums[v]);
    }
  }
  finish_tile(t, vectors, rows, sums);
}

template <int kBits>
NOINLINE void run(const Tile& t, int vectors, int rows) {
  Sums sums;
  Matrices matrices;
  std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  start_sums(t, vectors, rows, sums);
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (Slice s = first_slice<kBits>(t, stride); s.first < t.runs; advance<kBits>(t, stride, s)) {
    const int groups = s.end - s.begin, runs = s.last - s.first;
    for (int v = 0; v < vectors; ++v) {
      const std::uint8_t* packed = s.packed + 64 * v;
      for (int i = 0; i < runs; ++i, packed += stride * packs<kBits>(s)) {
        const auto* w = reinterpret_cast<const std::int8_t*>(packed);
        std::ptrdiff_t step = stride;
        if constexpr (kBits < 8) {
          decode<kBits>(decoded, packed, stride, t.levels, groups);
          w = decoded[0], step = 64;
        }
        interleave(matrices + (groups + 1) / 2 * i, w, step, groups);
      }
      multiply_rows(t, s, matrices, rows, sums[v]);
    }
  }
  finish_tile(t, vectors, rows, sums);
}

}  // namespace

#define SUBBYTE_ONLY_NEONI8MM
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { \
    return ((traits) & kSkips) != 0 ? run_sparse<format.bits>(t, outputs / 16, r) : run<format.bits>(t, outputs / 16, r); \
  }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
