// Accumulators to stored outputs in 256-bit registers: shared by the convolution families of the AVX2 and
// AVX-VNNI kernels. Two output pixels of 16 channels are finished together.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace subbyte {
namespace {  // a copy per including file: no vague linkage between instruction sets

#define SUBBYTE_INLINE inline __attribute__((always_inline))

// 256-entry byte table as 16 vpshufb rows. A row is xor-ed with the one before it, in each half of the
// table: index x selects rows 0 .. x / 16 of its half, whose xor is the entry. vpshufb gives 0 for an index
// with its top bit set, so rows that must not count are switched off by saturating subtraction.
struct Table {
  alignas(32) std::uint8_t rows[256];
};

SUBBYTE_INLINE void load_table(Table& t, const std::uint8_t* table) {
#pragma GCC unroll 8
  for (int i = 0; i < 256; i += 32) {
    const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + i));
    const __m256i before =
        i % 128 == 0 ? _mm256_inserti128_si256(_mm256_setzero_si256(), _mm256_castsi256_si128(entries), 1)
                     : _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table + i - 16));
    _mm256_store_si256(reinterpret_cast<__m256i*>(t.rows + i), _mm256_xor_si256(entries, before));
  }
}

SUBBYTE_INLINE __m256i look_up(const Table& t, __m256i codes) {
  const __m256i step = _mm256_set1_epi8(16);
  __m256i low = codes, high = _mm256_xor_si256(codes, _mm256_set1_epi8(static_cast<char>(0x80)));
  __m256i y0 = _mm256_setzero_si256(), y1 = y0;
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const auto* row = reinterpret_cast<const __m128i*>(t.rows + 16 * i);
    y0 = _mm256_xor_si256(y0, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(row)), low));
    y1 = _mm256_xor_si256(y1, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_load_si128(row + 8)), high));
    low = _mm256_subs_epi8(low, step);
    high = _mm256_subs_epi8(high, step);
    asm("" : "+x"(y0), "+x"(y1));  // keeps GCC from collecting the terms of the sums in memory first
  }
  return _mm256_xor_si256(y0, y1);
}

// Everything of an Epilogue that does not change between pixels.
struct Finisher {
  __m256i zero, low, high, residual_zero;
  __m256 residual_factor;
  Table table;
};

SUBBYTE_INLINE void load_finisher(Finisher& f, const Epilogue& e) {
  f.zero = _mm256_set1_epi16(static_cast<short>(e.zero));
  f.low = _mm256_set1_epi8(static_cast<char>(e.low));
  f.high = _mm256_set1_epi8(static_cast<char>(e.high));
  f.residual_zero = _mm256_set1_epi32(e.residual_zero);
  f.residual_factor = _mm256_set1_ps(e.residual_factor);
  if (e.finish == Finish::kTable) load_table(f.table, e.table);
}

// Scaled float32 of two pixels (a: channels 0..7, b: 8..15) to codes + zero, saturated to 0..255, in order:
// pixel 0 in the low half, pixel 1 in the high one.
SUBBYTE_INLINE __m256i pack_codes(__m256 a0, __m256 b0, __m256 a1, __m256 b1, __m256i zero) {
  const __m256i p0 = _mm256_packs_epi32(_mm256_cvtps_epi32(a0), _mm256_cvtps_epi32(b0));
  const __m256i p1 = _mm256_packs_epi32(_mm256_cvtps_epi32(a1), _mm256_cvtps_epi32(b1));
  const __m256i codes = _mm256_packus_epi16(_mm256_adds_epi16(p0, zero), _mm256_adds_epi16(p1, zero));
  return _mm256_permutevar8x32_epi32(codes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

SUBBYTE_INLINE __m256 residual8(const std::uint8_t* p, const Finisher& f) {
  const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(codes, f.residual_zero)), f.residual_factor);
}

// The first `channels` (1 .. 16) bytes of `codes`.
SUBBYTE_INLINE void store_codes(std::uint8_t* out, __m128i codes, int channels) {
  if (channels >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), codes);
    return;
  }
  if (channels & 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), codes);
    codes = _mm_srli_si128(codes, 8);
    out += 8;
  }
  if (channels & 4) {
    const int word = _mm_cvtsi128_si32(codes);
    __builtin_memcpy(out, &word, 4);
    codes = _mm_srli_si128(codes, 4);
    out += 4;
  }
  int rest = _mm_cvtsi128_si32(codes);
  for (int i = 0; i < (channels & 3); ++i, rest >>= 8) out[i] = static_cast<std::uint8_t>(rest);
}

SUBBYTE_INLINE void store_real(std::uint8_t* out, std::ptrdiff_t at, __m256 a, __m256 b, int channels) {
  float* to = reinterpret_cast<float*>(out) + at;
  if (channels >= 16) {
    _mm256_storeu_ps(to, a);
    _mm256_storeu_ps(to + 8, b);
    return;
  }
  alignas(32) float buffer[16];
  _mm256_store_ps(buffer, a);
  _mm256_store_ps(buffer + 8, b);
  for (int i = 0; i < channels; ++i) to[i] = buffer[i];
}

// Two pixels of up to 16 channels, bias included in the sums: sums[p][0] and [1] are channels 0..7 and 8..15,
// out[p] + at the outputs, residual[p] + at (Finish::kResidual) what is added. Where `pixels` is 1, pixel 1 is
// computed from garbage and not stored; residual[1] must be readable all the same.
template <Finish kFinish>
SUBBYTE_INLINE void finish_two(const Finisher& f, const __m256i (&sums)[2][2], __m256 m0, __m256 m1,
                               std::uint8_t* const* out, const std::uint8_t* const* residual, std::ptrdiff_t at,
                               int pixels, int channels) {
  __m256 v[2][2];
#pragma GCC unroll 2
  for (int p = 0; p < 2; ++p) {
    v[p][0] = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[p][0]), m0);
    v[p][1] = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[p][1]), m1);
  }
  if constexpr (kFinish == Finish::kReal) {
    for (int p = 0; p < pixels; ++p) store_real(out[p], at, v[p][0], v[p][1], channels);
    return;
  }
  if constexpr (kFinish == Finish::kResidual) {
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      v[p][0] = _mm256_add_ps(v[p][0], residual8(residual[p] + at, f));
      v[p][1] = _mm256_add_ps(v[p][1], residual8(residual[p] + at + 8, f));
    }
  }
  __m256i codes = pack_codes(v[0][0], v[0][1], v[1][0], v[1][1], f.zero);
  codes = kFinish == Finish::kTable ? look_up(f.table, codes)
                                    : _mm256_max_epu8(_mm256_min_epu8(codes, f.high), f.low);
  store_codes(out[0] + at, _mm256_castsi256_si128(codes), channels);
  if (pixels == 2) store_codes(out[1] + at, _mm256_extracti128_si256(codes, 1), channels);
}

}  // namespace
}  // namespace subbyte
