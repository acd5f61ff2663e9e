// float32 layers: convolution with an indirection over taps, depthwise convolution, elementwise work.
// Results are within docs/spec/numerics.md's bound of the reference.
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

// `rows`: pixels of a tile, at most. Sums may be fused, in the order of the taps and channels, the bias first.
struct Kernel {
  Isa isa;
  int outputs, rows;
  void (*conv)(const Tile&, int rows);
  void (*depthwise)(const Depthwise&, int rows);
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
