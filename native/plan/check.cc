// The engine's own inspection of a graph: nothing a step reads may lie outside what it was given. Every field is bounded
// first, so that what is computed from them afterwards, here and in the steps, fits its type.
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "ops/ops.h"
#include "plan/plan.h"

namespace subbyte {
namespace {

// The limits of subbyte/ir/limits.py and docs/spec/numerics.md.
constexpr int kMaxExtent = 1 << 16, kMaxWindow = 256;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;
constexpr float kMaxFactor = 1 << 20;

bool within(int value, int low, int high) { return value >= low && value <= high; }

void check_value(const ValueDesc& v) {
  const bool shape = within(v.height, 1, kMaxExtent) && within(v.width, 1, kMaxExtent) && v.channels >= 1 &&
                     static_cast<std::int64_t>(v.height) * v.width * v.channels <= kMaxElements;
  if (!shape) throw std::invalid_argument("value '" + v.name + "': shape out of range");
  if (!v.quantized) return;
  const bool grid = v.bits >= 2 && v.bits <= 8 && v.zero_point >= 0 && v.zero_point < (1 << v.bits) &&
                    std::isnormal(v.scale) && v.scale > 0 &&
                    (v.level_bits == 0 || (within(v.level_bits, 2, 4) && v.bits == 8));
  if (!grid) throw std::invalid_argument("value '" + v.name + "': grid out of range");
}

void check_node(const std::vector<ValueDesc>& values, const NodeDesc& n, const Options& options) {
  need(std::fabs(n.factor_a) <= kMaxFactor && std::fabs(n.factor_b) <= kMaxFactor, n, "a factor is not within 2^20");
  need(within(static_cast<int>(n.activation.act), 0, kActivationCount - 1), n, "unknown activation");
  for (const float p : n.activation.parameters) need(std::isfinite(p), n, "an activation's parameter is not finite");
  Operation o{n, options, {}, values[n.output]};
  for (const int i : n.inputs) o.in.push_back(&values[i]);
  functions_of(n.op).check(o);
}

}  // namespace

void need(bool condition, const NodeDesc& n, const char* text) {
  if (!condition) throw std::invalid_argument("node '" + n.name + "': " + text);
}

bool same_shape(const ValueDesc& a, const ValueDesc& b) {
  return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

void check_window(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y) {
  need(within(n.kernel_h, 1, kMaxWindow) && within(n.kernel_w, 1, kMaxWindow) && n.kernel_h * n.kernel_w <= kMaxWindow,
       n, "kernel must have 1 to 256 positions");
  need(within(n.stride_h, 1, kMaxExtent) && within(n.stride_w, 1, kMaxExtent), n, "stride must be 1 to 65536");
  need(n.pad_top >= 0 && n.pad_bottom >= 0 && n.pad_left >= 0 && n.pad_right >= 0, n, "negative padding");
  need(within(n.dilation_h, 1, kMaxWindow) && within(n.dilation_w, 1, kMaxWindow) && n.reach_h() <= kMaxWindow &&
           n.reach_w() <= kMaxWindow, n, "a dilated kernel must reach over at most 256 rows and columns");
  need(!n.dilated() || info_of(n.op).is(kWeighted), n, "only a convolution may be dilated");
  need(n.pad_top < n.reach_h() && n.pad_bottom < n.reach_h() && n.pad_left < n.reach_w() && n.pad_right < n.reach_w(), n,
       "padding as large as the kernel");
  const int height = x.height + n.pad_top + n.pad_bottom - n.reach_h();
  const int width = x.width + n.pad_left + n.pad_right - n.reach_w();
  need(height >= 0 && width >= 0 && y.height == height / n.stride_h + 1 && y.width == width / n.stride_w + 1, n,
       "output shape does not follow");
}

const OpFunctions& functions_of(Op op) {
  static constexpr OpFunctions kFunctions[] = {  // indexed by Op
#define SUBBYTE_OP(enumerator, name, fewest, most, traits, attributes) {check_##name, make_##name},
#include "subbyte/ops.inc"
  };
  return kFunctions[static_cast<int>(op)];
}

void check_graph(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes, int input,
                 const std::vector<int>& outputs, const Options& options) {
  if (options.threads < 1 || options.threads > 256 || options.streams < 1 || options.streams > 256) {
    throw std::invalid_argument("threads and streams must be 1 to 256");
  }
  if (!isa_supported(options.isa)) {
    throw std::invalid_argument(std::string("this CPU cannot run ") + isa_name(options.isa));
  }
  const int count = static_cast<int>(values.size());
  if (input < 0 || input >= count || values[input].quantized || outputs.empty()) {
    throw std::invalid_argument("bad input or outputs");
  }
  std::vector<char> known(values.size(), 0);
  for (const ValueDesc& v : values) check_value(v);
  known[input] = 1;
  for (const NodeDesc& n : nodes) {
    need(static_cast<std::size_t>(n.op) < std::size(kOps), n, "unknown operation");
    const OpInfo& op = info_of(n.op);
    need(n.inputs.size() >= op.fewest_inputs && n.inputs.size() <= op.most_inputs, n, "wrong number of inputs");
    for (const int i : n.inputs) need(i >= 0 && i < count && known[i], n, "reads a value that nothing made");
    need(n.output >= 0 && n.output < count && !known[n.output], n, "writes a value twice");
    check_node(values, n, options);
    known[n.output] = 1;
  }
  for (const int o : outputs) {
    if (o < 0 || o >= count || !known[o] || o == input) throw std::invalid_argument("bad output");
  }
}

}  // namespace subbyte
