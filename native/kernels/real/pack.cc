// Weights of float32 convolutions in the layouts of real.h.
#include <algorithm>

#include "kernels/real/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte::real {

Layer select(const Kernel& kernel, int groups, int out_channels, int terms) {
  Layer layer;
  for (int g = 0; g < groups; ++g) {
    for (int o = 0; o < out_channels; o += kernel.outputs) {
      const int channels = std::min(kernel.outputs, out_channels - o);
      const int width = 2 * channels <= kernel.outputs ? kernel.outputs / 2 : kernel.outputs;
      layer.panels.push_back({layer.weights, layer.bias, g * out_channels + o, channels, width});
      layer.weights += static_cast<std::size_t>(terms) * width + kGap / sizeof(float);
      layer.bias += static_cast<std::size_t>(width) + kGap / sizeof(float);
    }
  }
  return layer;
}

void pack(const Panel& p, int terms, const float* weights, const float* bias, float* packed, float* packed_bias) {
  for (int o = 0; o < p.width; ++o) {
    const bool valid = o < p.channels;
    const std::size_t channel = static_cast<std::size_t>(p.first + o);
    packed_bias[o] = valid ? bias[channel] : 0;
    for (int k = 0; k < terms; ++k) {
      packed[static_cast<std::size_t>(k) * p.width + o] = valid ? weights[channel * terms + k] : 0;
    }
  }
}

void transform_filters(int outputs, int channels, const float* weights, float* filters) {
  const auto transform = [](const double (&g)[3], double (&u)[4]) {
    u[0] = g[0], u[1] = (g[0] + g[1] + g[2]) / 2, u[2] = (g[0] - g[1] + g[2]) / 2, u[3] = g[2];
  };
  for (int o = 0; o < outputs; ++o, weights += 9 * channels, filters += 16 * channels) {
    for (int c = 0; c < channels; ++c) {
      double rows[3][4];
      for (int i = 0; i < 3; ++i) {
        const float* g = weights + 3 * i * channels + c;
        transform({g[0], g[channels], g[2 * channels]}, rows[i]);
      }
      for (int j = 0; j < 4; ++j) {
        double u[4];
        transform({rows[0][j], rows[1][j], rows[2][j]}, u);
        for (int i = 0; i < 4; ++i) filters[(4 * i + j) * channels + c] = static_cast<float>(u[i]);
      }
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
