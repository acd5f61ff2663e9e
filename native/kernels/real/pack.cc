// Weights of float32 convolutions in the layouts of real.h.
#include <algorithm>

#include "kernels/real/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte::real {

std::size_t panel_step(int terms) { return static_cast<std::size_t>(terms) * kPanel + kGap / sizeof(float); }
std::size_t bias_step() { return kPanel + kGap / sizeof(float); }

std::vector<Panel> select(int groups, int in_channels, int out_channels, int terms) {
  std::vector<Panel> panels;
  for (int g = 0; g < groups; ++g) {
    for (int o = 0; o < out_channels; o += kPanel) {
      panels.push_back({panels.size() * panel_step(terms), panels.size() * bias_step(), g * in_channels,
                        g * out_channels + o, std::min(kPanel, out_channels - o)});
    }
  }
  return panels;
}

void pack(const Panel& p, int terms, const float* weights, const float* bias, float* packed, float* packed_bias) {
  for (int o = 0; o < kPanel; ++o) {
    const bool valid = o < p.channels;
    const std::size_t channel = static_cast<std::size_t>(p.first + o);
    packed_bias[o] = valid ? bias[channel] : 0;
    for (int k = 0; k < terms; ++k) {
      packed[static_cast<std::size_t>(k) * kPanel + o] = valid ? weights[channel * terms + k] : 0;
    }
  }
}

void pack_depthwise(int taps, int channels, const float* weights, float* packed) {
  for (int c = 0; c < channels; ++c) {
    for (int t = 0; t < taps; ++t) {
      packed[static_cast<std::size_t>(t) * channels + c] = weights[static_cast<std::size_t>(c) * taps + t];
    }
  }
}

}  // namespace subbyte::real
