// Compact files: docs/spec/artifact.md, as subbyte/artifact/compact.py and rans.py have them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "artifact/container.h"
#include "artifact/description.h"

namespace subbyte {

// What a compact file holds, expanded: the vectors of each dtype, which lie in `bytes`, and the codes of all dense
// weights in their order.
struct Compact {
  std::vector<std::uint8_t> bytes;
  std::map<std::string, Tensor> tensors;
  std::vector<std::uint8_t> codes;
};

// Whether the codes of such a weight are coded in a compact file.
inline bool is_coded(const Packed& p) { return p.pattern.empty(); }

// Throws std::invalid_argument for what no writer makes; never takes more memory than the limits of artifact.md allow.
Compact expand(const GraphText& graph, const Tensor& coded, const Tensor& rest);

}  // namespace subbyte
