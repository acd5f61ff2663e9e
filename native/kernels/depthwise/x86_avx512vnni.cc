// Depthwise convolution for AVX-512 VNNI: 64 channels at a time.
//
// vpdpbusd wants 4 products of one channel side by side: 4 neighbouring pixels of 64 channels are
// transposed by two rounds of unpacks into 4 vectors, whose dwords hold pixels 0..3 of a channel. Such a
// window serves k_w taps; with stride 1 it serves two output pixels, the second with its taps shifted by
// one byte (5-wide filters: two windows serve four pixels). Vector j, 128-bit lane l, dword i is channel 16 l + 4 j + i: what the pack instructions of
// the epilogue turn into natural order for free.
//
// Packed, per block of 64 channels, all in that order: bias [4][16], multiplier [4][16], then
// [k_h][window][shift][4 vectors] x 64 bytes.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/x86_avx512_epilogue.h"

namespace subbyte::depthwise {
namespace {

#define INLINE inline __attribute__((always_inline))

constexpr int kBlock = 64;
int shifts(const Shape& s) { return s.stride != 1 ? 1 : s.kernel_w == 5 ? 4 : 2; }
int windows(const Shape& s) { return (s.kernel_w + shifts(s) - 1 + 3) / 4; }
std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_h) * windows(s) * shifts(s) * 256;
}

INLINE void dot4(__m512i& acc, __m512i x, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
}

// Two neighbouring pixels, interleaved by bytes: the first round.
struct Pair {
  __m512i low, high;
};

INLINE Pair load_pair(const std::uint8_t* p, std::ptrdiff_t pixel) {
  const __m512i p0 = _mm512_loadu_si512(p), p1 = _mm512_loadu_si512(p + pixel);
  return {_mm512_unpacklo_epi8(p0, p1), _mm512_unpackhi_epi8(p0, p1)};
}

// Two pairs to a window: the second round.
INLINE void make_window(const Pair& a, const Pair& b, __m512i (&q)[4]) {
  q[0] = _mm512_unpacklo_epi16(a.low, b.low);
  q[1] = _mm512_unpackhi_epi16(a.low, b.low);
  q[2] = _mm512_unpacklo_epi16(a.high, b.high);
  q[3] = _mm512_unpackhi_epi16(a.high, b.high);
}

template <int kShifts>
INLINE void accumulate(__m512i (&acc)[kShifts][4], const __m512i (&q)[4], const std::uint8_t* w) {
#pragma GCC unroll 4
  for (int t = 0; t < kShifts; ++t) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) dot4(acc[t][j], q[j], _mm512_loadu_si512(w + 256 * t + 64 * j));
  }
}

INLINE __m512i codes_of(const __m512i (&acc)[4], const __m512 (&m)[4], __m512i zero16) {
  return pack_codes(_mm512_mul_ps(_mm512_cvtepi32_ps(acc[0]), m[0]), _mm512_mul_ps(_mm512_cvtepi32_ps(acc[1]), m[1]),
                    _mm512_mul_ps(_mm512_cvtepi32_ps(acc[2]), m[2]), _mm512_mul_ps(_mm512_cvtepi32_ps(acc[3]), m[3]),
                    zero16);
}

// What every pixel of a block of channels shares.
template <bool kTable>
struct Finisher {
  __mmask64 valid;
  __m512i zero16, low, high;
  __m512 m[4];
  Table table;

  INLINE Finisher(const Shape& s, const std::uint8_t* packed, const Epilogue& e, int c0)
      : valid(first(s.channels - c0)), zero16(_mm512_set1_epi16(static_cast<short>(e.zero))),
        low(_mm512_set1_epi8(static_cast<char>(e.low))), high(_mm512_set1_epi8(static_cast<char>(e.high))) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) m[j] = _mm512_loadu_ps(packed + 4 * kBlock + 64 * j);
    if constexpr (kTable) table = load_table(e.table);
  }

  INLINE void store(const __m512i (&acc)[4], std::uint8_t* out) const {
    __m512i codes = codes_of(acc, m, zero16);
    if constexpr (kTable) {
      codes = look_up(table, codes);
    } else {
      codes = _mm512_max_epu8(_mm512_min_epu8(codes, high), low);
    }
    _mm512_mask_storeu_epi8(out, valid, codes);
  }
};

template <int kShifts>
INLINE void start(__m512i (&acc)[kShifts][4], const std::uint8_t* packed) {
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 4
    for (int t = 0; t < kShifts; ++t) acc[t][j] = _mm512_loadu_si512(packed + 64 * j);
  }
}

