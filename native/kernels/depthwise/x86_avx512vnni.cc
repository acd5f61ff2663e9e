// Depthwise convolution for AVX-512 VNNI: 64 channels at a time.
//
// vpdpbusd wants 4 products of one channel side by side: 4 neighbouring pixels of 64 channels are
// transposed by two rounds of unpacks into a window of 4 vectors, whose dwords hold pixels 0..3 of a channel.
// A window serves as many output pixels as its bytes allow, each with its taps shifted to other bytes: 3 wide
// filters take a window every two pixels, 5 wide ones two neighbouring windows per output. Vector j, 128-bit
// lane l, dword i is channel 16 l + 4 j + i: what the pack instructions of the epilogue turn into natural order
// for free.
//
// Loads are what binds, and most of them are weights: a step makes as many output pixels as 16 accumulators
// allow. 5 wide filters of stride 1 do so for half of the vectors, and then for the other.
//
// The last block of channels, where half of it would be empty, works on two pieces of the row at a time: its
// weights lie in both halves of the vectors. Of an odd number of output pixels both pieces make the middle one.
//
// Packed, per block of 64 channels, all in that order: bias [4][16], multiplier [4][16], then
// [k_h][window][shift][4 vectors] x 64 bytes.
#include <immintrin.h>

#include "kernels/depthwise/depthwise.h"
#include "kernels/sanitizer.h"
#include "kernels/x86_avx512_epilogue.h"

namespace subbyte::depthwise {
namespace {

#define INLINE inline __attribute__((always_inline))

constexpr int kBlock = 64;
// Output pixels that share a window; their taps lie `stride` bytes apart.
int shifts(const Shape& s) { return s.kernel_w == 5 && s.stride <= 2 ? 4 / s.stride : s.stride == 1 ? 2 : 1; }
int windows(const Shape& s) { return (s.kernel_w + (shifts(s) - 1) * s.stride + 3) / 4; }
std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_h) * windows(s) * shifts(s) * 256;
}
bool half_empty(const Shape& s, int c0) { return s.channels - c0 <= kBlock / 2; }

INLINE void dot4(__m512i& acc, __m512i x, __m512i w) {
  asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
}

// A load that happens once: GCC repeats plain ones, as operands of every instruction that uses the value.
INLINE __m512i load_once(const void* p) {
  announce_read(p, sizeof(__m512i));
  __m512i v;
  asm("vmovdqu64 %1, %0" : "=v"(v) : "m"(*static_cast<const __m512i_u*>(p)));
  return v;
}

// A block of channels of one row. kTwo: the lower halves of all vectors belong to pixels of the
// row's left piece, the upper ones to their partners in the right piece.
template <Finish kFinish, bool kTwo>
class Block {
  static constexpr bool kReal = kFinish == Finish::kReal, kTable = kFinish == Finish::kTable;

