// AVX-512 VNNI + VBMI. vpdpbusd multiplies 4 u8 by 4 s8 in each of 16 lanes; the activation is a
// 4-byte broadcast from memory, the weights are a plain load.
//
// Tiles of up to 24 accumulators leave room for the weights, the broadcast and the decoder of narrow weights. With
// 8-bit weights and 2 or 3 vectors, small tiles of 12 (6 pixels x 32 outputs, 4 x 48) take turns in two banks of
// registers instead: what finishes one tile stands between the first dot products of the next. Behind its own, it
// fills the schedulers with instructions that wait for the last sums, and the dot product units of a Zen 5 idle for
// 40 cycles a tile.
//
// Kernels that skip are made of the same tiles and banks, 12 pixels x 16 outputs or 6 x 32, of every width of weights:
// a broadcast costs as much as a dot product, and with 12 of them to one load of weights and one of `kept` the dot
// products stay what a tile waits for.
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

  INLINE void start(const Tile& t, std::ptrdiff_t first_row) {
    const std::int32_t* resume = t.resume ? t.resume + 16 * kVectors * first_row : nullptr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i bias = _mm512_loadu_si512(t.bias + 16 * v);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        acc[r][v] = resume ? _mm512_load_si512(resume + 16 * (kVectors * r + v)) : bias;
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

  INLINE void finish(const Tile& t, std::ptrdiff_t first_row) const {
    if (t.suspend) {
      std::int32_t* suspend = t.suspend + 16 * kVectors * first_row;
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) _mm512_store_si512(suspend + 16 * (kVectors * r + v), acc[r][v]);
      }
      return;
    }
    const std::uint8_t* const* residual = t.residual ? t.residual + first_row : nullptr;
    finish_rows<kRows, kVectors>(acc, t.multiplier, *t.epilogue, t.out + first_row, residual, t.offset, t.channels);
  }
};

// The sums of kRows pixels x 24 outputs: 16 in a vector of each pixel, and 8 in half a vector, shared by two pixels.
template <int kRows>
struct NarrowSums {
  static constexpr int kWeights = 2, kPairs = (kRows + 1) / 2;
  __m512i whole[kRows], shared[kPairs];

  INLINE void start(const Tile& t, std::ptrdiff_t) {
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

  INLINE void finish(const Tile& t, std::ptrdiff_t first_row) const {
    switch (t.epilogue->finish) {
      case Finish::kClamp: return finish_as<Finish::kClamp>(t, t.out + first_row);
      case Finish::kTable: return finish_as<Finish::kTable>(t, t.out + first_row);
      case Finish::kResidual: return finish_as<Finish::kResidual>(t, t.out + first_row, t.residual + first_row);
      case Finish::kReal: return finish_as<Finish::kReal>(t, t.out + first_row);
    }
  }

  template <Finish kFinish>
  INLINE void finish_as(const Tile& t, std::uint8_t* const* out, const std::uint8_t* const* residual = nullptr) const {
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
        store_real(out[r], t.offset, valid, s0, _mm512_castps512_ps256(s2));
        if (other != r) store_real(out[other], t.offset, valid, s1, _mm512_extractf32x8_ps(s2, 1));
        continue;
      }
      if constexpr (kFinish == Finish::kResidual) {
        const std::uint8_t *a = residual[r] + t.offset, *b = residual[other] + t.offset;
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
      _mm256_mask_storeu_epi8(out[r] + t.offset, valid, _mm512_castsi512_si256(codes));
      if (other != r) _mm256_mask_storeu_epi8(out[other] + t.offset, valid, _mm512_extracti64x4_epi64(codes, 1));
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

template <int kBits>
INLINE __m512i broadcast_levels(const Tile& t) {
  if constexpr (kBits == 8) return _mm512_setzero_si512();
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t.levels)));
}

// Adds a whole pack of weights, at byte `at` of the operands.
template <int kBits, int kRows, class S>
INLINE void add_pack(S& sums, const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, const std::uint8_t* w,
                     __m512i levels, __m512i mask) {
  __m512i wv[S::kWeights];
  if constexpr (kBits == 8) {
#pragma GCC unroll 4
    for (int v = 0; v < S::kWeights; ++v) wv[v] = _mm512_loadu_si512(w + 64 * v);
    sums.add(x, at, wv);
  } else {
#pragma GCC unroll 4
    for (int j = 0; j < 8 / kBits; ++j) {
      decode<kBits>(wv, w, j, levels, mask);
      sums.add(x, at + 4 * j, wv);
    }
  }
}

