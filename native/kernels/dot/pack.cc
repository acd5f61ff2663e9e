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

namespace {

// Of a packed panel, group by group, the sums of what is above zero and of what is below, without its sign, among the
// first two and the last two inputs of each output.
struct Halves {
  std::size_t per_group;
  std::vector<std::uint16_t> above, below;
};

Halves halves_of(const std::uint8_t* packed, int runs, int groups, int vectors, Format weights, const std::int8_t* levels) {
  const int bits = weights.bits, per_pack = groups_per_pack(bits), mask = (1 << bits) - 1;
  const std::size_t bytes = 64 * static_cast<std::size_t>(vectors), per_group = bytes / 2;
  const std::size_t all = static_cast<std::size_t>(runs) * static_cast<std::size_t>(groups) * per_group;
  Halves h{per_group, std::vector<std::uint16_t>(all), std::vector<std::uint16_t>(all)};
  std::int8_t values[256];  // of codes
  for (int code = 0; code <= mask; ++code) values[code] = bits < 8 ? levels[code] : static_cast<std::int8_t>(code);
  std::uint16_t *above = h.above.data(), *below = h.below.data();
  for (int run = 0; run < runs; ++run) {
    for (int g = 0; g < groups; ++g, above += per_group, below += per_group) {
      const int shift = bits * (g % per_pack);
      for (std::size_t i = 0; i < per_group; ++i) {
        const int a = values[packed[2 * i] >> shift & mask], b = values[packed[2 * i + 1] >> shift & mask];
        above[i] = static_cast<std::uint16_t>(std::max(a, 0) + std::max(b, 0));
        below[i] = static_cast<std::uint16_t>(-std::min(a, 0) - std::min(b, 0));
      }
      if (g % per_pack == per_pack - 1 || g == groups - 1) packed += bytes;
    }
  }
  return h;
}

// Whether `length` neighbours sum up to 128 at most everywhere: 255 * 128 and -255 * 128 are 16-bit numbers.
bool fit(const std::vector<std::uint16_t>& sums, std::size_t per_group, std::size_t length) {
  std::vector<std::uint16_t> running(per_group);
  for (std::size_t at = 0; at < sums.size(); at += per_group) {
    const std::uint16_t* here = sums.data() + at;
    int most = 0;
    for (std::size_t i = 0; i < per_group; ++i) {
      running[i] = static_cast<std::uint16_t>(running[i] + here[i]);
      most = std::max<int>(most, running[i]);
    }
    if (most > 128) return false;
    if (at < (length - 1) * per_group) continue;
    const std::uint16_t* oldest = here - (length - 1) * per_group;
    for (std::size_t i = 0; i < per_group; ++i) running[i] = static_cast<std::uint16_t>(running[i] - oldest[i]);
  }
  return true;
}

}  // namespace

int chain_length(const std::uint8_t* packed, int runs, int groups, int vectors, Format weights, const std::int8_t* levels) {
  const Halves h = halves_of(packed, runs, groups, vectors, weights, levels);
  int longest = 0;
  for (const int length : {2, 3, 4, 5, 6, 8, 10, 12, 16, 24, kMostChained}) {
    const auto count = static_cast<std::size_t>(length);
    if (!fit(h.above, h.per_group, count) || !fit(h.below, h.per_group, count)) break;
    longest = length;
  }
  return longest;
}

}  // namespace subbyte::dot