// Any filter, kShifts output pixels per step. kHeight and kWindows may be 0 for "as in the shape".
template <bool kTable, int kShifts, int kHeight, int kWindows>
void block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0) {
  const int height = kHeight ? kHeight : s.kernel_h, count = kWindows ? kWindows : windows(s);
  const Finisher<kTable> finisher(s, packed, *row.epilogue, c0);
  for (int x = 0; x < row.width; x += kShifts) {
    __m512i acc[kShifts][4];
    start(acc, packed);
    const std::uint8_t* w = packed + 8 * kBlock;
    const std::ptrdiff_t left = x * s.stride * row.in_pixel + c0;
#pragma GCC unroll 5
    for (int ky = 0; ky < height; ++ky) {
#pragma GCC unroll 2
      for (int i = 0; i < count; ++i, w += 256 * kShifts) {
        __m512i q[4];
        const std::uint8_t* p = row.in[ky] + left + 4 * i * row.in_pixel;
        make_window(load_pair(p, row.in_pixel), load_pair(p + 2 * row.in_pixel, row.in_pixel), q);
        accumulate(acc, q, w);
      }
    }
    std::uint8_t* out = row.out + x * row.out_pixel + c0;
#pragma GCC unroll 4
    for (int t = 0; t < kShifts; ++t) {
      if (x + t < row.width) finisher.store(acc[t], out + t * row.out_pixel);
    }
  }
}

// 3 x 3: windows of neighbouring steps overlap by a pair of pixels, which is kept.
template <bool kTable, int kShifts>
void block3x3(const Shape& s, const std::uint8_t* packed, const Row& row, int c0) {
  const Finisher<kTable> finisher(s, packed, *row.epilogue, c0);
  const std::uint8_t* in[3] = {row.in[0] + c0, row.in[1] + c0, row.in[2] + c0};
  Pair kept[3];
#pragma GCC unroll 3
  for (int ky = 0; ky < 3; ++ky) kept[ky] = load_pair(in[ky], row.in_pixel);
  std::ptrdiff_t at = 2 * row.in_pixel;
  for (int x = 0; x < row.width; x += kShifts, at += 2 * row.in_pixel) {
    __m512i acc[kShifts][4];
    start(acc, packed);
    const std::uint8_t* w = packed + 8 * kBlock;
#pragma GCC unroll 3
    for (int ky = 0; ky < 3; ++ky, w += 256 * kShifts) {
      __m512i q[4];
      const Pair next = load_pair(in[ky] + at, row.in_pixel);
      make_window(kept[ky], next, q);
      kept[ky] = next;
      accumulate(acc, q, w);
    }
    std::uint8_t* out = row.out + x * row.out_pixel + c0;
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) {
      if (x + t < row.width) finisher.store(acc[t], out + t * row.out_pixel);
    }
  }
}

template <bool kTable>
void dispatch(const Shape& s, const std::uint8_t* packed, const Row& row, int c0) {
  if (s.stride == 1) {
    if (s.kernel_h == 3 && s.kernel_w == 3) return block3x3<kTable, 2>(s, packed, row, c0);
    if (s.kernel_h == 5 && s.kernel_w == 5) return block<kTable, 4, 5, 2>(s, packed, row, c0);
    if (s.kernel_w == 5) return block<kTable, 4, 0, 0>(s, packed, row, c0);
    return block<kTable, 2, 0, 0>(s, packed, row, c0);
  }
  if (s.stride == 2 && s.kernel_h == 3 && s.kernel_w == 3) return block3x3<kTable, 1>(s, packed, row, c0);
  if (s.kernel_h == 5 && s.kernel_w == 5) return block<kTable, 1, 5, 2>(s, packed, row, c0);
  return block<kTable, 1, 0, 0>(s, packed, row, c0);
}

}  // namespace

std::size_t depthwise_u8s8_avx512vnni_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

void depthwise_u8s8_avx512vnni_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  __builtin_memset(packed, 0, depthwise_u8s8_avx512vnni_bytes(s));
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* b = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    const int in = c % kBlock, j = in % 16 / 4, dword = in / 16 * 4 + in % 4;
    reinterpret_cast<std::int32_t*>(b)[16 * j + dword] = w.bias[c];
    reinterpret_cast<float*>(b)[kBlock + 16 * j + dword] = w.multiplier[c];
    std::uint8_t* out = b + 8 * kBlock + 64 * j + 4 * dword;
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      for (int i = 0; i < windows(s); ++i) {
        for (int t = 0; t < shifts(s); ++t, out += 256) {
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

void depthwise_u8s8_avx512vnni_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const std::size_t bytes = block_bytes(s);
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += bytes) {
    if (row.epilogue->finish == Finish::kTable) {
      dispatch<true>(s, packed, row, c0);
    } else {
      dispatch<false>(s, packed, row, c0);
    }
  }
}

}  // namespace subbyte::depthwise
