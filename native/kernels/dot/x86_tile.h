// What the 256-bit dot kernels share: narrow weights to int8, the sums of a tile to stored outputs.
#pragma once

#include "kernels/dot/dot.h"
#include "kernels/x86_avx2_epilogue.h"

namespace subbyte::dot {
namespace {

SUBBYTE_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
SUBBYTE_INLINE void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// Packed weights of `groups` groups of 16 outputs, `stride` bytes between packs; a partly used pack is decoded whole.
template <int kBits>
void decode(std::int8_t (*out)[64], const std::uint8_t* packed, std::ptrdiff_t stride, const std::int8_t* book,
            int groups) {
  constexpr int kPack = 8 / kBits;
  const __m256i levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(book)));
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << kBits) - 1));
  for (int g = 0; g < groups; g += kPack, packed += stride) {
    __m256i low = load(packed), high = load(packed + 32);
#pragma GCC unroll 4
    for (int j = 0; j < kPack; ++j) {
      store(out[g + j], _mm256_shuffle_epi8(levels, _mm256_and_si256(low, mask)));
      store(out[g + j] + 32, _mm256_shuffle_epi8(levels, _mm256_and_si256(high, mask)));
      low = _mm256_srli_epi16(low, kBits);
      high = _mm256_srli_epi16(high, kBits);
    }
  }
}

template <Finish kFinish, int kTileRows>
__attribute__((noinline)) void finish_as(const Tile& t, int vectors, int rows,
                                         const std::int32_t (&sums)[kMaxVectors][kTileRows][16]) {
  Finisher f;
  load_finisher(f, *t.epilogue);
  for (int v = 0; v < vectors && 16 * v < t.channels; ++v) {
    const int left = t.channels - 16 * v, channels = left < 16 ? left : 16;
    const __m256 m0 = _mm256_loadu_ps(t.multiplier + 16 * v), m1 = _mm256_loadu_ps(t.multiplier + 16 * v + 8);
    for (int r = 0; r < rows; r += 2) {
      const int pixels = rows - r < 2 ? 1 : 2, other = r + pixels - 1;
      const auto* a = reinterpret_cast<const __m256i*>(sums[v][r]);
      const auto* b = reinterpret_cast<const __m256i*>(sums[v][other]);
      const __m256i pair[2][2] = {{a[0], a[1]}, {b[0], b[1]}};
      const std::uint8_t* residual[2] = {nullptr, nullptr};
      if (kFinish == Finish::kResidual) residual[0] = t.residual[r], residual[1] = t.residual[other];
      finish_two<kFinish>(f, pair, m0, m1, t.out + r, residual, t.offset + 16 * v, pixels, channels);
    }
  }
}

// sums[vector][row][16], bias included.
template <int kTileRows>
void finish_tile(const Tile& t, int vectors, int rows, const std::int32_t (&sums)[kMaxVectors][kTileRows][16]) {
  switch (t.epilogue->finish) {
    case Finish::kClamp: return finish_as<Finish::kClamp>(t, vectors, rows, sums);
    case Finish::kTable: return finish_as<Finish::kTable>(t, vectors, rows, sums);
    case Finish::kResidual: return finish_as<Finish::kResidual>(t, vectors, rows, sums);
    case Finish::kReal: return finish_as<Finish::kReal>(t, vectors, rows, sums);
  }
}

}  // namespace
}  // namespace subbyte::dot
