// float32 layers: convolution with an indirection over taps, depthwise convolution, elementwise work.
// Results are within docs/spec/numerics.md's bound of the reference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "subbyte/activations.h"
#include "subbyte/isa.h"

namespace subbyte::real {

inline constexpr int kPanel = 32;  // output channels per panel
inline constexpr int kRows = 4;    // output pixels per tile

struct Tile {
  const float* const* in;   // in[tap * in_stride + row]: first input channel; outside the image: zeros
  std::ptrdiff_t in_stride;
  int taps, in_channels;
  const float* weights;     // [tap][in channel][kPanel]
  const float* bias;        // [kPanel]
  int channels;             // valid outputs
  float* const* out;        // out[row] + offset
  const float* const* residual;  // residual[row] + offset, or null
  std::ptrdiff_t offset;
  Activation activation;
};

struct Depthwise {
  const float* const* in;   // in[tap]: channel 0 of one pixel; outside the image: zeros
  int taps, channels;
  const float* weights;     // [tap][channels]
  const float* bias;
  float* out;
  const float* residual;    // or null
  Activation activation;
};

struct Kernel {
  Isa isa;
  void (*conv)(const Tile&, int rows);
  void (*depthwise)(const Depthwise&);
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
