// Depthwise convolution for AVX2: 16 channels at a time, two taps per vpmaddwd.
//
// Packed, per block of 16 channels: bias [16], multiplier [16], then per pair of taps (in raster order,
// an odd last one paired with zero) 16 x (w0, w1) as s16.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/x86_avx2_epilogue.h"

namespace subbyte::depthwise {
namespace {

constexpr int kBlock = 16;
int pairs(const Shape& s) { return (s.kernel_h * s.kernel_w + 1) / 2; }
std::size_t block_bytes(const Shape& s) { return 8 * kBlock + static_cast<std::size_t>(pairs(s)) * 4 * kBlock; }

}  // namespace

std::size_t depthwise_u8s8_avx2_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

void depthwise_u8s8_avx2_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  const int taps = s.kernel_h * s.kernel_w;
  __builtin_memset(packed, 0, depthwise_u8s8_avx2_bytes(s));
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* block = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    const int i = c % kBlock;
    reinterpret_cast<std::int32_t*>(block)[i] = w.bias[c];
    reinterpret_cast<float*>(block)[kBlock + i] = w.multiplier[c];
    auto* out = reinterpret_cast<std::int16_t*>(block + 8 * kBlock);
    for (int t = 0; t < taps; ++t) {
      out[(t / 2) * 2 * kBlock + 2 * i + t % 2] = w.taps[static_cast<std::size_t>(t) * s.channels + c];
    }
  }
}

void depthwise_u8s8_avx2_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const int taps = s.kernel_h * s.kernel_w;
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += block_bytes(s)) {
    const auto* bias = reinterpret_cast<const std::int32_t*>(packed);
    const auto* multiplier = reinterpret_cast<const float*>(packed) + kBlock;
    const int channels = s.channels - c0 < kBlock ? s.channels - c0 : kBlock;
    for (int x = 0; x < row.width; ++x) {
      const std::ptrdiff_t left = x * s.stride * row.in_pixel + c0;
      __m256i low = _mm256_setzero_si256(), high = low;
      const std::uint8_t* w = packed + 8 * kBlock;
      int ky = 0, kx = 0;
      const auto next = [&] {
        const std::uint8_t* p = row.in[ky] + left + kx * row.in_pixel;
        if (++kx == s.kernel_w) kx = 0, ++ky;
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
      };
      for (int t = 0; t < taps; t += 2, w += 4 * kBlock) {
        const __m128i a = next();
        const __m128i b = t + 1 < taps ? next() : _mm_setzero_si128();
        low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)),
                                                      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w))));
        high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b)),
                                                        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32))));
      }
      finish16(low, high, bias, multiplier, *row.epilogue, row.out + x * row.out_pixel, nullptr, c0, channels);
    }
  }
}

}  // namespace subbyte::depthwise
