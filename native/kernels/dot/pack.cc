// A panel's weights, biases and multipliers in the layout of dot.h.
#include <algorithm>

#include "kernels/dot/layer.h"

namespace subbyte::dot {
namespace {

// The output of its panel that a place of the panel's vectors holds.
int output_of(const Panel& p, int slot) { return slot < p.kernel->outputs ? slot : slot - 8; }

// The code of one byte of a panel: input `k` of a run.
int code_of(const Layer& l, const Panel& p, const LayerWeights& w, int output, int run, int k, int zero) {
  const int tap = run * l.taps_per_run + k / l.tap_bytes, channel = k % l.tap_bytes;
  if (output >= p.channels || channel >= l.in_channels) return zero;
  const std::size_t at = (static_cast<std::size_t>(p.first + output) * l.taps + tap) * l.in_channels + channel;
  return l.weights.bits < 8 ? w.code(at) : static_cast<std::uint8_t>(w.value(at));
}

}  // namespace

Format packed_format(const Layer& l, const LayerWeights& w) {
  const bool pads = l.tap_bytes != l.in_channels;
  return {Kind::kInt, pads && w.zero_code() < 0 ? 8 : w.bits};
}

void pack(const Layer& l, const Panel& p, const LayerWeights& w, std::uint8_t* weights, std::int32_t* bias,
          float* multiplier) {
  const int bits = l.weights.bits, per_pack = groups_per_pack(bits), slots = 16 * p.kernel->vectors();
  const int zero = bits < 8 ? std::max(w.zero_code(), 0) : 0;
  for (int run = 0; run < l.runs; ++run) {
    for (int g0 = 0; g0 < l.groups; g0 += per_pack, weights += 4 * slots) {
      for (int i = 0; i < 4 * slots; ++i) {
        unsigned byte = 0;
        for (int j = 0; j < per_pack && g0 + j < l.groups; ++j) {
          const int code = code_of(l, p, w, output_of(p, i / 4), run, 4 * (g0 + j) + i % 4, zero);
          byte |= static_cast<unsigned>(code) << (bits * j);
        }
        weights[i] = static_cast<std::uint8_t>(byte);
      }
    }
  }
  for (int slot = 0; slot < slots; ++slot) {
    const bool valid = output_of(p, slot) < p.channels;
    const std::size_t channel = static_cast<std::size_t>(p.first + output_of(p, slot));
    bias[slot] = valid ? w.centred_bias(channel) : 0;
    multiplier[slot] = valid ? w.multiplier[channel] : 0;
  }
}

}  // namespace subbyte::dot
