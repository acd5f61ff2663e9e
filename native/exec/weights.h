// A node's weights, as the families' packing reads them.
#pragma once

#include <bit>

#include "kernels/weights.h"
#include "subbyte/engine.h"

namespace subbyte {

// Width of the codes that the engine is given.
inline int code_bits(const NodeDesc& n) { return std::bit_width(n.levels.size()) - 1; }

// in_group: input channels per group; zero_point: of the input. Views the node's vectors.
inline LayerWeights weights_of(const NodeDesc& n, int in_group, int zero_point) {
  return {code_bits(n),    n.weight_packed.data(), n.levels.data(), static_cast<std::size_t>(n.kernel_h) * n.kernel_w * in_group,
          n.bias.data(), n.multiplier.data(),    zero_point};
}

}  // namespace subbyte
