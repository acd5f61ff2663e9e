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

INLINE __m512i broadcast(const std::uint8_t* p) {
  std::int32_t group;
  __builtin_memcpy(&group, p, 4);
  return _mm512_set1_epi32(group);
}

// The sums of kRows pixels x 16 * kVectors outputs.
template <int kRows, int kVectors>
struct Sums {
  static constexpr int kWeights = kVectors;
  __m512i acc[kRows][kVectors];

  INLINE void start(const Tile& t) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i bias = _mm512_loadu_si512(t.bias + 16 * v);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        acc[r][v] = t.resume ? _mm512_load_si512(t.resume + 16 * (kVectors * r + v)) : bias;
      }
    }
  }

  INLINE void add(const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, const __m512i (&w)[kVectors]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i xr = broadcast(x[r] + at);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dot4(acc[r][v], xr, w[v]);
    }
  }

  INLINE void finish(const Tile& t) const {
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
};

// The sums of kRows pixels x 24 outputs: 16 in a vector of each pixel, and 8 in half a vector, shared by two pixels.
template <int kRows>
struct NarrowSums {
  static constexpr int kWeights = 2, kPairs = (kRows + 1) / 2;
  __m512i whole[kRows], shared[kPairs];

  INLINE void start(const Tile& t) {
    const __m512i bias = _mm512_loadu_si512(t.bias), other = _mm512_loadu_si512(t.bias + 16);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) whole[r] = bias;
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) shared[i] = other;
  }

  INLINE void add(const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, const __m512i (&w)[2]) {
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) {
      const __m512i first_x = broadcast(x[2 * i] + at);
      dot4(whole[2 * i], first_x, w[0]);
      if (2 * i + 1 < kRows) {
        const __m512i second_x = broadcast(x[2 * i + 1] + at);
        dot4(whole[2 * i + 1], second_x, w[0]);
        dot4(shared[i], _mm512_mask_blend_epi32(0xff00, first_x, second_x), w[1]);
      } else {
        dot4(shared[i], first_x, w[1]);
      }
    }
  }

  INLINE void finish(const Tile& t) const {
    switch (t.epilogue->finish) {
      case Finish::kClamp: return finish_as<Finish::kClamp>(t);
      case Finish::kTable: return finish_as<Finish::kTable>(t);
      case Finish::kResidual: return finish_as<Finish::kResidual>(t);
      case Finish::kReal: return finish_as<Finish::kReal>(t);
    }
  }

  template <Finish kFinish>
  INLINE void finish_as(const Tile& t) const {
    const Epilogue& e = *t.epilogue;
    const __m512 m0 = _mm512_loadu_ps(t.multiplier), m1 = _mm512_loadu_ps(t.multiplier + 16);
    const __mmask32 valid = static_cast<__mmask32>(first(t.channels));
    const __m512i zero16 = _mm512_set1_epi16(static_cast<short>(e.zero));
    const __m512i low = _mm512_set1_epi8(static_cast<char>(e.low)), high = _mm512_set1_epi8(static_cast<char>(e.high));
    const __m512i rzero = _mm512_set1_epi32(e.residual_zero);
    const __m512 factor = _mm512_set1_ps(e.residual_factor);
    // Dwords of the pack order: the first pixel's 24 codes to the lower half, the second's to the upper one.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 2, 6, 1, 5, 9, 13, 10, 14, 10, 14);
    Table table{};
    if constexpr (kFinish == Finish::kTable) table = load_table(e.table);
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) {
      const int r = 2 * i, other = 2 * i + 1 < kRows ? 2 * i + 1 : r;
      __m512 s0 = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[r]), m0);
      __m512 s1 = _mm512_mul_ps(_mm512_cvtepi32_ps(whole[other]), m0);
      __m512 s2 = _mm512_mul_ps(_mm512_cvtepi32_ps(shared[i]), m1);
      if constexpr (kFinish == Finish::kReal) {
        store_real(t.out[r], t.offset, valid, s0, _mm512_castps512_ps256(s2));
        if (other != r) store_real(t.out[other], t.offset, valid, s1, _mm512_extractf32x8_ps(s2, 1));
        continue;
      }
      if constexpr (kFinish == Finish::kResidual) {
        const std::uint8_t *a = t.residual[r] + t.offset, *b = t.residual[other] + t.offset;
        alignas(16) std::uint8_t tails[16];
        __builtin_memcpy(tails, a + 16, 8);
        __builtin_memcpy(tails + 8, b + 16, 8);
        s0 = _mm512_add_ps(s0, residual16(a, rzero, factor));
        s1 = _mm512_add_ps(s1, residual16(b, rzero, factor));
        s2 = _mm512_add_ps(s2, residual16(tails, rzero, factor));
      }
      __m512i codes = _mm512_permutexvar_epi32(order, pack_codes(s0, s1, s2, _mm512_setzero_ps(), zero16));
      if constexpr (kFinish == Finish::kTable) {
        codes = look_up(table, codes);
      } else {
        codes = _mm512_max_epu8(_mm512_min_epu8(codes, high), low);
      }
      _mm256_mask_storeu_epi8(t.out[r] + t.offset, valid, _mm512_castsi512_si256(codes));
      if (other != r) _mm256_mask_storeu_epi8(t.out[other] + t.offset, valid, _mm512_extracti64x4_epi64(codes, 1));
    }
  }

  static INLINE void store_real(std::uint8_t* out, std::ptrdiff_t offset, __mmask32 valid, __m512 head, __m256 tail) {
    float* to = reinterpret_cast<float*>(out) + offset;
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(valid), head);
    _mm256_mask_storeu_ps(to + 16, static_cast<__mmask8>(valid >> 16), tail);
  }
};

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

template <int kBits, int kRows, class S>
void tile(const Tile& t) {
  constexpr int kVectors = S::kWeights;
  S sums;
  sums.start(t);
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
        sums.add(x, at, wv);
      } else {
#pragma GCC unroll 4
        for (int j = 0; j < kPack; ++j) {
          decode<kBits>(wv, w, j, levels, mask);
          sums.add(x, at + 4 * j, wv);
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
          sums.add(x, at, wv);
        }
        w += 64 * kVectors;
      }
    }
  }
  sums.finish(t);
}

template <int kBits, int kRows, int kVectors, bool kNarrow>
void tile_of(const Tile& t) {
  if constexpr (kNarrow) {
    tile<kBits, kRows, NarrowSums<kRows>>(t);
  } else {
    tile<kBits, kRows, Sums<kRows, kVectors>>(t);
  }
}

template <int kBits, int kVectors, int kMaxRows, bool kNarrow = false>
void run(const Tile& t, int rows) {
  switch (rows) {
#define CASE(R)                                                        \
  case R:                                                              \
    if constexpr (R <= kMaxRows) tile_of<kBits, R, kVectors, kNarrow>(t); \
    return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
  }
}

}  // namespace

#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) \
  void function(const Tile& t, int r) { run<bits, vectors, rows>(t, r); }
#define SUBBYTE_NARROW_KERNEL(isa, bits, rows, function) \
  void function(const Tile& t, int r) { run<bits, 2, rows, true>(t, r); }
#define SUBBYTE_ONLY_AVX512VNNI
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
