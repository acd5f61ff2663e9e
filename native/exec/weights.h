// Reading a node's canonical packed weights while a step repacks them for its kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "subbyte/engine.h"

namespace subbyte {

class UnpackedWeights {
 public:
  // in_group: input channels per group. Views the node's vectors.
  UnpackedWeights(const NodeDesc& n, int in_group)
      : bits_(code_bits(n.weight_bits)), packed_(n.weight_packed), levels_(n.levels),
        per_output_(static_cast<std::size_t>(n.kernel_h) * n.kernel_w * in_group) {}

  // Element i in OHWI order.
  int code(std::size_t i) const {
    const std::size_t bit = i * static_cast<std::size_t>(bits_);
    return (packed_[bit / 8] >> (bit % 8)) & ((1 << bits_) - 1);
  }
  std::int8_t value(std::size_t i) const { return levels_[static_cast<std::size_t>(code(i))]; }
  const std::vector<std::int8_t>& levels() const { return levels_; }

  // The code of weight 0, or -1.
  int zero_code() const {
    for (std::size_t c = 0; c < levels_.size(); ++c) {
      if (levels_[c] == 0) return static_cast<int>(c);
    }
    return -1;
  }

  // Sum of the weights of one output channel.
  std::int64_t sum(std::size_t output) const {
    std::int64_t total = 0;
    for (std::size_t i = output * per_output_; i < (output + 1) * per_output_; ++i) total += value(i);
    return total;
  }

 private:
  int bits_;
  const std::vector<std::uint8_t>& packed_;
  const std::vector<std::int8_t>& levels_;
  std::size_t per_output_;
};

// numerics.md: sum (x - z) w + B = sum x w + (B - z sum w), in 32-bit wrap-around arithmetic.
inline std::int32_t centred_bias(std::int32_t bias, int zero_point, std::int64_t weight_sum) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::int64_t>(bias) - zero_point * weight_sum));
}

}  // namespace subbyte
