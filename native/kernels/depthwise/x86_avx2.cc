// Depthwise convolution for AVX2: 16 channels and up to 4 neighbouring output pixels at a time.
//
// vpmaddwd sums two taps; those of two rows of one column are interleaved once and serve every output pixel
// whose window holds the column. All shuffles stay within the halves of a register: others take twice as long.
//
// Packed, per block of 16 channels: bias [16], multiplier [16], then [k_w][pairs of rows][16] x (w of the upper
// row, w of the lower row, 0 past the last) as s16.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/sanitizer.h"
#include "kernels/x86_avx2_epilogue.h"
#include "kernels/x86_madd.h"

namespace subbyte::depthwise {
namespace {

constexpr int kBlock = 16;
int pairs(int kernel_h) { return (kernel_h + 1) / 2; }
std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_w) * pairs(s.kernel_h) * 4 * kBlock;
}

SUBBYTE_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

SUBBYTE_INLINE __m256i load_twice(const std::uint8_t* p) {
  return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// For _mm256_shuffle_epi8: 16 bytes, which both halves of a register hold, as 16-bit numbers; or eight of them, from
// `first` (0 or 8) on, as 32-bit ones.
SUBBYTE_INLINE __m256i pairs_of_bytes() {
  return _mm256_setr_epi8(0, -1, 1, -1, 2, -1, 3, -1, 4, -1, 5, -1, 6, -1, 7, -1,
                          8, -1, 9, -1, 10, -1, 11, -1, 12, -1, 13, -1, 14, -1, 15, -1);
}
SUBBYTE_INLINE __m256i single_bytes(int first) {
  const __m256i from = _mm256_setr_epi8(0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1,
                                        4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7, -1, -1, -1);
  return first ? _mm256_or_si256(from, _mm256_set1_epi32(first)) : from;
}

// 16 channels of a row and, if `two`, of the one below it, or zeros, as 16-bit pairs: channels 0..7, 8..15.
SUBBYTE_INLINE void interleave(const std::uint8_t* const* rows, std::ptrdiff_t at, bool two, __m256i (&x)[2]) {
  const __m256i a = load_twice(rows[0] + at);
  if (two) {
    const __m256i b = load_twice(rows[1] + at);
    x[0] = _mm256_shuffle_epi8(_mm256_unpacklo_epi8(a, b), pairs_of_bytes());
    x[1] = _mm256_shuffle_epi8(_mm256_unpackhi_epi8(a, b), pairs_of_bytes());
  } else {
    x[0] = _mm256_shuffle_epi8(a, single_bytes(0));
    x[1] = _mm256_shuffle_epi8(a, single_bytes(8));
  }
}

// kPixels outputs from in[ky] + left on. The shape's numbers where the template's are 0.
template <int kHeight, int kWidth, int kStride, int kPixels>
SUBBYTE_INLINE void pixels(const Shape& s, const std::uint8_t* packed, const Row& row, std::ptrdiff_t left,
                           __m256i (&acc)[kPixels][2]) {
  const int height = kHeight ? kHeight : s.kernel_h, width = kWidth ? kWidth : s.kernel_w;
  const int columns = (kPixels - 1) * kStride + width;
  asm("" : "+r"(packed));  // or GCC takes the addresses of all taps out of the loop over pixels, into memory
#pragma GCC unroll 4
  for (int p = 0; p < kPixels; ++p) acc[p][0] = load(packed), acc[p][1] = load(packed + 32);
#pragma GCC unroll 11
  for (int c = 0; c < columns; ++c) {
#pragma GCC unroll 3
    for (int ky = 0; ky < height; ky += 2) {
      const std::ptrdiff_t at = left + c * row.in_pixel;
      __m256i x[2];
      interleave(row.in + ky, at, ky + 1 < height, x);
#pragma GCC unroll 4
      for (int p = 0; p < kPixels; ++p) {
        const int kx = c - p * kStride;
        if (kx < 0 || kx >= width) continue;
        const std::uint8_t* w = packed + 8 * kBlock + 4 * kBlock * (kx * pairs(height) + ky / 2);
        announce_read(w, 4 * kBlock);
        madd(acc[p][0], x[0], w);
        madd(acc[p][1], x[1], w + 32);
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
  if (size == 3 && s.stride == 2) return block<kFinish, 3, 3, 2, 4>(s, packed, row, c0, f);
  if (size == 5 && s.stride == 1) return block<kFinish, 5, 5, 1, 4>(s, packed, row, c0, f);
  if (size == 5 && s.stride == 2) return block<kFinish, 5, 5, 2, 4>(s, packed, row, c0, f);
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
