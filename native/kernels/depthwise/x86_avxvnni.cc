// Depthwise convolution for AVX-VNNI: 32 channels at a time.
//
// vpdpbusd wants 4 products of one channel side by side: 4 neighbouring pixels of 32 channels are transposed by
// two rounds of unpacks into 4 vectors, whose dwords hold pixels 0..3 of a channel. Such a window serves k_w
// taps; with stride 1 it serves two output pixels, the second with its taps shifted by one byte. Vector j,
// 128-bit lane l, dword i is channel 16 l + 4 j + i: what the pack instructions of the epilogue turn into natural
// order for free.
//
// Packed, per block of 32 channels, all in that order: bias [4][8], multiplier [4][8], then
// [k_h][window][shift][4 vectors] x 32 bytes.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/sanitizer.h"
#include "kernels/x86_avx2_epilogue.h"

namespace subbyte::depthwise {
namespace {

constexpr int kBlock = 32;
int shifts(const Shape& s) { return s.stride == 1 ? 2 : 1; }
int windows(const Shape& s) { return (s.kernel_w + shifts(s) - 1 + 3) / 4; }
std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_h) * windows(s) * shifts(s) * 128;
}

SUBBYTE_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

SUBBYTE_INLINE void dot4(__m256i& acc, __m256i x, const std::uint8_t* w) {
  announce_read(w, sizeof(__m256i));
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(x), "m"(*reinterpret_cast<const __m256i*>(w)));
}

SUBBYTE_INLINE void transpose(const std::uint8_t* p, std::ptrdiff_t pixel, __m256i (&q)[4]) {
  const __m256i p0 = load(p), p1 = load(p + pixel), p2 = load(p + 2 * pixel), p3 = load(p + 3 * pixel);
  const __m256i a0 = _mm256_unpacklo_epi8(p0, p1), a1 = _mm256_unpackhi_epi8(p0, p1);
  const __m256i b0 = _mm256_unpacklo_epi8(p2, p3), b1 = _mm256_unpackhi_epi8(p2, p3);
  q[0] = _mm256_unpacklo_epi16(a0, b0);
  q[1] = _mm256_unpackhi_epi16(a0, b0);
  q[2] = _mm256_unpacklo_epi16(a1, b1);
  q[3] = _mm256_unpackhi_epi16(a1, b1);
}

SUBBYTE_INLINE void scale(const __m256i (&acc)[4], const float* m, __m256 (&v)[4]) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) v[j] = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[j]), _mm256_loadu_ps(m + 8 * j));
}

SUBBYTE_INLINE __m256i codes_of(const __m256 (&v)[4], __m256i zero) {
  const __m256i p01 = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
  const __m256i p23 = _mm256_packs_epi32(_mm256_cvtps_epi32(v[2]), _mm256_cvtps_epi32(v[3]));
  return _mm256_packus_epi16(_mm256_adds_epi16(p01, zero), _mm256_adds_epi16(p23, zero));
}

SUBBYTE_INLINE void store_block(std::uint8_t* out, __m256i codes, int channels) {
  if (channels >= 32) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), codes);
    return;
  }
  store_codes(out, _mm256_castsi256_si128(codes), channels);
  if (channels > 16) store_codes(out + 16, _mm256_extracti128_si256(codes, 1), channels - 16);
}

SUBBYTE_INLINE void store_reals(float* out, const __m256 (&v)[4], int channels) {
  alignas(32) float natural[kBlock];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    _mm_store_ps(natural + 4 * j, _mm256_castps256_ps128(v[j]));
    _mm_store_ps(natural + 16 + 4 * j, _mm256_extractf128_ps(v[j], 1));
  }
  __builtin_memcpy(out, natural, sizeof(float) * static_cast<std::size_t>(channels < kBlock ? channels : kBlock));
}