// Adds the pack that a run ends in, used for bytes `at` to `bytes` only.
template <int kBits, int kRows, class S>
INLINE void add_rest(S& sums, const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, std::ptrdiff_t bytes,
                     const std::uint8_t* w, __m512i levels, __m512i mask) {
  if constexpr (kBits != 8) {
    for (int j = 0; at < bytes; ++j, at += 4) {
      __m512i wv[S::kWeights];
      const __m128i shift = _mm_cvtsi32_si128(kBits * j);
#pragma GCC unroll 4
      for (int v = 0; v < S::kWeights; ++v) {
        const __m512i codes = _mm512_srl_epi16(_mm512_loadu_si512(w + 64 * v), shift);
        wv[v] = _mm512_shuffle_epi8(levels, _mm512_and_si512(codes, mask));
      }
      sums.add(x, at, wv);
    }
  }
}

template <int kBits, int kRows, class S>
void tile(const Tile& t, std::ptrdiff_t first_row) {
  constexpr int kPack = 8 / kBits, kStride = 64 * S::kWeights;
  S sums;
  sums.start(t, first_row);
  const std::uint8_t* w = t.weights;
  const __m512i levels = broadcast_levels<kBits>(t);
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << kBits) - 1));
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + first_row + r] + t.skip;
    const std::ptrdiff_t bytes = 4 * static_cast<std::ptrdiff_t>(t.groups);
    std::ptrdiff_t at = 0;
    for (; at + 4 * kPack <= bytes; at += 4 * kPack, w += kStride) add_pack<kBits>(sums, x, at, w, levels, mask);
    if (at < bytes) {
      add_rest<kBits>(sums, x, at, bytes, w, levels, mask);
      w += kStride;
    }
  }
  sums.finish(t, first_row);
}

// Adds the kept groups of a run that lie in one pack; false behind the last one. Steps `kept` and `w` over them.
template <int kBits, int kRows, class S>
INLINE bool add_kept(S& sums, const std::uint8_t* const (&x)[kRows], const std::int32_t*& kept, const std::uint8_t*& w,
                     __m512i levels, __m512i mask) {
  constexpr int kStride = 64 * S::kWeights;
#pragma GCC unroll 4
  for (int j = 0; j < 8 / kBits; ++j) {
    const std::ptrdiff_t at = *kept++;
    if (at < 0) {
      if (j > 0) w += kStride;
      return false;
    }
    __m512i wv[S::kWeights];
    if constexpr (kBits == 8) {
#pragma GCC unroll 4
      for (int v = 0; v < S::kWeights; ++v) wv[v] = _mm512_loadu_si512(w + 64 * v);
    } else {
      decode<kBits>(wv, w, j, levels, mask);
    }
    sums.add(x, at, wv);
  }
  w += kStride;
  return true;
}

template <int kBits, int kRows, class S>
void sparse_tile(const Tile& t, std::ptrdiff_t first_row) {
  S sums;
  sums.start(t, first_row);
  const std::uint8_t* w = t.weights;
  const std::int32_t* kept = t.kept;
  const __m512i levels = broadcast_levels<kBits>(t);
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << kBits) - 1));
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + first_row + r];
    while (add_kept<kBits>(sums, x, kept, w, levels, mask)) {}
  }
  sums.finish(t, first_row);
}

template <int kBits, int kRows, int kVectors, bool kNarrow>
void tile_of(const Tile& t, std::ptrdiff_t first_row) {
  if constexpr (kNarrow) {
    tile<kBits, kRows, NarrowSums<kRows>>(t, first_row);
  } else {
    tile<kBits, kRows, Sums<kRows, kVectors>>(t, first_row);
  }
}

// What becomes of sums: one of Finish, or suspended.
enum class End { kClamp, kTable, kResidual, kReal, kSuspend };

// kCount (1, 2 or 3) neighbouring vectors of a row, from number kFrom of a pack's codes on.
template <int kFrom, int kCount>
INLINE void store_codes(std::uint8_t* out, __mmask64 valid, __m512i codes) {
  if constexpr (kCount == 1) {
    _mm_mask_storeu_epi8(out, static_cast<__mmask16>(valid), _mm512_extracti32x4_epi32(codes, kFrom));
  } else if constexpr (kCount == 2 && kFrom % 2 == 0) {
    _mm256_mask_storeu_epi8(out, static_cast<__mmask32>(valid), _mm512_extracti64x4_epi64(codes, kFrom / 2));
  } else {
    const __m512i moved = _mm512_alignr_epi64(codes, codes, 2 * kFrom);
    _mm512_mask_storeu_epi8(out, valid & ((static_cast<__mmask64>(1) << (16 * kCount)) - 1), moved);
  }
}

