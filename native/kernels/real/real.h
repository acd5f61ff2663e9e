// float32 layers: convolution with an indirection over taps, depthwise convolution, elementwise work.
// Results are within docs/spec/numerics.md's bound of the reference.
//
// 3 x 3 convolutions with stride 1 may be made by Winograd's minimal filtering F(2 x 2, 3 x 3) (A. Lavin and S. Gray, "Fast
// Algorithms for Convolutional Neural Networks", CVPR 2016): a square of 2 x 2 outputs y takes 16 products of each input
// channel, where the definition takes 36.
//   v = B' d B   of its 4 x 4 inputs d: spread()
//   u = G g G'   of the 3 x 3 weights g: transform_filters() in layer.h
//   y = A' (sum over input channels of u * v, element by element) A: conv() for each element, then collect()
// with B' = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1], G = [1 0 0; .5 .5 .5; .5 -.5 .5; 0 0 1], A' = [1 1 1 0; 0 1 -1 -1].
#pragma once

#include <cstddef>
#include <cstdint>

#include "subbyte/activations.h"
#include "subbyte/isa.h"

namespace subbyte::real {

// Some pixels and a panel of their outputs. `panel`, the width of the packed weights, is the kernel's `outputs` or half
// of it.
struct Tile {
  const float* const* in;   // in[tap * in_stride + row]: first input channel; outside the image: zeros
  std::ptrdiff_t in_stride;
  int taps, in_channels;
  const float* weights;     // [tap][in channel][panel]
  const float* bias;        // [panel]
  int panel, channels;      // valid outputs: at most `panel`
  float* const* out;        // out[row] + offset
  const float* const* residual;  // residual[row] + offset, or null
  std::ptrdiff_t offset;
  Activation activation;
};

// All channels of some pixels.
struct Depthwise {
  const float* const* in;   // in[tap * in_stride + row]: channel 0; outside the image: zeros
  std::ptrdiff_t in_stride;
  int taps, channels;
  const float* weights;     // [tap][channels]
  const float* bias;
  float* const* out;
  const float* const* residual;  // or null
  Activation activation;
};

// A panel of the outputs of a square.
struct Square {
  const float* in;          // sums of element 4 i + j at in + (4 i + j) * stride, [panel]
  std::ptrdiff_t stride;
  const float* bias;        // [panel]
  int panel, channels;      // valid outputs: at most `panel`
  float* const* out;        // [4]: out[2 i + j] + offset; null where the square sticks out of the map
  const float* const* residual;  // [4] in the same way, or null
  std::ptrdiff_t offset;
  Activation activation;
};

// `rows`: pixels of a tile, at most. Sums may be fused, in the order of the taps and channels, the bias first.
struct Kernel {
  Isa isa;
  int outputs, rows;
  void (*conv)(const Tile&, int rows);
  void (*depthwise)(const Depthwise&, int rows);
  // in: the 4 x 4 inputs of a square, row by row; element 4 i + j goes to out + (4 i + j) * stride.
  void (*spread)(const float* const* in, int channels, float* out, std::ptrdiff_t stride);
  void (*collect)(const Square&);
  void (*activate)(const Activation& activation, const float* in, std::int64_t n, float* out);
  void (*add)(const float* a, const float* b, std::int64_t n, float* out);
  void (*gate)(const float* x, const float* gate, int pixels, int channels, float* out);
  void (*sum)(const float* x, int pixels, int channels, double* sums);
  void (*maximum)(const float* in, std::int64_t n, float* out);
  const char* name;
};

const Kernel* find(Isa isa);
const Kernel* table();
int table_size();

}  // namespace subbyte::real
