// From a float32 convolution to the panels that its kernels work on: pack.cc.
#pragma once

#include <vector>

#include "kernels/real/real.h"

namespace subbyte::real {

// A panel lies at `weights` and `bias`, in floats; `terms` products make each of its sums.
struct Panel {
  std::size_t weights, bias;
  int in_first, first, channels;  // input channels from in_first on make `channels` outputs from `first` on
};

// The panels of `groups` groups of channels one after the other, kGap behind each.
std::vector<Panel> select(int groups, int in_channels, int out_channels, int terms);
std::size_t panel_step(int terms);  // floats from panel to panel
std::size_t bias_step();

// weights: [O][terms], bias: [O].
void pack(const Panel& p, int terms, const float* weights, const float* bias, float* packed, float* packed_bias);
// weights: [C][taps] to [taps][C].
void pack_depthwise(int taps, int channels, const float* weights, float* packed);

}  // namespace subbyte::real