// Stores the codes of sums kFirst + kFrom and so on, a row at a time.
template <int kFirst, int kFrom, int kVectors>
INLINE void store_rows(std::uint8_t* const* out, std::ptrdiff_t offset, __mmask64 valid, __m512i codes) {
  if constexpr (kFrom < 4) {
    constexpr int kRow = (kFirst + kFrom) / kVectors, kVector = (kFirst + kFrom) % kVectors;
    constexpr int kCount = kVectors - kVector < 4 - kFrom ? kVectors - kVector : 4 - kFrom;
    store_codes<kFrom, kCount>(out[kRow] + offset + 16 * kVector, valid >> (16 * kVector), codes);
    store_rows<kFirst, kFrom + kCount, kVectors>(out, offset, valid, codes);
  }
}

// The sums of a small tile, [row][vector].
template <int kRows, int kVectors>
struct SmallSums {
  static constexpr int kWeights = kVectors;
  static_assert(kRows * kVectors == 12);
  __m512i acc[12];

  INLINE void start(const Tile& t, std::ptrdiff_t first_row) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i bias = _mm512_loadu_si512(t.bias + 16 * v);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[kVectors * r + v] = bias;
    }
    if (t.resume) {
#pragma GCC unroll 12
      for (int i = 0; i < 12; ++i) acc[i] = _mm512_load_si512(t.resume + 16 * (kVectors * first_row + i));
    }
  }

  INLINE void add(const std::uint8_t* const (&x)[kRows], std::ptrdiff_t at, const __m512i (&w)[kVectors]) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const __m512i xr = broadcast(x[r] + at);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) dot4(acc[kVectors * r + v], xr, w[v]);
    }
  }
};

// Four sums, from number 4 * kPack on, of the small tile at `first_row`, to memory.
template <End kEnd, int kPack, int kVectors>
INLINE void finish_pack(const Tile& t, std::ptrdiff_t first_row, const __m512i (&acc)[12]) {
  constexpr int kFirst = 4 * kPack;
  if constexpr (kEnd == End::kSuspend) {
#pragma GCC unroll 4
    for (int i = kFirst; i < kFirst + 4; ++i) _mm512_store_si512(t.suspend + 16 * (kVectors * first_row + i), acc[i]);
    return;
  }
  const Epilogue& e = *t.epilogue;
  const __mmask64 valid = first(t.channels);
  __m512 s[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int row = (kFirst + i) / kVectors, v = (kFirst + i) % kVectors;
    __m512i sum = acc[kFirst + i];
    asm volatile("" : "+v"(sum));  // or GCC converts all of them before the loop that this stands in
    s[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_loadu_ps(t.multiplier + 16 * v));
    if constexpr (kEnd == End::kReal) {
      _mm512_mask_storeu_ps(reinterpret_cast<float*>(t.out[first_row + row]) + t.offset + 16 * v,
                            static_cast<__mmask16>(valid >> (16 * v)), s[i]);
    }
    if constexpr (kEnd == End::kResidual) {
      s[i] = _mm512_add_ps(s[i], residual16(t.residual[first_row + row] + t.offset + 16 * v,
                                            _mm512_set1_epi32(e.residual_zero), _mm512_set1_ps(e.residual_factor)));
    }
  }
  if constexpr (kEnd == End::kReal) return;
  __m512i codes = natural_order(pack_codes(s[0], s[1], s[2], s[3], _mm512_set1_epi16(static_cast<short>(e.zero))));
  if constexpr (kEnd == End::kTable) {
    codes = look_up(load_table(e.table), codes);
  } else {
    codes = _mm512_min_epu8(codes, _mm512_set1_epi8(static_cast<char>(e.high)));
    codes = _mm512_max_epu8(codes, _mm512_set1_epi8(static_cast<char>(e.low)));
  }
  store_rows<kFirst, 0, kVectors>(t.out + first_row, t.offset, valid, codes);
}

template <End kEnd, int kVectors>
INLINE void finish_bank(const Tile& t, std::ptrdiff_t first_row, const __m512i (&acc)[12]) {
  finish_pack<kEnd, 0, kVectors>(t, first_row, acc);
  finish_pack<kEnd, 1, kVectors>(t, first_row, acc);
  finish_pack<kEnd, 2, kVectors>(t, first_row, acc);
}

