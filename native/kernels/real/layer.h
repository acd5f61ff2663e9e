// From a float32 convolution to the panels that its kernels work on: pack.cc.
#pragma once

#include <vector>

#include "kernels/real/real.h"

namespace subbyte::real {

// A panel of `width` outputs lies at `weights` and `bias`, in floats.
struct Panel {
  std::size_t weights, bias;
  int first, channels, width;  // makes `channels` outputs from `first` on
};

// The panels of a layer, group after group, kGap behind each. `terms` products make each of its sums.
struct Layer {
  std::vector<Panel> panels;
  std::size_t weights = 0, bias = 0;  // floats in all
};
Layer select(const Kernel& kernel, int groups, int out_channels, int terms);

// weights: [O][terms], bias: [O].
void pack(const Panel& p, int terms, const float* weights, const float* bias, float* packed, float* packed_bias);
// weights: [O][3][3][C] to [O][4][4][C], for Winograd's way; in float64, rounded once.
void transform_filters(int outputs, int channels, const float* weights, float* filters);
// weights: [C][taps] to [taps][C].
void pack_depthwise(int taps, int channels, const float* weights, float* packed);

}  // namespace subbyte::real
