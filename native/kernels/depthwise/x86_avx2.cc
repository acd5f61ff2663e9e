// Depthwise convolution for AVX2: 16 channels and up to 4 neighbouring output pixels at a time.
//
// vpmaddwd sums two taps; those of two rows of one column are interleaved once and serve every output pixel
// whose window holds the column.
//
// Packed, per block of 16 channels: bias [16], multiplier [16], then [k_w][pairs of rows][16] x (w of the upper
// row, w of the lower row, 0 past the last) as s16.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/x86_avx2_epilogue.h"

namespace subbyte::depthwise {
namespace {

constexpr int kBlock = 16;
int pairs(int kernel_h) { return (kernel_h + 1) / 2; }
std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_w) * pairs(s.kernel_h) * 4 * kBlock;
}

SUBBYTE_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// 16 channels of an upper and a lower tap (or none) as 16-bit pairs: channels 0..7, 8..15.
SUBBYTE_INLINE void interleave(const std::uint8_t* upper, const std::uint8_t* lower, __m256i (&x)[2]) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(upper));
  if (lower) {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lower));
    x[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
    x[1] = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
  } else {
    x[0] = _mm256_cvtepu8_epi32(a);
    x[1] = _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(a, a));
  }
}

// kPixels outputs from in[ky] + left on. The shape's numbers where the template's are 0.
template <int kHeight, int kWidth, int kStride, int kPixels>
SUBBYTE_INLINE void pixels(const Shape& s, const std::uint8_t* packed, const Row& row, std::ptrdiff_t left,
                           __m256i (&acc)[kPixels][2]) {
  const int height = kHeight ? kHeight : s.kernel_h, width = kWidth ? kWidth : s.kernel_w;
  const int columns = (kPixels - 1) * kStride + width;
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) acc[p][0] = load(packed), acc[p][1] = load(packed + 32);
#pragma GCC unroll 8
  for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 3
    for (int ky = 0; ky < height; ky += 2) {
      const std::ptrdiff_t at = left + c * row.in_pixel;
      __m256i x[2];
      interleave(row.in[ky] + at, ky + 1 < height ? row.in[ky + 1] + at : nullptr, x);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const int kx = c - p * kStride;
        if (kx < 0 || kx >= width) continue;
        const std::uint8_t* w = packed + 8 * kBlock + 4 * kBlock * (kx * pairs(height) + ky / 2);
        acc[p][0] = _mm256_add_epi32(acc[p][0], _mm256_madd_epi16(x[0], load(w)));
        acc[p][1] = _mm256_add_epi32(acc[p][1], _mm256_madd_epi16(x[1], load(w + 32)));
      }
    }
  }
}

// One block of channels of a row.
template <Finish kFinish, int kHeight, int kWidth, int kStride, int kPixels>
void block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Finisher& f) {
  const int channels = s.channels - c0 < kBlock ? s.channels - c0 : kBlock;
  const auto* m = reinterpret_cast<const float*>(packed + 4 * kBlock);
  for (int x = 0; x < row.width; x += kPixels) {
    __m256i acc[kPixels][2];
    pixels<kHeight, kWidth, kStride, kPixels>(s, packed, row, static_cast<std::ptrdiff_t>(x) * s.stride * row.in_pixel + c0,
                                              acc);
#pragma GCC unroll 2
    for (int p = 0; p < kPixels; p += 2) {
      const int left = row.width - x - p, other = p + (kPixels > 1);
      if (left <= 0) break;
      const __m256i two[2][2] = {{acc[p][0], acc[p][1]}, {acc[other][0], acc[other][1]}};
      std::uint8_t* first = row.out + (x + p) * row.out_pixel;
      std::uint8_t* const out[2] = {first, first + row.out_pixel};
      finish_two<kFinish>(f, two, _mm256_loadu_ps(m), _mm256_loadu_ps(m + 8), out, out, c0,
                          left < 2 || kPixels == 1 ? 1 : 2, channels);
    }
  }
}

template <Finish kFinish>
void dispatch(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Finisher& f) {
  const int size = s.kernel_h == s.kernel_w ? s.kernel_h : 0;
  if (size == 3 && s.stride == 1) return block<kFinish, 3, 3, 1, 4>(s, packed, row, c0, f);
  if (size == 3 && s.stride == 2) return block<kFinish, 3, 3, 2, 2>(s, packed, row, c0, f);
  if (size == 5 && s.stride == 1) return block<kFinish, 5, 5, 1, 4>(s, packed, row, c0, f);
  if (size == 5 && s.stride == 2) return block<kFinish, 5, 5, 2, 2>(s, packed, row, c0, f);
  return block<kFinish, 0, 0, 1, 1>(s, packed, row, c0, f);
}

}  // namespace

std::size_t depthwise_u8s8_avx2_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

void depthwise_u8s8_avx2_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  __builtin_memset(packed, 0, depthwise_u8s8_avx2_bytes(s));
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* block = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    const int i = c % kBlock;
    reinterpret_cast<std::int32_t*>(block)[i] = w.bias[c];
    reinterpret_cast<float*>(block)[kBlock + i] = w.multiplier[c];
    auto* out = reinterpret_cast<std::int16_t*>(block + 8 * kBlock);
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      for (int kx = 0; kx < s.kernel_w; ++kx) {
        out[(kx * pairs(s.kernel_h) + ky / 2) * 2 * kBlock + 2 * i + ky % 2] =
            w.taps[static_cast<std::size_t>(ky * s.kernel_w + kx) * s.channels + c];
      }
    }
  }
}

void depthwise_u8s8_avx2_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  Finisher f;
  load_finisher(f, *row.epilogue);
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += block_bytes(s)) {
    if (row.epilogue->finish == Finish::kTable) {
      dispatch<Finish::kTable>(s, packed, row, c0, f);
    } else if (row.epilogue->finish == Finish::kReal) {
      dispatch<Finish::kReal>(s, packed, row, c0, f);
    } else {
      dispatch<Finish::kClamp>(s, packed, row, c0, f);
    }
  }
}

}  // namespace subbyte::depthwise