 public:
  INLINE Block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0)
      : height_(s.kernel_h), stride_(s.stride), packed_(packed), in_(row.in), in_pixel_(row.in_pixel), c0_(c0),
        out_(row.out + (kReal ? sizeof(float) : 1) * static_cast<std::size_t>(c0)), out_pixel_(row.out_pixel), width_(kTwo ? (row.width + 1) / 2 : row.width),
        valid_(first(s.channels - c0)), zero16_(_mm512_set1_epi16(static_cast<short>(row.epilogue->zero))),
        low_(_mm512_set1_epi8(static_cast<char>(row.epilogue->low))),
        high_(_mm512_set1_epi8(static_cast<char>(row.epilogue->high))) {
    if constexpr (kTwo) {
      const std::ptrdiff_t begin = row.width - width_;  // of the right piece, in output pixels
      right_ = begin * s.stride * row.in_pixel, right_out_ = begin * row.out_pixel;
    }
    if constexpr (kTable) table_ = load_table(row.epilogue->table);
  }

  int width() const { return width_; }  // output pixels to be made, partners not counted
  int height() const { return height_; }

  INLINE __m512i bias(int j) const { return _mm512_loadu_si512(packed_ + 64 * j); }
  INLINE const std::uint8_t* weights() const { return packed_ + 8 * kBlock; }

  // Row ky, leftmost tap of output pixel x; pixels from there.
  INLINE const std::uint8_t* input(int ky, int x) const { return in_[ky] + x * stride_ * in_pixel_ + c0_; }

  // Pixels 2 i and 2 i + 1, interleaved by bytes: the first round.
  struct Pair {
    __m512i low, high;
  };
  INLINE Pair load_pair(const std::uint8_t* p, int i) const {
    const __m512i p0 = load(p + 2 * i * in_pixel_), p1 = load(p + (2 * i + 1) * in_pixel_);
    return {_mm512_unpacklo_epi8(p0, p1), _mm512_unpackhi_epi8(p0, p1)};
  }

  // Vector j of the window of two pairs: the second round.
  static INLINE __m512i window(const Pair& a, const Pair& b, int j) {
    const __m512i x = j < 2 ? a.low : a.high, y = j < 2 ? b.low : b.high;
    return j % 2 == 0 ? _mm512_unpacklo_epi16(x, y) : _mm512_unpackhi_epi16(x, y);
  }

  INLINE __m512 scaled(__m512i acc, int j) const {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(packed_ + 4 * kBlock + 64 * j));
  }
  INLINE __m512i pack(__m512 a, __m512 b, __m512 c, __m512 d) const { return pack_codes(a, b, c, d, zero16_); }

  // Output pixel x from the sums of its four vectors.
  INLINE void finish(const __m512i (&acc)[4], int x) const {
    const __m512 v[4] = {scaled(acc[0], 0), scaled(acc[1], 1), scaled(acc[2], 2), scaled(acc[3], 3)};
    if constexpr (kReal) {
      store_reals(v, x);
    } else {
      store(pack(v[0], v[1], v[2], v[3]), x);
    }
  }

  // float32 of output pixel x: lane l of all vectors are channels 16 l .. 16 l + 15.
  INLINE void store_reals(const __m512 (&v)[4], int x) const {
    if (x >= width_) return;
    const __m512 low[2] = {_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0x44)};
    const __m512 high[2] = {_mm512_shuffle_f32x4(v[0], v[1], 0xEE), _mm512_shuffle_f32x4(v[2], v[3], 0xEE)};
    const __m512 lanes[4] = {_mm512_shuffle_f32x4(low[0], low[1], 0x88), _mm512_shuffle_f32x4(low[0], low[1], 0xDD),
                             _mm512_shuffle_f32x4(high[0], high[1], 0x88),
                             _mm512_shuffle_f32x4(high[0], high[1], 0xDD)};
    std::uint8_t* out = out_ + x * out_pixel_;
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) {
      const int at = kTwo ? l % 2 : l;
      auto* to = reinterpret_cast<float*>(kTwo && l > 1 ? out + right_out_ : out) + 16 * at;
      _mm512_mask_storeu_ps(to, static_cast<__mmask16>(valid_ >> (16 * at)), lanes[l]);
    }
  }

  // Packed codes of 64 channels of output pixel x, in natural order.
  INLINE void store(__m512i codes, int x) const {
    if (x >= width_) return;
    if constexpr (kTable) {
      codes = look_up(table_, codes);
    } else {
      codes = _mm512_max_epu8(_mm512_min_epu8(codes, high_), low_);
    }
    std::uint8_t* out = out_ + x * out_pixel_;
    if constexpr (kTwo) {
      const auto valid = static_cast<__mmask32>(valid_);
      _mm256_mask_storeu_epi8(out, valid, _mm512_castsi512_si256(codes));
      _mm256_mask_storeu_epi8(out + right_out_, valid, _mm512_extracti64x4_epi64(codes, 1));
    } else {
      _mm512_mask_storeu_epi8(out, valid_, codes);
    }
  }

 private:
  INLINE __m512i load(const std::uint8_t* p) const {
    if constexpr (!kTwo) return load_once(p);
    const __m512i left = _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_inserti64x4(left, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + right_)), 1);
  }

  int height_, stride_;
  const std::uint8_t* packed_;
  const std::uint8_t* const* in_;
  std::ptrdiff_t in_pixel_, c0_;
  std::uint8_t* out_;
  std::ptrdiff_t out_pixel_;
  int width_;
  std::ptrdiff_t right_ = 0, right_out_ = 0;
  __mmask64 valid_;
  __m512i zero16_, low_, high_;
  Table table_;
};

