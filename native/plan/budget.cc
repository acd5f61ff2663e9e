// How much memory a plan may take: docs/spec/artifact.md, "Running". Halos, padding of pixels and channels, line
// buffers and what kernels read ahead or work in are not in a file's shapes; small shapes can be made to need much of them.
#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "exec/weights.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/dot/layer.h"
#include "kernels/real/real.h"
#include "kernels/winograd/winograd.h"
#include "plan/plan.h"

namespace subbyte {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kArenaFloor = 64 * kMiB, kWeightFloor = 32 * kMiB, kThread = kMiB;
constexpr std::int64_t kPanelEntry = 96;  // what a step knows of each panel of its weights, at most

std::int64_t up(std::int64_t value, std::int64_t unit) { return (value + unit - 1) / unit * unit; }

// subbyte/ir/limits.py: value_bytes.
std::int64_t declared(const ValueDesc& v) {
  return static_cast<std::int64_t>(v.height) * v.width * up(v.channels, 16) * (v.quantized ? 1 : 4);
}

std::int64_t stored(const NodeDesc& n) {
  return static_cast<std::int64_t>(n.weight_packed.size() + n.levels.size() + n.table.size() +
                                   4 * (n.bias.size() + n.multiplier.size() + n.weight_real.size() + n.bias_real.size()));
}

// At most what the step of a convolution packs its weights into.
std::int64_t packed(const NodeDesc& n, const ValueDesc& in, const ValueDesc& out, const Buffer& x, Isa isa) {
  const int in_group = in.channels / n.groups, out_group = out.channels / n.groups;
  const std::int64_t taps = static_cast<std::int64_t>(n.kernel_h) * n.kernel_w;
  if (!in.quantized) {
    const bool depthwise = n.groups == in.channels && out.channels == in.channels;
    const int panel = real::find(isa)->outputs;
    const std::int64_t terms = uses_real_winograd(n, in, out) ? 16 * in_group : taps * in_group;
    const std::int64_t outputs = depthwise ? out.channels : n.groups * up(out_group, panel);
    return 4 * outputs * (terms + 1) + 4 * in.channels + outputs / panel * kPanelEntry + 8 * taps;
  }
  if (is_depthwise(n, in, out)) {
    return static_cast<std::int64_t>(
        depthwise::find(isa)->packed_bytes({n.kernel_h, n.kernel_w, n.stride_w, in.channels}));
  }
  const int vectors = (out_group + 15) / 16, row = n.groups == 1 ? static_cast<int>(x.pixel) : (in_group + 3) / 4 * 4;
  // Codes are kept in their width unless padding has to meet a weight of zero that their code book lacks.
  const bool has_zero = std::find(n.levels.begin(), n.levels.end(), 0) != n.levels.end();
  const Format weights{Kind::kInt, row == in_group || has_zero ? code_bits(n) : 8};
  const bool rows = n.groups == 1 && n.dilation_w == 1;  // of taps are runs
  const int runs = rows ? n.kernel_h : static_cast<int>(taps);
  const int groups4 = (rows ? n.kernel_w : 1) * row / 4;
  std::size_t panels = dot::panel_bytes(runs, groups4, vectors, weights);
  if (dot::find(isa, weights, 16, dot::kSkips | dot::kDecodes)) panels = dot::most_expanded(panels);
  std::int64_t bytes = n.groups * (static_cast<std::int64_t>(panels) + vectors * (16 * 8 + kPanelEntry));
  if (uses_winograd(n, in, out, isa)) {
    bytes = std::max(bytes, static_cast<std::int64_t>(winograd::find(isa)->packed_bytes({row, out.channels})));
  }
  return bytes;
}

std::string mib(std::int64_t bytes) { return std::to_string((bytes + kMiB - 1) / kMiB) + " MiB"; }

[[noreturn]] void refuse(const std::string& needs, std::int64_t bytes, std::int64_t allowed, const char* why) {
  throw std::invalid_argument(needs + " would take " + mib(bytes) + " of memory, and " + mib(allowed) + " are allowed" +
                              why + "; raise memory_limit, in bytes, if you trust it");
}

}  // namespace

std::int64_t declared_bytes(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes, int input,
                            const std::vector<int>& outputs) {
  // changes[i]: bytes that appear with node i less those that are not needed any more by then.
  std::vector<std::int64_t> changes(nodes.size() + 2, 0);
  std::vector<std::size_t> last(values.size(), 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    last[nodes[i].output] = i;
    for (const int v : nodes[i].inputs) last[v] = i;
  }
  for (const int v : outputs) last[v] = nodes.size();
  const auto lives = [&](int v, std::size_t from) {
    changes[from] += declared(values[v]), changes[last[v] + 1] -= declared(values[v]);
  };
  lives(input, 0);
  for (std::size_t i = 0; i < nodes.size(); ++i) lives(nodes[i].output, i);
  std::partial_sum(changes.begin(), changes.end(), changes.begin());
  return *std::max_element(changes.begin(), changes.end());
}

Budget make_budget(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes, int input,
                   const std::vector<int>& outputs, const Options& options) {
  Budget b{options.memory_limit, options.streams, options.threads};
  b.arena = kArenaFloor + 2 * declared_bytes(values, nodes, input, outputs) + kThread * options.threads;
  b.weights = kWeightFloor;
  for (const NodeDesc& n : nodes) b.weights += 8 * stored(n);
  return b;
}

std::int64_t packed_bytes(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes,
                          const std::vector<Buffer>& buffers, Isa isa) {
  std::int64_t bytes = 0;
  for (const NodeDesc& n : nodes) {
    if (!info_of(n.op).is(kWeighted)) {
      // a gate's, with whoever applies it
      bytes += static_cast<std::int64_t>(4 * (n.multiplier.size() + n.weight_real.size() + n.bias_real.size()));
      continue;
    }
    bytes += packed(n, values[n.inputs[0]], values[n.output], buffers[n.inputs[0]], isa);
  }
  return bytes;
}

void Budget::check(std::int64_t arena_bytes, std::int64_t scratch_bytes, std::int64_t weight_bytes) const {
  const std::int64_t stream = arena_bytes + threads * scratch_bytes;
  if (limit > 0) {
    if (streams * stream + weight_bytes > limit) refuse("it", streams * stream + weight_bytes, limit, "");
    return;
  }
  if (stream > arena) refuse("its activations", stream, arena, " for values of these shapes");
  if (weight_bytes > weights) refuse("its weights", weight_bytes, weights, " for as many as there are");
}

}  // namespace subbyte
