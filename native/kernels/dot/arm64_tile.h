// Dot kernels for 64-bit ARM: a product of one 4-byte group of an activation with 4 outputs x 4 inputs of weights is
// one instruction. 5 pixels x 16 outputs in 20 registers, 4 of weights, 5 of activations (4 groups each).
//
// The including file gives Product: what the instruction set multiplies.
//   kOffset          subtracted from every activation by `operand`
//   operand(x)       16 activations as the instruction takes them
//   dot<lane>(...)   acc + the group in `lane` of x times w
//
// A tile is tall: narrow weights are decoded, and the sums of weights that make up for kOffset are formed, once per
// slice and tile.
#pragma once

#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/dot/dot.h"
#include "kernels/dot/slices.h"

namespace subbyte::dot {
namespace {

#define NOINLINE __attribute__((noinline, noclone))

constexpr int kTileRows = 48, kRows = 5;

using Sums = std::int32_t[kMaxVectors][kTileRows][16];

template <typename Product, int kLane, int kCount>
SUBBYTE_INLINE void step(int32x4_t (&acc)[kCount][4], const typename Product::Operand (&x)[kCount],
                         const std::int8_t* w) {
  const int8x16_t weights[4] = {vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = Product::template dot<kLane>(acc[r][q], weights[q], x[r]);
  }
}

// int8 weights of 16 outputs at w, `stride` bytes from group to group; tile rows row .. row + kCount. `extra` is
// added to every sum.
template <typename Product, int kCount>
NOINLINE void multiply(const Tile& t, const Slice& s, const std::int8_t* w, std::ptrdiff_t stride, int row,
                       const std::int32_t* extra, std::int32_t (*sums)[16]) {
  int32x4_t acc[kCount][4];
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = vaddq_s32(vld1q_s32(sums[r] + 4 * q), vld1q_s32(extra + 4 * q));
  }
  for (int run = s.first; run < s.last; ++run) {
    const std::uint8_t* p[kCount];
#pragma GCC unroll 5
    for (int r = 0; r < kCount; ++r) p[r] = t.in[run * t.in_stride + row + r];
    const std::ptrdiff_t end = 4 * static_cast<std::ptrdiff_t>(s.end);
    std::ptrdiff_t at = 4 * static_cast<std::ptrdiff_t>(s.begin);
    typename Product::Operand x[kCount];
    for (; at + 16 <= end; at += 16, w += 4 * stride) {
#pragma GCC unroll 5
      for (int r = 0; r < kCount; ++r) x[r] = Product::operand(vld1q_u8(p[r] + at));
      step<Product, 0>(acc, x, w);
      step<Product, 1>(acc, x, w + stride);
      step<Product, 2>(acc, x, w + 2 * stride);
      step<Product, 3>(acc, x, w + 3 * stride);
    }
    for (; at < end; at += 4, w += stride) {
#pragma GCC unroll 5
      for (int r = 0; r < kCount; ++r) {
        std::uint32_t group;
        __builtin_memcpy(&group, p[r] + at, 4);
        x[r] = Product::operand(vreinterpretq_u8_u32(vdupq_n_u32(group)));
      }
      step<Product, 0>(acc, x, w);
    }
  }
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) vst1q_s32(sums[r] + 4 * q, acc[r][q]);
  }
}

template <typename Product>
void multiply_rows(const Tile& t, const Slice& s, const std::int8_t* w, std::ptrdiff_t stride, int rows,
                   const std::int32_t* extra, std::int32_t (*sums)[16]) {
  const int parts = (rows + kRows - 1) / kRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
      case 1: multiply<Product, 1>(t, s, w, stride, r, extra, sums + r); break;
      case 2: multiply<Product, 2>(t, s, w, stride, r, extra, sums + r); break;
      case 3: multiply<Product, 3>(t, s, w, stride, r, extra, sums + r); break;
      case 4: multiply<Product, 4>(t, s, w, stride, r, extra, sums + r); break;
      case 5: multiply<Product, 5>(t, s, w, stride, r, extra, sums + r); break;
    }
    r += n;
  }
}

