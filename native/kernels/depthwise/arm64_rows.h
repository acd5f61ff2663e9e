// Depthwise convolution for 64-bit ARM: 16 channels at a time.
//
// A dot product wants 4 products of one channel side by side: 4 neighbouring pixels of 16 channels are transposed by
// two rounds of zips into 4 vectors, whose words hold pixels 0..3 of a channel. Such a window serves k_w taps; with
// stride 1 it serves two output pixels, the second with its taps shifted by one byte.
//
// Packed, per block of 16 channels: bias [16], multiplier [16], then [k_h][window][shift][16 channels] x 4 taps.
//
// The including file gives Product: kOffset is subtracted from every activation by `operand`, and made up for in the
// packed bias; dot(acc, w, x) adds 4 products to each of 4 sums.
#pragma once

#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/depthwise/depthwise.h"

namespace subbyte::depthwise {
namespace {

constexpr int kBlock = 16;
inline int shifts(const Shape& s) { return s.stride == 1 ? 2 : 1; }
inline int windows(const Shape& s) { return (s.kernel_w + shifts(s) - 1 + 3) / 4; }
inline std::size_t block_bytes(const Shape& s) {
  return 8 * kBlock + static_cast<std::size_t>(s.kernel_h) * windows(s) * shifts(s) * 64;
}
inline std::size_t packed_bytes(const Shape& s) {
  return static_cast<std::size_t>((s.channels + kBlock - 1) / kBlock) * block_bytes(s);
}

inline void pack(const Shape& s, const Weights& w, int offset, std::uint8_t* packed) {
  __builtin_memset(packed, 0, packed_bytes(s));
  for (int c = 0; c < s.channels; ++c) {
    std::uint8_t* block = packed + static_cast<std::size_t>(c / kBlock) * block_bytes(s);
    const int in = c % kBlock;
    std::int32_t sum = 0;
    std::uint8_t* out = block + 8 * kBlock + 4 * in;
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      for (int kx = 0; kx < s.kernel_w; ++kx) {
        sum += w.taps[static_cast<std::size_t>(ky * s.kernel_w + kx) * s.channels + c];
      }
      for (int i = 0; i < windows(s); ++i) {
        for (int t = 0; t < shifts(s); ++t, out += 64) {
          for (int byte = 0; byte < 4; ++byte) {
            const int kx = 4 * i + byte - t;
            if (kx < 0 || kx >= s.kernel_w) continue;
            out[byte] = static_cast<std::uint8_t>(
                w.taps[static_cast<std::size_t>(ky * s.kernel_w + kx) * s.channels + c]);
          }
        }
      }
    }
    reinterpret_cast<std::uint32_t*>(block)[in] =
        static_cast<std::uint32_t>(w.bias[c]) + static_cast<std::uint32_t>(offset * sum);
    reinterpret_cast<float*>(block)[kBlock + in] = w.multiplier[c];
  }
}

template <typename Product>
SUBBYTE_INLINE void transpose(const std::uint8_t* p, std::ptrdiff_t pixel, typename Product::Operand (&q)[4]) {
  const uint8x16_t p0 = vld1q_u8(p), p1 = vld1q_u8(p + pixel);
  const uint8x16_t p2 = vld1q_u8(p + 2 * pixel), p3 = vld1q_u8(p + 3 * pixel);
  const uint16x8_t a0 = vreinterpretq_u16_u8(vzip1q_u8(p0, p1)), a1 = vreinterpretq_u16_u8(vzip2q_u8(p0, p1));
  const uint16x8_t b0 = vreinterpretq_u16_u8(vzip1q_u8(p2, p3)), b1 = vreinterpretq_u16_u8(vzip2q_u8(p2, p3));
  q[0] = Product::operand(vreinterpretq_u8_u16(vzip1q_u16(a0, b0)));
  q[1] = Product::operand(vreinterpretq_u8_u16(vzip2q_u16(a0, b0)));
  q[2] = Product::operand(vreinterpretq_u8_u16(vzip1q_u16(a1, b1)));
  q[3] = Product::operand(vreinterpretq_u8_u16(vzip2q_u16(a1, b1)));
}

// kShifts output pixels per step; kHeight and kWindows may be 0 for "as in the shape".
template <typename Product, Finish kFinish, int kShifts, int kHeight, int kWindows>
void block(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Table& table) {
  const int height = kHeight ? kHeight : s.kernel_h, count = kWindows ? kWindows : windows(s);
  const auto* bias = reinterpret_cast<const std::int32_t*>(packed);
  const auto* m = reinterpret_cast<const float*>(packed) + kBlock;
  const int channels = s.channels - c0 < kBlock ? s.channels - c0 : kBlock;
  for (int x = 0; x < row.width; x += kShifts) {
    int32x4_t acc[kShifts][4];
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) acc[t][j] = vld1q_s32(bias + 4 * j);
    }
    const auto* w = reinterpret_cast<const std::int8_t*>(packed) + 8 * kBlock;
    const std::ptrdiff_t left = static_cast<std::ptrdiff_t>(x) * s.stride * row.in_pixel + c0;
    for (int ky = 0; ky < height; ++ky) {
      for (int i = 0; i < count; ++i, w += 64 * kShifts) {
        typename Product::Operand q[4];
        transpose<Product>(row.in[ky] + left + 4 * i * row.in_pixel, row.in_pixel, q);
#pragma GCC unroll 2
        for (int t = 0; t < kShifts; ++t) {
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j) acc[t][j] = Product::dot(acc[t][j], vld1q_s8(w + 64 * t + 16 * j), q[j]);
        }
      }
    }
    std::uint8_t* out = row.out + x * row.out_pixel;
#pragma GCC unroll 2
    for (int t = 0; t < kShifts; ++t) {
      if (x + t >= row.width) break;
      finish16<kFinish>(*row.epilogue, table, acc[t], m, out + t * row.out_pixel, nullptr, c0, channels);
    }
  }
}

template <typename Product, Finish kFinish>
void dispatch(const Shape& s, const std::uint8_t* packed, const Row& row, int c0, const Table& table) {
  const int size = s.kernel_h == s.kernel_w ? s.kernel_h : 0;
  if (s.stride == 1) {
    if (size == 3) return block<Product, kFinish, 2, 3, 1>(s, packed, row, c0, table);
    if (size == 5) return block<Product, kFinish, 2, 5, 2>(s, packed, row, c0, table);
    return block<Product, kFinish, 2, 0, 0>(s, packed, row, c0, table);
  }
  if (size == 3) return block<Product, kFinish, 1, 3, 1>(s, packed, row, c0, table);
  if (size == 5) return block<Product, kFinish, 1, 5, 2>(s, packed, row, c0, table);
  return block<Product, kFinish, 1, 0, 0>(s, packed, row, c0, table);
}

template <typename Product>
void run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const std::size_t bytes = block_bytes(s);
  Table table{};
  const Finish finish = row.epilogue->finish;
  if (finish == Finish::kTable) table = load_table(row.epilogue->table);
  for (int c0 = 0; c0 < s.channels; c0 += kBlock, packed += bytes) {
    if (finish == Finish::kTable) {
      dispatch<Product, Finish::kTable>(s, packed, row, c0, table);
    } else if (finish == Finish::kReal) {
      dispatch<Product, Finish::kReal>(s, packed, row, c0, table);
    } else {
      dispatch<Product, Finish::kClamp>(s, packed, row, c0, table);
    }
  }
}

}  // namespace
}  // namespace subbyte::depthwise
