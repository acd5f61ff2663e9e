// Accumulators to stored outputs for AVX2: shared by the convolution families.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace subbyte {
namespace {

// 8 scaled float32 each to 16 codes + zero, saturated to 0..255, in order.
inline __attribute__((always_inline)) __m128i pack16(__m256 a, __m256 b, int zero) {
  const __m256i p = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
  const __m256i s = _mm256_adds_epi16(_mm256_permute4x64_epi64(p, 0xD8), _mm256_set1_epi16(static_cast<short>(zero)));
  return _mm_packus_epi16(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
}

inline __attribute__((always_inline)) __m256 residual8(const std::uint8_t* p, const Epilogue& e) {
  const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256 centred = _mm256_cvtepi32_ps(_mm256_sub_epi32(codes, _mm256_set1_epi32(e.residual_zero)));
  return _mm256_mul_ps(centred, _mm256_set1_ps(e.residual_factor));
}

inline void copy_codes(std::uint8_t* out, __m128i codes, int channels) {
  if (channels >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), codes);
    return;
  }
  alignas(16) std::uint8_t buffer[16];
  _mm_store_si128(reinterpret_cast<__m128i*>(buffer), codes);
  for (int i = 0; i < channels; ++i) out[i] = buffer[i];
}

// 16 accumulators (a: 0..7, b: 8..15; bias not yet added) of one pixel to out[at ..], `channels` of them.
inline __attribute__((always_inline)) void finish16(__m256i a, __m256i b, const std::int32_t* bias,
                                                    const float* multiplier, const Epilogue& e, std::uint8_t* out,
                                                    const std::uint8_t* residual, std::ptrdiff_t at, int channels) {
  a = _mm256_add_epi32(a, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias)));
  b = _mm256_add_epi32(b, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bias + 8)));
  __m256 va = _mm256_mul_ps(_mm256_cvtepi32_ps(a), _mm256_loadu_ps(multiplier));
  __m256 vb = _mm256_mul_ps(_mm256_cvtepi32_ps(b), _mm256_loadu_ps(multiplier + 8));
  if (e.finish == Finish::kReal) {
    alignas(32) float buffer[16];
    _mm256_store_ps(buffer, va);
    _mm256_store_ps(buffer + 8, vb);
    for (int i = 0; i < channels; ++i) reinterpret_cast<float*>(out)[at + i] = buffer[i];
    return;
  }
  if (e.finish == Finish::kResidual) {
    va = _mm256_add_ps(va, residual8(residual + at, e));
    vb = _mm256_add_ps(vb, residual8(residual + at + 8, e));
  }
  __m128i codes = pack16(va, vb, e.zero);
  if (e.finish == Finish::kTable) {
    alignas(16) std::uint8_t buffer[16];
    _mm_store_si128(reinterpret_cast<__m128i*>(buffer), codes);
    for (int i = 0; i < channels; ++i) out[at + i] = e.table[buffer[i]];
    return;
  }
  codes = _mm_max_epu8(_mm_min_epu8(codes, _mm_set1_epi8(static_cast<char>(e.high))),
                       _mm_set1_epi8(static_cast<char>(e.low)));
  copy_codes(out + at, codes, channels);
}

}  // namespace
}  // namespace subbyte