// The sums of the small tile at `first_row`; meanwhile the other bank's, if they are `pending`, are finished.
template <End kEnd, int kRows, int kVectors>
INLINE void make_bank(const Tile& t, std::ptrdiff_t first_row, SmallSums<kRows, kVectors>& sums, bool pending,
                      std::ptrdiff_t other_row, const SmallSums<kRows, kVectors>& other) {
  constexpr int kStride = 64 * kVectors;
  constexpr std::ptrdiff_t kBetween = 8;  // bytes of input between packs of the other bank: two groups
  const __m512i none = _mm512_setzero_si512();
  sums.start(t, first_row);
  const std::ptrdiff_t bytes = 4 * static_cast<std::ptrdiff_t>(t.groups);
  const std::uint8_t* w = t.weights;
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + first_row + r] + t.skip;
    std::ptrdiff_t at = 0;
    if (pending && run == 0) {
      for (; at < kBetween && at < bytes; at += 4, w += kStride) add_pack<8>(sums, x, at, w, none, none);
      finish_pack<kEnd, 0, kVectors>(t, other_row, other.acc);
      for (; at < 2 * kBetween && at < bytes; at += 4, w += kStride) add_pack<8>(sums, x, at, w, none, none);
      finish_pack<kEnd, 1, kVectors>(t, other_row, other.acc);
      for (; at < 3 * kBetween && at < bytes; at += 4, w += kStride) add_pack<8>(sums, x, at, w, none, none);
      finish_pack<kEnd, 2, kVectors>(t, other_row, other.acc);
    }
    for (; at < bytes; at += 4, w += kStride) add_pack<8>(sums, x, at, w, none, none);
  }
}

// The same of weights that are sparse.
template <End kEnd, int kBits, int kRows, int kVectors>
INLINE void make_sparse_bank(const Tile& t, std::ptrdiff_t first_row, SmallSums<kRows, kVectors>& sums, bool pending,
                             std::ptrdiff_t other_row, const SmallSums<kRows, kVectors>& other) {
  const __m512i levels = broadcast_levels<kBits>(t);
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << kBits) - 1));
  sums.start(t, first_row);
  const std::uint8_t* w = t.weights;
  const std::int32_t* kept = t.kept;
  for (int run = 0; run < t.runs; ++run) {
    const std::uint8_t* x[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) x[r] = t.in[run * t.in_stride + first_row + r];
    bool more = true;
    if (pending && run == 0) {
      constexpr int kBetween = kBits == 2 ? 1 : 2;  // packs
      for (int i = 0; i < kBetween && more; ++i) more = add_kept<kBits>(sums, x, kept, w, levels, mask);
      finish_pack<kEnd, 0, kVectors>(t, other_row, other.acc);
      for (int i = 0; i < kBetween && more; ++i) more = add_kept<kBits>(sums, x, kept, w, levels, mask);
      finish_pack<kEnd, 1, kVectors>(t, other_row, other.acc);
      for (int i = 0; i < kBetween && more; ++i) more = add_kept<kBits>(sums, x, kept, w, levels, mask);
      finish_pack<kEnd, 2, kVectors>(t, other_row, other.acc);
    }
    while (more) more = add_kept<kBits>(sums, x, kept, w, levels, mask);
  }
}

// `tiles` small tiles, one below the other.
template <End kEnd, int kBits, int kRows, int kVectors>
void make_sparse_banks(const Tile& t, int tiles) {
  const std::size_t slice = fetch_slice(t.ahead_bytes, tiles);
  SmallSums<kRows, kVectors> a, b;
  std::ptrdiff_t row_a = 0, row_b = 0;
  for (int i = 0;;) {
    fetch(t.ahead + static_cast<std::size_t>(i) * slice, slice);
    row_a = i * kRows;
    make_sparse_bank<kEnd, kBits>(t, row_a, a, i > 0, row_b, b);
    if (++i == tiles) return finish_bank<kEnd, kVectors>(t, row_a, a.acc);
    fetch(t.ahead + static_cast<std::size_t>(i) * slice, slice);
    row_b = i * kRows;
    make_sparse_bank<kEnd, kBits>(t, row_b, b, true, row_a, a);
    if (++i == tiles) return finish_bank<kEnd, kVectors>(t, row_b, b.acc);
  }
}

template <int kBits, int kRows, int kVectors>
void make_sparse_banks(const Tile& t, int tiles) {
  switch (t.epilogue->finish) {
    case Finish::kClamp: return make_sparse_banks<End::kClamp, kBits, kRows, kVectors>(t, tiles);
    case Finish::kTable: return make_sparse_banks<End::kTable, kBits, kRows, kVectors>(t, tiles);
    case Finish::kResidual: return make_sparse_banks<End::kResidual, kBits, kRows, kVectors>(t, tiles);
    case Finish::kReal: return make_sparse_banks<End::kReal, kBits, kRows, kVectors>(t, tiles);
  }
}

