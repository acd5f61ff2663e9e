// Accumulators to stored outputs for 64-bit ARM: shared by the convolution families. One pixel of 16 channels at a
// time.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace subbyte {
namespace {  // a copy per including file: no vague linkage between instruction sets

#define SUBBYTE_INLINE inline __attribute__((always_inline))

// 256-entry byte table in 16 registers.
struct Table {
  uint8x16x4_t part[4];
};

SUBBYTE_INLINE Table load_table(const std::uint8_t* table) {
  return {{vld1q_u8_x4(table), vld1q_u8_x4(table + 64), vld1q_u8_x4(table + 128), vld1q_u8_x4(table + 192)}};
}

// A look-up past the end of a part gives 0 (tbl) or keeps what there is (tbx).
SUBBYTE_INLINE uint8x16_t look_up(const Table& t, uint8x16_t codes) {
  const uint8x16_t step = vdupq_n_u8(64);
  uint8x16_t y = vqtbl4q_u8(t.part[0], codes);
#pragma GCC unroll 3
  for (int i = 1; i < 4; ++i) {
    codes = vsubq_u8(codes, step);
    y = vqtbx4q_u8(y, t.part[i], codes);
  }
  return y;
}

// The first `channels` (1 .. 16) bytes of `codes`.
SUBBYTE_INLINE void store_codes(std::uint8_t* out, uint8x16_t codes, int channels) {
  if (channels >= 16) {
    vst1q_u8(out, codes);
    return;
  }
  if (channels & 8) {
    vst1_u8(out, vget_low_u8(codes));
    codes = vextq_u8(codes, codes, 8);
    out += 8;
  }
  std::uint64_t rest = vgetq_lane_u64(vreinterpretq_u64_u8(codes), 0);
  for (int i = 0; i < (channels & 7); ++i, rest >>= 8) out[i] = static_cast<std::uint8_t>(rest);
}

// Scaled float32 of 16 channels to codes + zero, saturated to 0..255. vcvtn rounds to nearest, ties to even.
SUBBYTE_INLINE uint8x16_t pack_codes(const float32x4_t (&v)[4], int16x8_t zero) {
  const int16x8_t low = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[0])), vcvtnq_s32_f32(v[1]));
  const int16x8_t high = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v[2])), vcvtnq_s32_f32(v[3]));
  return vqmovun_high_s16(vqmovun_s16(vqaddq_s16(low, zero)), vqaddq_s16(high, zero));
}

// v += (residual - its zero) * factor, two roundings.
SUBBYTE_INLINE void add_residual(float32x4_t (&v)[4], const std::uint8_t* p, const Epilogue& e) {
  const uint8x16_t codes = vld1q_u8(p);
  const uint16x8_t half[2] = {vmovl_u8(vget_low_u8(codes)), vmovl_high_u8(codes)};
  const int32x4_t zero = vdupq_n_s32(e.residual_zero);
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) {
    const uint32x4_t wide = q % 2 == 0 ? vmovl_u16(vget_low_u16(half[q / 2])) : vmovl_high_u16(half[q / 2]);
    const float32x4_t centred = vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(wide), zero));
    v[q] = vaddq_f32(v[q], vmulq_n_f32(centred, e.residual_factor));
  }
}

SUBBYTE_INLINE void store_real(float* out, const float32x4_t (&v)[4], int channels) {
  float buffer[16];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) vst1q_f32(buffer + 4 * q, v[q]);
  if (channels >= 16) {
    __builtin_memcpy(out, buffer, sizeof(buffer));
  } else {
    for (int c = 0; c < channels; ++c) out[c] = buffer[c];
  }
}

// 16 sums (bias included) of one pixel to out + at; the residual at residual + at for Finish::kResidual.
template <Finish kFinish>
SUBBYTE_INLINE void finish16(const Epilogue& e, const Table& table, const int32x4_t (&sums)[4],
                             const float* multiplier, std::uint8_t* out, const std::uint8_t* residual,
                             std::ptrdiff_t at, int channels) {
  float32x4_t v[4];
#pragma GCC unroll 4
  for (int q = 0; q < 4; ++q) v[q] = vmulq_f32(vcvtq_f32_s32(sums[q]), vld1q_f32(multiplier + 4 * q));
  if constexpr (kFinish == Finish::kReal) {
    store_real(reinterpret_cast<float*>(out) + at, v, channels);
  } else {
    if constexpr (kFinish == Finish::kResidual) add_residual(v, residual + at, e);
    uint8x16_t codes = pack_codes(v, vdupq_n_s16(static_cast<std::int16_t>(e.zero)));
    if constexpr (kFinish == Finish::kTable) {
      codes = look_up(table, codes);
    } else {
      const uint8x16_t low = vdupq_n_u8(static_cast<std::uint8_t>(e.low));
      codes = vmaxq_u8(vminq_u8(codes, vdupq_n_u8(static_cast<std::uint8_t>(e.high))), low);
    }
    store_codes(out + at, codes, channels);
  }
}

}  // namespace
}  // namespace subbyte