// Packed weights of `groups` groups of 16 outputs, `stride` bytes between packs; a partly used pack is decoded whole.
template <int kBits>
void decode(std::int8_t (*out)[64], const std::uint8_t* packed, std::ptrdiff_t stride, const std::int8_t* book,
            int groups) {
  const int8x16_t levels = vld1q_s8(book);
  const uint8x16_t mask = vdupq_n_u8((1 << kBits) - 1);
  for (int g = 0; g < groups; g += groups_per_pack(kBits), packed += stride) {
    for (int q = 0; q < 4; ++q) {
      uint8x16_t codes = vld1q_u8(packed + 16 * q);
      for (int j = 0; j < groups_per_pack(kBits); ++j) {
        vst1q_s8(out[g + j] + 16 * q, vqtbl1q_s8(levels, vandq_u8(codes, mask)));
        codes = vshrq_n_u8(codes, kBits);
      }
    }
  }
}

// extra = kOffset * the sum of each output's weights.
template <typename Product>
void sum_weights(const std::int8_t* w, std::ptrdiff_t stride, int groups, std::int32_t* extra) {
  const int8x16_t unit = vdupq_n_s8(1);
  int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  if constexpr (Product::kOffset != 0) {
    for (int g = 0; g < groups; ++g, w += stride) {
#pragma GCC unroll 4
      for (int q = 0; q < 4; ++q) sum[q] = vdotq_s32(sum[q], vld1q_s8(w + 16 * q), unit);
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) vst1q_s32(extra + 4 * q, vmulq_n_s32(sum[q], Product::kOffset));
}

template <Finish kFinish>
NOINLINE void finish_as(const Tile& t, int vectors, int rows, const Sums& sums) {
  const Epilogue& e = *t.epilogue;
  Table table{};
  if constexpr (kFinish == Finish::kTable) table = load_table(e.table);
  for (int v = 0; v < vectors && 16 * v < t.channels; ++v) {
    const int left = t.channels - 16 * v, channels = left < 16 ? left : 16;
    for (int r = 0; r < rows; ++r) {
      const std::int32_t* p = sums[v][r];
      const int32x4_t sum[4] = {vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)};
      const std::uint8_t* residual = kFinish == Finish::kResidual ? t.residual[r] : nullptr;
      finish16<kFinish>(e, table, sum, t.multiplier + 16 * v, t.out[r], residual, t.offset + 16 * v, channels);
    }
  }
}

template <typename Product, int kBits>
NOINLINE void run(const Tile& t, int vectors, int rows) {
  Sums sums;
  std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  std::int32_t extra[16];
  for (int v = 0; v < vectors; ++v) {
    for (int r = 0; r < rows; ++r) __builtin_memcpy(sums[v][r], t.bias + 16 * v, sizeof(sums[v][r]));
  }
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (Slice s = first_slice<kBits>(t, stride); s.first < t.runs; advance<kBits>(t, stride, s)) {
    const int groups = s.end - s.begin, runs = s.last - s.first;
    for (int v = 0; v < vectors; ++v) {
      const auto* w = reinterpret_cast<const std::int8_t*>(s.packed + 64 * v);
      std::ptrdiff_t step = stride;
      if constexpr (kBits < 8) {
        for (int i = 0; i < runs; ++i) {
          decode<kBits>(decoded + groups * i, s.packed + 64 * v + stride * packs<kBits>(s) * i, stride, t.levels,
                        groups);
        }
        w = decoded[0], step = 64;
      }
      sum_weights<Product>(w, step, groups * runs, extra);
      multiply_rows<Product>(t, s, w, step, rows, extra, sums[v]);
    }
  }
  switch (t.epilogue->finish) {
    case Finish::kClamp: return finish_as<Finish::kClamp>(t, vectors, rows, sums);
    case Finish::kTable: return finish_as<Finish::kTable>(t, vectors, rows, sums);
    case Finish::kResidual: return finish_as<Finish::kResidual>(t, vectors, rows, sums);
    case Finish::kReal: return finish_as<Finish::kReal>(t, vectors, rows, sums);
  }
}

}  // namespace
}  // namespace subbyte::dot
