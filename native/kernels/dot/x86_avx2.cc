// AVX2. There is no exact u8 x s8 dot product (vpmaddubsw saturates), so both operands are widened to
// 16 bits and vpmaddwd sums pairs: a 4-byte group makes two partial sums per output, added at the end.
#include <immintrin.h>

#include "kernels/dot/dot.h"
#include "kernels/x86_avx2_epilogue.h"

namespace subbyte::dot {
namespace {

#define INLINE inline __attribute__((always_inline))

// Weights of 16 outputs, one group: acc[r][q] holds outputs 4q..4q+3, two partial sums each.
template <int kRows>
INLINE void step(__m256i (&acc)[kRows][4], const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, __m256i low,
                 __m256i high) {
  const __m256i w[4] = {
      _mm256_cvtepi8_epi16(_mm256_castsi256_si128(low)), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(low, 1)),
      _mm256_cvtepi8_epi16(_mm256_castsi256_si128(high)), _mm256_cvtepi8_epi16(_mm256_extracti128_si256(high, 1))};
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    std::int32_t group;
    __builtin_memcpy(&group, x[r] + at, 4);
    const __m256i xr = _mm256_cvtepu8_epi16(_mm_set1_epi32(group));
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = _mm256_add_epi32(acc[r][q], _mm256_madd_epi16(xr, w[q]));
  }
}

template <int kBits, int kRows, int kVectors>
void tile16(const Tile& t, int v) {
  __m256i acc[kRows][4];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) acc[r][q] = _mm256_setzero_si256();
  }
  constexpr int kPack = 8 / kBits;
  const __m256i levels =
      kBits == 8 ? _mm256_setzero_si256()
                 : _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.levels)));
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << kBits) - 1));
  const std::uint8_t* w = t.weights + 64 * v;
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + r];
    for (int g = 0; g < t.groups; g += kPack, w += 64 * kVectors) {
      __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
      __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + 32));
      if constexpr (kBits == 8) {
        step(acc, x, 4 * static_cast<std::ptrdiff_t>(g), low, high);
      } else {
        const int groups = t.groups - g < kPack ? t.groups - g : kPack;
        for (int j = 0; j < groups; ++j) {
          step(acc, x, 4 * static_cast<std::ptrdiff_t>(g + j),
               _mm256_shuffle_epi8(levels, _mm256_and_si256(low, mask)),
               _mm256_shuffle_epi8(levels, _mm256_and_si256(high, mask)));
          low = _mm256_srli_epi16(low, kBits);
          high = _mm256_srli_epi16(high, kBits);
        }
      }
    }
  }
  const int channels = t.channels - 16 * v < 16 ? t.channels - 16 * v : 16;
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    // [o0 o0' o1 o1' | o2 ..], [o4 ..] -> 8 sums in order
    const __m256i a = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[r][0], acc[r][1]), 0xD8);
    const __m256i b = _mm256_permute4x64_epi64(_mm256_hadd_epi32(acc[r][2], acc[r][3]), 0xD8);
    finish16(a, b, t.bias + 16 * v, t.multiplier + 16 * v, *t.epilogue, t.out[r],
             t.residual ? t.residual[r] : nullptr, t.offset + 16 * v, channels);
  }
}

template <int kBits, int kRows, int kVectors>
void tile(const Tile& t) {
  for (int v = 0; v < kVectors && 16 * v < t.channels; ++v) tile16<kBits, kRows, kVectors>(t, v);
}

template <int kBits, int kVectors>
void run(const Tile& t, int rows) {
  if (rows == 1) tile<kBits, 1, kVectors>(t);
  if (rows == 2) tile<kBits, 2, kVectors>(t);
  if (rows == 3) tile<kBits, 3, kVectors>(t);
}

}  // namespace

#define SUBBYTE_ONLY_AVX2
#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) \
  void function(const Tile& t, int r) { run<bits, vectors>(t, r); }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
