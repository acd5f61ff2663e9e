// From the order of files to pixels with padding.
#include <vector>

#include "kernels/winograd/winograd.h"
#include "kernels/weights.h"

namespace subbyte::winograd {

void pack(const Kernel& kernel, const Shape& s, int channels, const LayerWeights& w, std::uint8_t* packed) {
  const std::size_t outputs = static_cast<std::size_t>(s.outputs), in = static_cast<std::size_t>(channels);
  const std::size_t pixel = static_cast<std::size_t>(s.channels);
  std::vector<std::int8_t> values(outputs * 9 * pixel);
  std::vector<std::int32_t> bias(outputs);
  for (std::size_t o = 0; o < outputs; ++o) bias[o] = w.centred_bias(o);
  for (std::size_t t = 0; t < 9 * outputs; ++t) {
    for (std::size_t c = 0; c < in; ++c) values[t * pixel + c] = w.value(t * in + c);
  }
  kernel.pack(s, {values.data(), bias.data(), w.multiplier}, packed);
}

}  // namespace subbyte::winograd
