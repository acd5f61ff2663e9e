// Pointwise kernels, compiled for AVX2.
#include <immintrin.h>

#include "kernels/pointwise/pointwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) pointwise_avx2_##x
#define SUBBYTE_OWN_GATE
namespace subbyte::pointwise {
#include "kernels/pointwise/loops.inc"

// vpmulhrsw is the rounding high half of 16-bit products: ((x - zero) * 128 * factor + 2^14) >> 15.
void pointwise_avx2_gate(const Gate& g, const std::int16_t* factors, const std::uint8_t* x, std::ptrdiff_t x_pixel,
                         int pixels, int channels, std::uint8_t* out, std::ptrdiff_t out_pixel) {
  const __m256i zero_x = _mm256_set1_epi16(static_cast<short>(g.zero_x));
  const __m256i zero = _mm256_set1_epi16(static_cast<short>(g.zero));
  const __m128i high = _mm_set1_epi8(static_cast<char>(g.high));
  for (int p = 0; p < pixels; ++p) {
    for (int c = 0; c < channels; c += 16) {
      const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + p * x_pixel + c));
      const __m256i centred = _mm256_slli_epi16(_mm256_sub_epi16(_mm256_cvtepu8_epi16(codes), zero_x), 7);
      const __m256i f = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(factors + c));
      const __m256i v = _mm256_adds_epi16(_mm256_mulhrs_epi16(centred, f), zero);
      const __m128i y =
          _mm_min_epu8(_mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)), high);
      std::uint8_t* to = out + p * out_pixel + c;
      if (channels - c >= 16) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), y);
      } else {
        alignas(16) std::uint8_t buffer[16];
        _mm_store_si128(reinterpret_cast<__m128i*>(buffer), y);
        for (int i = 0; i < channels - c; ++i) to[i] = buffer[i];
      }
    }
  }
}

}  // namespace subbyte::pointwise