// `tiles` small tiles, one below the other.
template <End kEnd, int kRows, int kVectors>
void make_banks(const Tile& t, int tiles) {
  const std::size_t slice = fetch_slice(t.ahead_bytes, tiles);
  SmallSums<kRows, kVectors> a, b;
  std::ptrdiff_t row_a = 0, row_b = 0;
  for (int i = 0;;) {
    fetch(t.ahead + static_cast<std::size_t>(i) * slice, slice);
    row_a = i * kRows;
    make_bank<kEnd>(t, row_a, a, i > 0, row_b, b);
    if (++i == tiles) return finish_bank<kEnd, kVectors>(t, row_a, a.acc);
    fetch(t.ahead + static_cast<std::size_t>(i) * slice, slice);
    row_b = i * kRows;
    make_bank<kEnd>(t, row_b, b, true, row_a, a);
    if (++i == tiles) return finish_bank<kEnd, kVectors>(t, row_b, b.acc);
  }
}

template <int kRows, int kVectors>
void make_banks(const Tile& t, int tiles) {
  if (t.suspend) return make_banks<End::kSuspend, kRows, kVectors>(t, tiles);
  switch (t.epilogue->finish) {
    case Finish::kClamp: return make_banks<End::kClamp, kRows, kVectors>(t, tiles);
    case Finish::kTable: return make_banks<End::kTable, kRows, kVectors>(t, tiles);
    case Finish::kResidual: return make_banks<End::kResidual, kRows, kVectors>(t, tiles);
    case Finish::kReal: return make_banks<End::kReal, kRows, kVectors>(t, tiles);
  }
}

// Up to kTileRows rows, by a tile of their own.
template <int kBits, int kVectors, int kTileRows, bool kNarrow>
void run_tile(const Tile& t, std::ptrdiff_t first_row, int rows) {
  switch (rows) {
#define CASE(R)                                                                      \
  case R:                                                                            \
    if constexpr (R <= kTileRows) tile_of<kBits, R, kVectors, kNarrow>(t, first_row); \
    return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#undef CASE
  }
}

template <int kBits, int kVectors>
void run_sparse(const Tile& t, int rows) {
  constexpr int kRows = 12 / kVectors;
  const int done = rows / kRows * kRows;
  if (done > 0) make_sparse_banks<kBits, kRows, kVectors>(t, done / kRows);
  switch (rows - done) {
#define CASE(R)                                                                               \
  case R:                                                                                     \
    if constexpr (R < kRows) sparse_tile<kBits, R, Sums<R, kVectors>>(t, done);                \
    return;
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11)
#undef CASE
  }
}

template <int kBits, int kOutputs, int kMost, unsigned kTraits>
void run(const Tile& t, int rows) {
  if constexpr ((kTraits & kSkips) != 0) return run_sparse<kBits, kOutputs / 16>(t, rows);
  if constexpr (kOutputs % 16 != 0) return run_tile<kBits, 2, kMost, true>(t, 0, rows);
  constexpr int kVectors = kOutputs / 16;
  int done = 0;
  if constexpr ((kTraits & kSmallTiles) != 0 && (kVectors == 2 || kVectors == 3)) {
    constexpr int kRows = 12 / kVectors;
    if (t.runs * t.groups >= kLongEnough) done = rows / kRows * kRows;
    const int rest = rows - done;
    if (rest > 0 && rest * kVectors < 8 && done > 0) done -= kRows;  // fewer sums do not keep the units busy
    if (done > 0) make_banks<kRows, kVectors>(t, done / kRows);
  }
  if (done == rows) return;
  // The rest, in tiles of nearly equal height: `tall` of them have one row more.
  constexpr int kTileRows = kVectors == 4 ? 6 : kVectors == 3 ? 8 : 12;
  const int tiles = (rows - done + kTileRows - 1) / kTileRows;
  const int height = (rows - done) / tiles, tall = (rows - done) % tiles;
  const std::size_t slice = done > 0 ? 0 : fetch_slice(t.ahead_bytes, tiles);
  for (int i = 0; i < tiles; ++i) {
    const int n = i < tall ? height + 1 : height;
    fetch(t.ahead + static_cast<std::size_t>(i) * slice, slice);
    run_tile<kBits, kVectors, kTileRows, false>(t, done, n);
    done += n;
  }
}

}  // namespace

#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { run<format.bits, outputs, rows, traits>(t, r); }
#define SUBBYTE_ONLY_AVX512VNNI
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