// kShifts output pixels per step; kHeight and kWindows may be 0 for "as in the shape".
template <Finish kFinish, int kShifts, int kHeight, int kWindows>
void block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Finisher& f) {
  const int height = kHeight ? kHeight : s.kernel_h, count = kWindows ? kWindows : windows(s);
  const auto* m = reinterpret_cast<const float*>(packed + 4 * kBlock);
  for (int x = 0; x < row.width; x += kShifts) {
    __m256i acc[kShifts][4];
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) acc[t][j] = load(packed + 32 * j);
    }
    const std::uint8_t* w = packed + 8 * kBlock;
    const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(x) * s.stride * row.in_pixel + c0;
#pragma GCC unroll 5
    for (int ky = 0; ky < height; ++ky) {
#pragma GCC unroll 2
      for (int i = 0; i < count; ++i, w += 128 * kShifts) {
        __m256i q[4];
        transpose(row.in[ky] + left + 4 * i * row.in_pixel, row.in_pixel, q);
#pragma GCC unroll 2
        for (int t = 0; t < kShifts; ++t) {
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) dot4(acc[t][j], q[j], w + 128 * t + 32 * j);
        }
      }
    }
    std::uint8_t* out = row.out + x * row.out_pixel;
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) {
      if (x + t >= row.width) break;
      __m256 v[4];
      scale(acc[t], m, v);
      std::uint8_t* pixel = out + t * row.out_pixel;
      if constexpr (kFinish == Finish::kReal) {
        store_reals(reinterpret_cast<float*>(pixel) + c0, v, s.channels - c0);
      } else {
        const __m256i codes = codes_of(v, f.zero);
        store_block(pixel + c0,
                    kFinish == Finish::kTable ? look_up(f.table, codes)
                                              : _mm256_max_epu8(_mm256_min_epu8(codes, f.high), f.low),
                    s.channels - c0);
      }
    }
  }
}

template <Finish kFinish>
void dispatch(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Finisher& f) {
  const int size = s.kernel_h == s.kernel_w ? s.kernel_h : 0;
  if (s.stride == 1) {
    if (size == 3) return block<kFinish, 2, 3, 1>(s, packed, row, c0, f);
    if (size == 5) return block<kFinish, 2, 5, 2>(s, packed, row, c0, f);
    return block<kFinish, 2, 0, 0>(s, packed, row, c0, f);
  }
  if (size == 3) return block<kFinish, 1, 3, 1>(s, packed, row, c0, f);
  if (size == 5) return block<kFinish, 1, 5, 2>(s, packed, row, c0, f);
  return block<kFinish, 1, 0, 0>(s, packed, row, c0, f);
}

}  // namespace

std::size_t depthwise_u8s8_avxvnni_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

void depthwise_u8s8_avxvnni_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  __builtin_memset(packed, 0, depthwise_u8s8_avxvnni_bytes(s));
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* b = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    const int in = c % kBlock, j = in % 16 / 4, dword = in / 16 * 4 + in % 4;
    reinterpret_cast<std::int32_t*>(b)[8 * j + dword] = w.bias[c];
    reinterpret_cast<float*>(b)[kBlock + 8 * j + dword] = w.multiplier[c];
    std::uint8_t* out = b + 8 * kBlock + 32 * j + 4 * dword;
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      for (int i = 0; i < windows(s); ++i) {
        for (int t = 0; t < shifts(s); ++t, out += 128) {
          for (int byte = 0; byte < 4; ++byte) {
            const int kx = 4 * i + byte - t;
            if (kx < 0 || kx >= s.kernel_w) continue;
            out[byte] = static_cast<std::uint8_t>(
                w.taps[static_cast<std::size_t>(ky * s.kernel_w + kx) * s.channels + c]);
          }
        }
      }
    }
  }
}

void depthwise_u8s8_avxvnni_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const std::size_t bytes = block_bytes(s);
  Finisher f;
  load_finisher(f, *row.epilogue);
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += bytes) {
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
