// Dense 3 x 3 convolution with stride 1 by Winograd's minimal filtering F(2 x 2, 3 x 3), in exact integers: 16
// multiplications make 2 x 2 outputs of one input channel, where the definition takes 36. For instruction sets that
// multiply 16-bit numbers as fast as 8-bit ones.
//
// A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, with all matrices integral:
//   v = B' d B   of 4 x 4 inputs d,  |v| <= 1020
//   u = (2G) g (2G)'   of the 3 x 3 weights g of one input and output channel,  |u| <= 9 * 128
//   4 y = A' (sum over input channels of u * v, element by element) A
// with B' = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1], 2G = [2 0 0; 1 1 1; 1 -1 1; 0 0 2], A' = [1 1 1 0; 0 1 -1 -1].
// u and v fit 16 bits; sums may wrap around 32 bits on the way, but 4 y does not as long as
// 9 * channels * 128 * 255 < 2^29 (kMaxChannels).
//
// A kernel finishes a strip: `tiles` neighbouring squares of 2 x 2 outputs. It may read one pixel more than the
// window of the last output column and 16 bytes past that, and 64 bytes past a residual; it writes exactly `outputs`
// outputs per pixel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"
#include "subbyte/isa.h"

namespace subbyte {
struct LayerWeights;  // kernels/weights.h
}

namespace subbyte::winograd {

inline constexpr int kMaxTiles = 24;
inline constexpr int kMaxChannels = 1824;

struct Shape {
  int channels;  // of a pixel, padding included: a multiple of 4
  int outputs;
};

struct Weights {
  const std::int8_t* values;  // [outputs][3][3][channels], 0 where there is padding
  const std::int32_t* bias;   // [outputs]
  const float* multiplier;
};

struct Strip {
  const std::uint8_t* in[4];  // rows: leftmost input of the first tile, channel 0
  std::ptrdiff_t in_pixel;    // bytes between neighbouring pixels
  int tiles;                  // 1 .. kMaxTiles
  int width, height;          // valid outputs: 2 * tiles or one column less, 2 rows or 1
  std::uint8_t* out[2];       // rows (float32 for Finish::kReal)
  std::ptrdiff_t out_pixel;
  const std::uint8_t* residual[2];
  std::ptrdiff_t residual_pixel;
  const Epilogue* epilogue;
  std::uint8_t* scratch;      // [scratch_bytes], 64-byte aligned
};

enum Trait : unsigned {
  kPlain = 0,
  kFaster = 1,  // than direct convolution of layers that are large enough
};

struct Kernel {
  Isa isa;
  unsigned traits;
  std::size_t (*packed_bytes)(const Shape&);
  void (*pack)(const Shape&, const Weights&, std::uint8_t* packed);  // packed: 64-byte aligned
  std::size_t (*scratch_bytes)(const Shape&);
  void (*run)(const Shape&, const std::uint8_t* packed, const Strip&);
  const char* name;
};

const Kernel* find(Isa isa);
// The row for a layer of that shape and so many output pixels; null where direct convolution is faster.
const Kernel* select(Isa isa, const Shape& s, int pixels);
// A layer's weights, of `channels` inputs without padding, through `kernel.pack`.
void pack(const Kernel& kernel, const Shape& s, int channels, const LayerWeights& w, std::uint8_t* packed);
const Kernel* table();
int table_size();

}  // namespace subbyte::winograd