// 3 wide, outputs x .. x + kWindows * kShifts - 1: a window every two pixels, kShifts outputs from each.
template <int kWindows, int kShifts, class B>
INLINE void step3(const B& b, int x) {
  __m512i acc[kWindows * kShifts][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 4
    for (int o = 0; o < kWindows * kShifts; ++o) acc[o][j] = b.bias(j);
  }
  const std::uint8_t* w = b.weights();
  for (int ky = 0; ky < b.height(); ++ky, w += 256 * kShifts) {
    const std::uint8_t* p = b.input(ky, x);
    typename B::Pair pair[kWindows + 1];
#pragma GCC unroll 5
    for (int i = 0; i <= kWindows; ++i) pair[i] = b.load_pair(p, i);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      __m512i taps[kShifts];
#pragma GCC unroll 2
      for (int t = 0; t < kShifts; ++t) taps[t] = load_once(w + 256 * t + 64 * j);
#pragma GCC unroll 4
      for (int i = 0; i < kWindows; ++i) {
        const __m512i q = B::window(pair[i], pair[i + 1], j);
#pragma GCC unroll 2
        for (int t = 0; t < kShifts; ++t) dot4(acc[kShifts * i + t][j], q, taps[t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kWindows * kShifts; ++o) b.finish(acc[o], x + o);
}

// Sums of vectors kFirst .. kFirst + kVectors - 1, 5 wide: a window every four pixels, kShifts outputs begin in each
// and end in the next.
template <int kWindows, int kShifts, int kFirst, int kVectors, class B>
INLINE void sums5(const B& b, int x, __m512i (&acc)[kWindows * kShifts][kVectors]) {
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
    for (int o = 0; o < kWindows * kShifts; ++o) acc[o][v] = b.bias(kFirst + v);
  }
  const std::uint8_t* w = b.weights();
  for (int ky = 0; ky < b.height(); ++ky, w += 512 * kShifts) {
    const std::uint8_t* p = b.input(ky, x);
    typename B::Pair pair[2 * kWindows + 2];
#pragma GCC unroll 6
    for (int i = 0; i < 2 * kWindows + 2; ++i) pair[i] = b.load_pair(p, i);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      __m512i q[kWindows + 1];
#pragma GCC unroll 3
      for (int i = 0; i <= kWindows; ++i) q[i] = B::window(pair[2 * i], pair[2 * i + 1], kFirst + v);
#pragma GCC unroll 4
      for (int t = 0; t < kShifts; ++t) {
        const std::uint8_t* taps = w + 256 * t + 64 * (kFirst + v);
        const __m512i begin = load_once(taps), end = load_once(taps + 256 * kShifts);
#pragma GCC unroll 2
        for (int i = 0; i < kWindows; ++i) {
          dot4(acc[kShifts * i + t][v], q[i], begin);
          dot4(acc[kShifts * i + t][v], q[i + 1], end);
        }
      }
    }
  }
}

template <int kWindows, int kShifts, class B>
INLINE void step5(const B& b, int x) {
  constexpr int kOutputs = kWindows * kShifts;
  if constexpr (kOutputs <= 4) {
    __m512i acc[kOutputs][4];
    sums5<kWindows, kShifts, 0, 4>(b, x, acc);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; ++o) b.finish(acc[o], x + o);
  } else {
    // Each pack holds half of the channels of two outputs, 8 bytes of one and 8 of the other in turn.
    __m512i acc[kOutputs][2], half[kOutputs / 2];
    sums5<kWindows, kShifts, 0, 2>(b, x, acc);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; o += 2) {
      half[o / 2] = b.pack(b.scaled(acc[o][0], 0), b.scaled(acc[o][1], 1), b.scaled(acc[o + 1][0], 0),
                           b.scaled(acc[o + 1][1], 1));
    }
    sums5<kWindows, kShifts, 2, 2>(b, x, acc);
#pragma GCC unroll 4
    for (int o = 0; o < kOutputs; o += 2) {
      const __m512i other = b.pack(b.scaled(acc[o][0], 2), b.scaled(acc[o][1], 3), b.scaled(acc[o + 1][0], 2),
                                   b.scaled(acc[o + 1][1], 3));
      b.store(_mm512_unpacklo_epi64(half[o / 2], other), x + o);
      b.store(_mm512_unpackhi_epi64(half[o / 2], other), x + o + 1);
    }
  }
}

