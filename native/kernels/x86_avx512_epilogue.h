// Accumulators to stored outputs for AVX-512: shared by the convolution families.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace subbyte {
namespace {  // a copy per including file: no vague linkage between instruction sets

// 256-entry byte table in four registers.
struct Table {
  __m512i part[4];
};

inline __attribute__((always_inline)) Table load_table(const std::uint8_t* table) {
  Table t;
  for (int i = 0; i < 4; ++i) t.part[i] = _mm512_loadu_si512(table + 64 * i);
  return t;
}

inline __attribute__((always_inline)) __m512i look_up(const Table& t, __m512i codes) {
  const __m512i low = _mm512_permutex2var_epi8(t.part[0], codes, t.part[1]);
  const __m512i high = _mm512_permutex2var_epi8(t.part[2], codes, t.part[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), low, high);
}

inline __attribute__((always_inline)) __mmask64 first(int n) {
  return n >= 64 ? ~static_cast<__mmask64>(0) : (static_cast<__mmask64>(1) << n) - 1;
}

// 4 vectors of scaled float32 (16 outputs each; unused ones zero) to 64 codes + zero, saturated to 0..255,
// in pack order: 128-bit lane l holds outputs 4l..4l+3 of vector 0, then of vector 1, 2, 3.
inline __attribute__((always_inline)) __m512i pack_codes(__m512 v0, __m512 v1, __m512 v2, __m512 v3, __m512i zero16) {
  const __m512i p01 = _mm512_packs_epi32(_mm512_cvtps_epi32(v0), _mm512_cvtps_epi32(v1));
  const __m512i p23 = _mm512_packs_epi32(_mm512_cvtps_epi32(v2), _mm512_cvtps_epi32(v3));
  return _mm512_packus_epi16(_mm512_adds_epi16(p01, zero16), _mm512_adds_epi16(p23, zero16));
}

// Pack order to natural order (output 16 * v + 4 * l + i).
inline __attribute__((always_inline)) __m512i natural_order(__m512i packed) {
  const __m512i index = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(index, packed);
}

inline __attribute__((always_inline)) __m512 residual16(const std::uint8_t* p, __m512i zero, __m512 factor) {
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(codes, zero)), factor);
}

// acc[r][v], outputs 16 * v .. 16 * v + 15 of pixel r in natural order, to memory. One copy per way to finish: a test
// between the rows would make the compiler spill every accumulator first.
template <Finish kFinish, int kRows, int kVectors>
inline __attribute__((always_inline)) void finish_rows_as(const __m512i (&acc)[kRows][kVectors],
                                                          const float* multiplier, const Epilogue& e,
                                                          std::uint8_t* const* out,
                                                          const std::uint8_t* const* residual, std::ptrdiff_t offset,
                                                          int channels) {
  __m512 m[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) m[v] = _mm512_loadu_ps(multiplier + 16 * v);
  const __mmask64 valid = first(channels);
  if constexpr (kFinish == Finish::kReal) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      float* row = reinterpret_cast<float*>(out[r]) + offset;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        _mm512_mask_storeu_ps(row + 16 * v, static_cast<__mmask16>(valid >> (16 * v)),
                              _mm512_mul_ps(_mm512_cvtepi32_ps(acc[r][v]), m[v]));
      }
    }
    return;
  }
  // A table look-up or clamp takes 64 outputs: narrow panels fill it with several rows.
  constexpr int kPacked = kVectors == 1 ? 4 : kVectors == 2 ? 2 : 1;
  const __m512i zero16 = _mm512_set1_epi16(static_cast<short>(e.zero));
  const __m512i low = _mm512_set1_epi8(static_cast<char>(e.low)), high = _mm512_set1_epi8(static_cast<char>(e.high));
  const __m512i rzero = _mm512_set1_epi32(e.residual_zero);
  const __m512 factor = _mm512_set1_ps(e.residual_factor);
  Table table{};
  if constexpr (kFinish == Finish::kTable) table = load_table(e.table);
#pragma GCC unroll 16
  for (int r = 0; r < kRows; r += kPacked) {
    __m512 s[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
#pragma GCC unroll 4
    for (int i = 0; i < kPacked * kVectors; ++i) {
      const int row = r + i / kVectors, v = i % kVectors;
      if (row >= kRows) continue;
      s[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[row][v]), m[v]);
      if constexpr (kFinish == Finish::kResidual) {
        s[i] = _mm512_add_ps(s[i], residual16(residual[row] + offset + 16 * v, rzero, factor));
      }
    }
    __m512i codes = natural_order(pack_codes(s[0], s[1], s[2], s[3], zero16));
    if constexpr (kFinish == Finish::kTable) {
      codes = look_up(table, codes);
    } else {
      codes = _mm512_max_epu8(_mm512_min_epu8(codes, high), low);
    }
    if constexpr (kPacked == 1) {
      _mm512_mask_storeu_epi8(out[r] + offset, valid, codes);
    } else if constexpr (kPacked == 2) {
      const auto valid32 = static_cast<__mmask32>(valid);
      _mm256_mask_storeu_epi8(out[r] + offset, valid32, _mm512_castsi512_si256(codes));
      if (r + 1 < kRows) _mm256_mask_storeu_epi8(out[r + 1] + offset, valid32, _mm512_extracti64x4_epi64(codes, 1));
    } else {
      const auto valid16 = static_cast<__mmask16>(valid);
      _mm_mask_storeu_epi8(out[r] + offset, valid16, _mm512_castsi512_si128(codes));
      if (r + 1 < kRows) _mm_mask_storeu_epi8(out[r + 1] + offset, valid16, _mm512_extracti32x4_epi32(codes, 1));
      if (r + 2 < kRows) _mm_mask_storeu_epi8(out[r + 2] + offset, valid16, _mm512_extracti32x4_epi32(codes, 2));
      if (r + 3 < kRows) _mm_mask_storeu_epi8(out[r + 3] + offset, valid16, _mm512_extracti32x4_epi32(codes, 3));
    }
  }
}

template <int kRows, int kVectors>
inline __attribute__((always_inline)) void finish_rows(const __m512i (&acc)[kRows][kVectors], const float* multiplier,
                                                       const Epilogue& e, std::uint8_t* const* out,
                                                       const std::uint8_t* const* residual, std::ptrdiff_t offset,
                                                       int channels) {
  switch (e.finish) {
    case Finish::kClamp: return finish_rows_as<Finish::kClamp>(acc, multiplier, e, out, residual, offset, channels);
    case Finish::kTable: return finish_rows_as<Finish::kTable>(acc, multiplier, e, out, residual, offset, channels);
    case Finish::kResidual:
      return finish_rows_as<Finish::kResidual>(acc, multiplier, e, out, residual, offset, channels);
    case Finish::kReal: return finish_rows_as<Finish::kReal>(acc, multiplier, e, out, residual, offset, channels);
  }
}

}  // namespace
}  // namespace subbyte
