// Depthwise convolution in plain C++. Packed: bias [C], multiplier [C], taps [kh][kw][C].
#include "kernels/depthwise/depthwise.h"
#include "kernels/portable_epilogue.h"

namespace subbyte::depthwise {

std::size_t depthwise_u8s8_portable_bytes(const Shape& s) {
  return static_cast<std::size_t>(s.channels) * (8 + s.kernel_h * s.kernel_w);
}

void depthwise_u8s8_portable_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  const std::size_t n = static_cast<std::size_t>(s.channels);
  __builtin_memcpy(packed, w.bias, 4 * n);
  __builtin_memcpy(packed + 4 * n, w.multiplier, 4 * n);
  __builtin_memcpy(packed + 8 * n, w.taps, n * s.kernel_h * s.kernel_w);
}

void depthwise_u8s8_portable_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  const std::size_t n = static_cast<std::size_t>(s.channels);
  const auto* bias = reinterpret_cast<const std::int32_t*>(packed);
  const auto* multiplier = reinterpret_cast<const float*>(packed + 4 * n);
  const auto* taps = reinterpret_cast<const std::int8_t*>(packed + 8 * n);
  constexpr int kBlock = 64;
  for (int x = 0; x < row.width; ++x) {
    const std::ptrdiff_t left = x * s.stride * row.in_pixel;
    for (int c0 = 0; c0 < s.channels; c0 += kBlock) {
      const int count = s.channels - c0 < kBlock ? s.channels - c0 : kBlock;
      std::uint32_t acc[kBlock];  // sums may wrap on the way, as in the other kernels
      for (int c = 0; c < count; ++c) acc[c] = static_cast<std::uint32_t>(bias[c0 + c]);
      for (int ky = 0; ky < s.kernel_h; ++ky) {
        for (int kx = 0; kx < s.kernel_w; ++kx) {
          const std::uint8_t* in = row.in[ky] + left + kx * row.in_pixel + c0;
          const std::int8_t* w = taps + n * (ky * s.kernel_w + kx) + c0;
          for (int c = 0; c < count; ++c) acc[c] += static_cast<std::uint32_t>(w[c] * in[c]);
        }
      }
      std::uint8_t* out = row.out + x * row.out_pixel;
      for (int c = 0; c < count; ++c) {
        finish_one(*row.epilogue, static_cast<std::int32_t>(acc[c]), multiplier[c0 + c], out, nullptr, c0 + c);
      }
    }
  }
}

}  // namespace subbyte::depthwise
