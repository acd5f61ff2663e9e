// A panel's weights, biases and multipliers in the layout of dot.h.
#include <algorithm>

#include "kernels/dot/layer.h"

namespace subbyte::dot {
namespace {

// The output of its panel that a place of the panel's vectors holds.
int output_of(const Panel& p, int slot) { return slot < p.kernel->outputs ? slot : slot - 8; }

// Where the weight of input `k` of a run lies, or -1 for padding.
std::ptrdiff_t place_of(const Layer& l, int output, int run, int k) {
  const int tap = run * l.taps_per_run + k / l.tap_bytes, channel = k % l.tap_bytes;
  if (channel >= l.in_channels) return -1;
  return (static_cast<std::ptrdiff_t>(output) * l.taps + tap) * l.in_channels + channel;
}

// The code of one byte of a panel.
int code_of(const Layer& l, const Panel& p, const LayerWeights& w, int output, int run, int k, int zero) {
  const std::ptrdiff_t at = output < p.channels ? place_of(l, p.first + output, run, k) : -1;
  if (at < 0) return zero;
  const auto i = static_cast<std::size_t>(at);
  return l.weights.bits < 8 ? w.code(i) : static_cast<std::uint8_t>(w.value(i));
}

// The first inputs of a panel's groups, in the order in which they are packed: all of a run, or what is kept of it.
std::vector<int> inputs_of(const Layer& l, const Panel& p, const std::int32_t*& kept) {
  std::vector<int> inputs;
  if (p.kept.empty()) {
    for (int g = 0; g < l.groups; ++g) inputs.push_back(4 * g);
  } else {
    for (; *kept >= 0; ++kept) inputs.push_back(*kept);
    ++kept;
  }
  return inputs;
}

}  // namespace

Format packed_format(const Layer& l, const LayerWeights& w) {
  const bool pads = l.tap_bytes != l.in_channels;
  return {Kind::kInt, pads && w.zero_code() < 0 ? 8 : w.bits};
}

bool any(const Layer& l, const LayerWeights& w, int output, int count, int run, int group) {
  for (int o = output; o < output + count; ++o) {
    for (int i = 0; i < 4; ++i) {
      const std::ptrdiff_t at = place_of(l, o, run, 4 * group + i);
      if (at >= 0 && w.value(static_cast<std::size_t>(at)) != 0) return true;
    }
  }
  return false;
}

void pack(const Layer& l, const Panel& p, const LayerWeights& w, std::uint8_t* weights, std::int32_t* bias,
          float* multiplier) {
  const int bits = l.weights.bits, per_pack = groups_per_pack(bits), slots = 16 * p.kernel->vectors();
  const int zero = bits < 8 ? std::max(w.zero_code(), 0) : 0;
  const std::int32_t* kept = p.kept.data();
  std::copy(p.kept.begin(), p.kept.end(), reinterpret_cast<std::int32_t*>(weights));
  weights += p.list_bytes;
  for (int run = 0; run < l.runs; ++run) {
    const std::vector<int> inputs = inputs_of(l, p, kept);
    const int groups = static_cast<int>(inputs.size());
    for (int g0 = 0; g0 < groups; g0 += per_pack, weights += 4 * slots) {
      for (int i = 0; i < 4 * slots; ++i) {
        unsigned byte = 0;
        for (int j = 0; j < per_pack && g0 + j < groups; ++j) {
          const int code = code_of(l, p, w, output_of(p, i / 4), run, inputs[g0 + j] + i % 4, zero);
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
