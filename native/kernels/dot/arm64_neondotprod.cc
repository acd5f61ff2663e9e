// ARMv8.2 dot product: one sdot multiplies a 4-byte group of activations by 4 outputs x 4 inputs of weights. 5 pixels
// x 16 outputs in 20 registers, 4 of weights, 5 of activations (4 groups each).
//
// sdot takes signed numbers: activations are moved to -128 .. 127 by flipping their top bit, and 128 times the sum of
// the weights makes up for it. A tile is tall, so that this sum and the decoding of narrow weights are paid once for
// many pixels.
#include <arm_neon.h>

#include "kernels/dot/arm64_tile.h"

namespace subbyte::dot {
namespace {

constexpr int kRows = 5;

template <int kLane, int kCount>
SUBBYTE_INLINE void step(int32x4_t (&acc)[kCount][4], const int8x16_t (&x)[kCount], const std::int8_t* w) {
  const int8x16_t weights[4] = {vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)};
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = vdotq_laneq_s32(acc[r][q], weights[q], x[r], kLane);
  }
}

SUBBYTE_INLINE int8x16_t centred(uint8x16_t x) { return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80))); }

// int8 weights of 16 outputs at w, `stride` bytes from group to group; tile rows row .. row + kCount. `extra` is
// added to every sum.
template <int kCount>
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
    int8x16_t x[kCount];
    for (; at + 16 <= end; at += 16, w += 4 * stride) {
#pragma GCC unroll 5
      for (int r = 0; r < kCount; ++r) x[r] = centred(vld1q_u8(p[r] + at));
      step<0>(acc, x, w);
      step<1>(acc, x, w + stride);
      step<2>(acc, x, w + 2 * stride);
      step<3>(acc, x, w + 3 * stride);
    }
    for (; at < end; at += 4, w += stride) {
#pragma GCC unroll 5
      for (int r = 0; r < kCount; ++r) {
        std::uint32_t group;
        __builtin_memcpy(&group, p[r] + at, 4);
        x[r] = centred(vreinterpretq_u8_u32(vdupq_n_u32(group)));
      }
      step<0>(acc, x, w);
    }
  }
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) vst1q_s32(sums[r] + 4 * q, acc[r][q]);
  }
}

void multiply_rows(const Tile& t, const Slice& s, const std::int8_t* w, std::ptrdiff_t stride, int rows,
                   const std::int32_t* extra, std::int32_t (*sums)[16]) {
  const int parts = (rows + kRows - 1) / kRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
      case 1: multiply<1>(t, s, w, stride, r, extra, sums + r); break;
      case 2: multiply<2>(t, s, w, stride, r, extra, sums + r); break;
      case 3: multiply<3>(t, s, w, stride, r, extra, sums + r); break;
      case 4: multiply<4>(t, s, w, stride, r, extra, sums + r); break;
      case 5: multiply<5>(t, s, w, stride, r, extra, sums + r); break;
    }
    r += n;
  }
}

// The same of what is kept of a run.
template <int kCount>
NOINLINE void multiply_kept(const Tile& t, const Kept& k, const std::int8_t* w, std::ptrdiff_t stride, int row,
                            const std::int32_t* extra, std::int32_t (*sums)[16]) {
  int32x4_t acc[kCount][4];
  const std::uint8_t* p[kCount];
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
    p[r] = t.in[k.run * t.in_stride + row + r];
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = vaddq_s32(vld1q_s32(sums[r] + 4 * q), vld1q_s32(extra + 4 * q));
  }
  for (int i = 0; i < k.count; ++i, w += stride) {
    int8x16_t x[kCount];
#pragma GCC unroll 5
    for (int r = 0; r < kCount; ++r) {
      std::uint32_t group;
      __builtin_memcpy(&group, p[r] + k.at[i], 4);
      x[r] = centred(vreinterpretq_u8_u32(vdupq_n_u32(group)));
    }
    step<0>(acc, x, w);
  }
#pragma GCC unroll 5
  for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) vst1q_s32(sums[r] + 4 * q, acc[r][q]);
  }
}

void multiply_kept_rows(const Tile& t, const Kept& k, const std::int8_t* w, std::ptrdiff_t stride, int rows,
                        const std::int32_t* extra, std::int32_t (*sums)[16]) {
  const int parts = (rows + kRows - 1) / kRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
      case 1: multiply_kept<1>(t, k, w, stride, r, extra, sums + r); break;
      case 2: multiply_kept<2>(t, k, w, stride, r, extra, sums + r); break;
      case 3: multiply_kept<3>(t, k, w, stride, r, extra, sums + r); break;
      case 4: multiply_kept<4>(t, k, w, stride, r, extra, sums + r); break;
      case 5: multiply_kept<5>(t, k, w, stride, r, extra, sums + r); break;
    }
    r += n;
  }
}

// extra = 128 * the sum of each output's weights.
void sum_weights(const std::int8_t* w, std::ptrdiff_t stride, int groups, std::int32_t* extra) {
  const int8x16_t unit = vdupq_n_s8(1);
  int32x4_t sum[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
  for (int g = 0; g < groups; ++g, w += stride) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) sum[q] = vdotq_s32(sum[q], vld1q_s8(w + 16 * q), unit);
  }
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) vst1q_s32(extra + 4 * q, vshlq_n_s32(sum[q], 7));
}

template <int kBits>
NOINLINE void run(const Tile& t, int vectors, int rows) {
  Sums sums;
  std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  std::int32_t extra[16];
  start_sums(t, vectors, rows, sums);
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (Slice s = first_slice<kBits>(t, stride); s.first < t.runs; advance<kBits>(t, stride, s)) {
    const int groups = s.end - s.begin, runs = s.last - s.first;
    for (int v = 0; v < vectors; ++v) {
      const std::uint8_t* packed = s.packed + 64 * v;
      const auto* w = reinterpret_cast<const std::int8_t*>(packed);
      std::ptrdiff_t step = stride;
      if constexpr (kBits < 8) {
        for (int i = 0; i < runs; ++i, packed += stride * packs<kBits>(s)) {
          decode<kBits>(decoded + groups * i, packed, stride, t.levels, groups);
        }
        w = decoded[0], step = 64;
      }
      sum_weights(w, step, groups * runs, extra);
      multiply_rows(t, s, w, step, rows, extra, sums[v]);
    }
  }
  finish_tile(t, vectors, rows, sums);
}

template <int kBits>
NOINLINE void run_sparse(const Tile& t, int vectors, int rows) {
  Sums sums;
  std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  std::int32_t extra[16];
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
      sum_weights(w, step, k.count, extra);
      multiply_kept_rows(t, k, w, step, rows, extra, sums[v]);
    }
  }
  finish_tile(t, vectors, rows, sums);
}

}  // namespace

#define SUBBYTE_ONLY_NEONDOTPROD
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { \
    return ((traits) & kSkips) != 0 ? run_sparse<format.bits>(t, outputs / 16, r) : run<format.bits>(t, outputs / 16, r); \
  }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