// Any filter, kShifts outputs from the same `count` windows.
template <int kShifts, class B>
INLINE void step_any(const B& b, int x, int count) {
  __m512i acc[kShifts][4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) acc[t][j] = b.bias(j);
  }
  const std::uint8_t* w = b.weights();
  for (int ky = 0; ky < b.height(); ++ky) {
    for (int i = 0; i < count; ++i, w += 256 * kShifts) {
      const std::uint8_t* p = b.input(ky, x);
      const typename B::Pair a = b.load_pair(p, 2 * i), c = b.load_pair(p, 2 * i + 1);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i q = B::window(a, c, j);
#pragma GCC unroll 2
        for (int t = 0; t < kShifts; ++t) dot4(acc[t][j], q, _mm512_loadu_si512(w + 256 * t + 64 * j));
      }
    }
  }
#pragma GCC unroll 2
  for (int t = 0; t < kShifts; ++t) b.finish(acc[t], x + t);
}

// The steps of a row: long ones, and a short one where few outputs are left. They read up to 4 pixels past the last
// output's taps, whatever the stride: the rest of its windows, where strides of 1 or 2 have an output that is not stored.
template <Finish kFinish, bool kTwo>
void block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0) {
  const Block<kFinish, kTwo> b(s, packed, row, c0);
  const int width = b.width();
  int x = 0;
  if (s.kernel_w == 3 && s.stride == 1) {
    for (; x < width - 2; x += 4) step3<2, 2>(b, x);
    for (; x < width; x += 2) step3<1, 2>(b, x);
  } else if (s.kernel_w == 3 && s.stride == 2) {
    for (; x < width - 2; x += 4) step3<4, 1>(b, x);
    for (; x < width; x += 2) step3<2, 1>(b, x);
  } else if (s.kernel_w == 5 && s.stride == 1) {
    if constexpr (kFinish != Finish::kReal) {  // which packs half of the channels at a time
      for (; x < width - 4; x += 8) step5<2, 4>(b, x);
    }
    for (; x < width; x += 4) step5<1, 4>(b, x);
  } else if (s.kernel_w == 5 && s.stride == 2) {
    for (; x < width - 2; x += 4) step5<2, 2>(b, x);
    for (; x < width; x += 2) step5<1, 2>(b, x);
  } else if (s.stride == 1) {
    for (; x < width; x += 2) step_any<2>(b, x, windows(s));
  } else {
    for (; x < width; ++x) step_any<1>(b, x, windows(s));
  }
}

template <Finish kFinish>
void blocks(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const std::size_t bytes = block_bytes(s);
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += bytes) {
    if (half_empty(s, c0) && row.width > 4) {
      block<kFinish, true>(s, packed, row, c0);
    } else {
      block<kFinish, false>(s, packed, row, c0);
    }
  }
}

}  // namespace

std::size_t depthwise_u8s8_avx512vnni_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

void depthwise_u8s8_avx512vnni_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  __builtin_memset(packed, 0, depthwise_u8s8_avx512vnni_bytes(s));
  const auto put = [&](int c, std::uint8_t* b, int in) {
    const int j = in % 16 / 4, dword = in / 16 * 4 + in % 4;
    reinterpret_cast<std::int32_t*>(b)[16 * j + dword] = w.bias[c];
    reinterpret_cast<float*>(b)[kBlock + 16 * j + dword] = w.multiplier[c];
    std::uint8_t* out = b + 8 * kBlock + 64 * j + 4 * dword;
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      for (int i = 0; i < windows(s); ++i) {
        for (int t = 0; t < shifts(s); ++t, out += 256) {
          for (int byte = 0; byte < 4; ++byte) {
            const int kx = 4 * i + byte - t * s.stride;
            if (kx < 0 || kx >= s.kernel_w) continue;
            out[byte] = static_cast<std::uint8_t>(
                w.taps[static_cast<std::size_t>(ky * s.kernel_w + kx) * s.channels + c]);
          }
        }
      }
    }
  };
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* b = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    put(c, b, c % kBlock);
    if (half_empty(s, c / kBlock * kBlock)) put(c, b, c % kBlock + kBlock / 2);
  }
}

void depthwise_u8s8_avx512vnni_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  switch (row.epilogue->finish) {
    case Finish::kTable: return blocks<Finish::kTable>(s, packed, row);
    case Finish::kReal: return blocks<Finish::kReal>(s, packed, row);
    default: return blocks<Finish::kClamp>(s, packed, row);
  }
}

}  // namespace subbyte::depthwise
