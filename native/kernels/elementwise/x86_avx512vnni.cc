// Elementwise kernels for AVX-512.
#include <immintrin.h>

#include "kernels/elementwise/elementwise.h"
#include "kernels/portable_epilogue.h"
#include "kernels/x86_avx512_epilogue.h"

#define NAME(x) elementwise_avx512vnni_##x
#define SUBBYTE_OWN_QUANTIZE
#define SUBBYTE_OWN_LOOK_UP
#define SUBBYTE_OWN_ADD
#define SUBBYTE_OWN_GATE
#define SUBBYTE_OWN_SUM
namespace subbyte::elementwise {
#include "kernels/elementwise/loops.inc"

namespace {

inline __m128i codes_of(__m512 v, __m512 scale, __m512 low, __m512 high, __m512i zero) {
  v = _mm512_min_ps(_mm512_max_ps(_mm512_mul_ps(v, scale), low), high);
  return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(v), zero));
}

}  // namespace

// Three channels (images): 12 floats become 4 pixels of 4 bytes by a permutation that leaves a gap; others
// go 16 at a time.
void elementwise_avx512vnni_quantize(const float* in, int pixels, int channels, float inverse_scale, float low,
                                   float high, std::int32_t zero, std::uint8_t* out, std::ptrdiff_t out_pixel) {
  const __m512 scale = _mm512_set1_ps(inverse_scale), lo = _mm512_set1_ps(low), hi = _mm512_set1_ps(high);
  const __m512i z = _mm512_set1_epi32(zero);
  if (channels == 3 && out_pixel == 4) {
    const __m512i spread = _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    const auto four = [&](const float* x, __mmask16 read) {
      return codes_of(_mm512_permutexvar_ps(spread, _mm512_maskz_loadu_ps(read, x)), scale, lo, hi, z);
    };
    int p = 0;
    for (; p + 4 <= pixels; p += 4) {
      const __m128i codes = four(in + 3 * static_cast<std::ptrdiff_t>(p), 0x0fff);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 4 * static_cast<std::ptrdiff_t>(p)), codes);
    }
    if (p < pixels) {
      const __m128i codes = four(in + 3 * static_cast<std::ptrdiff_t>(p), static_cast<__mmask16>((1 << 3 * (pixels - p)) - 1));
      _mm_mask_storeu_epi8(out + 4 * static_cast<std::ptrdiff_t>(p),
                           static_cast<__mmask16>((1 << 4 * (pixels - p)) - 1), codes);
    }
    return;
  }
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < channels; c += 16) {
      const int n = channels - c < 16 ? channels - c : 16;
      const __mmask16 lanes = static_cast<__mmask16>((1 << n) - 1);
      const __m512 v = _mm512_maskz_loadu_ps(lanes, in + static_cast<std::ptrdiff_t>(p) * channels + c);
      _mm_mask_storeu_epi8(out + p * out_pixel + c, lanes, codes_of(v, scale, lo, hi, z));
    }
  }
}

void elementwise_avx512vnni_look_up(const std::uint8_t* table, const std::uint8_t* in, std::int64_t n,
                                  std::uint8_t* out) {
  const Table t = load_table(table);
  for (std::int64_t i = 0; i < n; i += 64) {
    const __mmask64 valid = first(n - i < 64 ? static_cast<int>(n - i) : 64);
    _mm512_mask_storeu_epi8(out + i, valid, subbyte::look_up(t, _mm512_maskz_loadu_epi8(valid, in + i)));
  }
}

void elementwise_avx512vnni_add(const Add& p, const std::uint8_t* a, const std::uint8_t* b, std::int64_t n,
                              std::uint8_t* out) {
  const __m512 factor_a = _mm512_set1_ps(p.factor_a), factor_b = _mm512_set1_ps(p.factor_b);
  const __m512i zero_a = _mm512_set1_epi32(p.zero_a), zero_b = _mm512_set1_epi32(p.zero_b);
  const __m512i zero16 = _mm512_set1_epi16(static_cast<short>(p.zero));
  const __m512i high = _mm512_set1_epi8(static_cast<char>(p.high));
  for (std::int64_t i = 0; i < n; i += 64) {
    const __mmask64 valid = first(n - i < 64 ? static_cast<int>(n - i) : 64);
    __m512 sum[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const auto lanes = static_cast<__mmask16>(valid >> (16 * v));
      const __m512i x = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, a + i + 16 * v));
      const __m512i y = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, b + i + 16 * v));
      sum[v] = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(x, zero_a)), factor_a),
                             _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(y, zero_b)), factor_b));
    }
    const __m512i codes = natural_order(pack_codes(sum[0], sum[1], sum[2], sum[3], zero16));
    _mm512_mask_storeu_epi8(out + i, valid, _mm512_min_epu8(codes, high));
  }
}

