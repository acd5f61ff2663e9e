// From the order of files, channel by channel, to the kernels' order, tap by tap.
#include <vector>

#include "kernels/depthwise/depthwise.h"
#include "kernels/weights.h"

namespace subbyte::depthwise {

void pack(const Kernel& kernel, const Shape& s, const LayerWeights& w, std::uint8_t* packed) {
  const std::size_t channels = static_cast<std::size_t>(s.channels), taps = w.per_output;
  std::vector<std::int8_t> values(taps * channels);
  std::vector<std::int32_t> bias(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    for (std::size_t t = 0; t < taps; ++t) values[t * channels + c] = w.value(c * taps + t);
    bias[c] = w.centred_bias(c);
  }
  kernel.pack(s, {values.data(), bias.data(), w.multiplier}, packed);
}

}  // namespace subbyte::depthwise
