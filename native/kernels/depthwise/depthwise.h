// Depthwise convolution: one k_h x k_w filter per channel, u8 x s8, whole rows of output pixels.
//
// A kernel packs its weights, biases and multipliers as it likes (`packed_bytes`, `pack`). It may read
// `read_ahead` input pixels past the last tap of a row, and 64 bytes past that; it writes exactly
// `channels` outputs per pixel, codes or (Finish::kReal) float32. No Finish::kResidual.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"
#include "subbyte/isa.h"

namespace subbyte {
struct LayerWeights;  // kernels/weights.h
}

namespace subbyte::depthwise {

inline constexpr int kReadAhead = 8;  // pixels

struct Shape {
  int kernel_h, kernel_w, stride, channels;  // stride: between output pixels of a row
};

struct Row {
  const std::uint8_t* const* in;  // [kernel_h]: leftmost tap of the first output pixel, channel 0
  std::ptrdiff_t in_pixel;        // bytes between neighbouring input pixels
  int width;                      // output pixels
  std::uint8_t* out;
  std::ptrdiff_t out_pixel;  // bytes
  const Epilogue* epilogue;
};

struct Weights {
  const std::int8_t* taps;  // [kernel_h][kernel_w][channels]
  const std::int32_t* bias;
  const float* multiplier;
};

struct Kernel {
  Isa isa;
  std::size_t (*packed_bytes)(const Shape&);
  void (*pack)(const Shape&, const Weights&, std::uint8_t* packed);  // packed: 64-byte aligned
  void (*run)(const Shape&, const std::uint8_t* packed, const Row&);
  const char* name;
};

// A layer's weights, whose codes are channel by channel, through `kernel.pack`.
void pack(const Kernel& kernel, const Shape& s, const LayerWeights& w, std::uint8_t* packed);

const Kernel* find(Isa isa);
const Kernel* table();
int table_size();

}  // namespace subbyte::depthwise