// vpmulhrsw is the rounding high half of 16-bit products: ((x - zero) * 128 * factor + 2^14) >> 15. 64 channels are
// widened to 16 bits and narrowed again within 128-bit lanes; their factors are put in that order once.
void elementwise_avx512vnni_gate(const Gate& g, const std::int16_t* factors, const std::uint8_t* x,
                               std::ptrdiff_t x_pixel, int pixels, int channels, std::uint8_t* out,
                               std::ptrdiff_t out_pixel) {
  const __m512i zero_x = _mm512_set1_epi16(static_cast<short>(128 * g.zero_x));
  const __m512i zero = _mm512_set1_epi16(static_cast<short>(g.zero));
  const __m512i high = _mm512_set1_epi8(static_cast<char>(g.high));
  const __m512i even = _mm512_setr_epi64(0, 1, 4, 5, 8, 9, 12, 13), odd = _mm512_setr_epi64(2, 3, 6, 7, 10, 11, 14, 15);
  for (int c = 0; c < channels; c += 64) {
    const __mmask64 valid = first(channels - c);
    const __m512i f0 = _mm512_loadu_si512(factors + c), f1 = _mm512_loadu_si512(factors + c + 32);
    const __m512i low_factors = _mm512_permutex2var_epi64(f0, even, f1);
    const __m512i high_factors = _mm512_permutex2var_epi64(f0, odd, f1);
    const auto gated = [&](__m512i x256, __m512i f) {  // x256: codes in the high bytes
      const __m512i centred = _mm512_sub_epi16(_mm512_srli_epi16(x256, 1), zero_x);
      return _mm512_adds_epi16(_mm512_mulhrs_epi16(centred, f), zero);
    };
    for (int p = 0; p < pixels; ++p) {
      const __m512i codes = _mm512_maskz_loadu_epi8(valid, x + p * x_pixel + c);
      const __m512i nothing = _mm512_setzero_si512();
      const __m512i y = _mm512_packus_epi16(gated(_mm512_unpacklo_epi8(nothing, codes), low_factors),
                                            gated(_mm512_unpackhi_epi8(nothing, codes), high_factors));
      _mm512_mask_storeu_epi8(out + p * out_pixel + c, valid, _mm512_min_epu8(y, high));
    }
  }
}

void elementwise_avx512vnni_sum(const std::uint8_t* x, std::ptrdiff_t pixel, int pixels, int channels,
                              std::uint32_t* sums) {
  int c = 0;
  for (; c + 64 <= channels; c += 64) {  // in 16 bits, which hold 257 codes
    for (int p = 0; p < pixels;) {
      const int end = pixels - p < 256 ? pixels : p + 256;
      __m512i low = _mm512_setzero_si512(), high = low;
      for (; p < end; ++p) {
        const auto* codes = reinterpret_cast<const __m256i*>(x + p * pixel + c);
        low = _mm512_add_epi16(low, _mm512_cvtepu8_epi16(_mm256_loadu_si256(codes)));
        high = _mm512_add_epi16(high, _mm512_cvtepu8_epi16(_mm256_loadu_si256(codes + 1)));
      }
      const __m512i parts[] = {low, high};
      for (int half = 0; half < 2; ++half) {
        std::uint32_t* to = sums + c + 32 * half;
        const __m512i a = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(parts[half]));
        const __m512i b = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(parts[half], 1));
        _mm512_storeu_si512(to, _mm512_add_epi32(_mm512_loadu_si512(to), a));
        _mm512_storeu_si512(to + 16, _mm512_add_epi32(_mm512_loadu_si512(to + 16), b));
      }
    }
  }
  for (; c < channels; c += 16) {
    const int n = channels - c < 16 ? channels - c : 16;
    const __mmask16 lanes = static_cast<__mmask16>((1 << n) - 1);
    __m512i total = _mm512_maskz_loadu_epi32(lanes, sums + c);
    for (int p = 0; p < pixels; ++p) {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * pixel + c));
      total = _mm512_add_epi32(total, _mm512_cvtepu8_epi32(codes));
    }
    _mm512_mask_storeu_epi32(sums + c, lanes, total);
  }
}

}  // namespace subbyte::elementwise
