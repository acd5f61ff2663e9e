// AVX-512 VNNI + VBMI. vpdpbusd multiplies 4 u8 by 4 s8 in each of 16 lanes; the activation is a
// 4-byte broadcast from memory, the weights are a plain load. 24 accumulators cover the latency and
// leave room for the weights, the broadcast and the decoder of narrow weights.
//
// vpdpbusd is written as inline assembly: GCC's intrinsic copies accumulators around.
#include <immintrin.h>

#include "kernels/dot/dot.h"
#include "kernels/x86_avx512_epilogue.h"

namespace subbyte::dot {
namespace {

#define INLINE inline __attribute__((always_inline))

INLINE void dot4(__m512i& acc, __m512i x, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
}

template <int kRows, int kVectors>
INLINE void step(__m512i (&acc)[kRows][kVectors], const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at,
                 const __m512i (&w)[kVectors]) {
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    std::int32_t group;
    __builtin_memcpy(&group, x[r] + at, 4);
    const __m512i xr = _mm512_set1_epi32(group);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) dot4(acc[r][v], xr, w[v]);
  }
}

// Group j of a pack: codes to weights by a 16-entry table in each 128-bit lane.
template <int kBits, int kVectors>
INLINE void decode(__m512i (&w)[kVectors], const std::uint8_t* packed, int j, __m512i levels, __m512i mask) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    __m512i codes = _mm512_loadu_si512(packed + 64 * v);
    if (j != 0) codes = _mm512_srli_epi16(codes, static_cast<unsigned>(kBits * j));
    w[v] = _mm512_shuffle_epi8(levels, _mm512_and_si512(codes, mask));
  }
}

template <int kBits, int kRows, int kVectors>
void tile(const Tile& t) {
  __m512i acc[kRows][kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m512i bias = _mm512_loadu_si512(t.bias + 16 * v);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      acc[r][v] = t.resume ? _mm512_load_si512(t.resume + 16 * (kVectors * r + v)) : bias;
    }
  }
  const std::uint8_t* w = t.weights;
  const __m512i levels =
      kBits == 8 ? _mm512_setzero_si512()
                 : _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.levels)));
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << kBits) - 1));
  constexpr int kPack = 8 / kBits;
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + r] + t.skip;
    const std::ptrdiff_t bytes = 4 * static_cast<std::ptrdiff_t>(t.groups);
    std::ptrdiff_t at = 0;
    for (; at + 4 * kPack <= bytes; at += 4 * kPack, w += 64 * kVectors) {
      __m512i wv[kVectors];
      if constexpr (kBits == 8) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) wv[v] = _mm512_loadu_si512(w + 64 * v);
        step(acc, x, at, wv);
      } else {
#pragma GCC unroll 4
        for (int j = 0; j < kPack; ++j) {
          decode<kBits>(wv, w, j, levels, mask);
          step(acc, x, at + 4 * j, wv);
        }
      }
    }
    if constexpr (kBits != 8) {
      if (at < bytes) {
        for (int j = 0; at < bytes; ++j, at += 4) {
          __m512i wv[kVectors];
          const __m128i shift = _mm_cvtsi32_si128(kBits * j);
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            const __m512i codes = _mm512_srl_epi16(_mm512_loadu_si512(w + 64 * v), shift);
            wv[v] = _mm512_shuffle_epi8(levels, _mm512_and_si512(codes, mask));
          }
          step(acc, x, at, wv);
        }
        w += 64 * kVectors;
      }
    }
  }
  if (t.suspend) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) _mm512_store_si512(t.suspend + 16 * (kVectors * r + v), acc[r][v]);
    }
    return;
  }
  finish_rows<kRows, kVectors>(acc, t.multiplier, *t.epilogue, t.out, t.residual, t.offset, t.channels);
}

template <int kBits, int kVectors, int kMaxRows>
void run(const Tile& t, int rows) {
  switch (rows) {
#define CASE(R)                                                     \
  case R:                                                           \
    if constexpr (R <= kMaxRows) tile<kBits, R, kVectors>(t);       \
    return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
  }
}

}  // namespace

#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) \
  void function(const Tile& t, int r) { run<bits, vectors, rows>(t, r); }
#define SUBBYTE_ONLY_AVX512VNNI
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
