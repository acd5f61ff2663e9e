// The engine's own inspection of a graph: nothing a step reads may lie outside what it was given. Every field is bounded
// first, so that what is computed from them afterwards, here and in the steps, fits its type.
#include <cmath>
#include <iterator>
#include <stdexcept>

#include "plan/plan.h"

namespace subbyte {
namespace {

[[noreturn]] void fail(const NodeDesc& n, const std::string& text) {
  throw std::invalid_argument("node '" + n.name + "': " + text);
}

void need(bool condition, const NodeDesc& n, const char* text) {
  if (!condition) fail(n, text);
}

bool same_shape(const ValueDesc& a, const ValueDesc& b) {
  return a.height == b.height && a.width == b.width && a.channels == b.channels;
}

// The limits of subbyte/ir/limits.py and docs/spec/numerics.md.
constexpr int kMaxExtent = 1 << 16, kMaxWindow = 256;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;  // of a value, of a weight
constexpr float kMaxFactor = 1 << 20;

bool within(int value, int low, int high) { return value >= low && value <= high; }

void check_value(const ValueDesc& v) {
  const bool shape = within(v.height, 1, kMaxExtent) && within(v.width, 1, kMaxExtent) && v.channels >= 1 &&
                     static_cast<std::int64_t>(v.height) * v.width * v.channels <= kMaxElements;
  if (!shape) throw std::invalid_argument("value '" + v.name + "': shape out of range");
  if (!v.quantized) return;
  const bool grid = v.bits >= 2 && v.bits <= 8 && v.zero_point >= 0 && v.zero_point < (1 << v.bits) &&
                    std::isnormal(v.scale) && v.scale > 0;
  if (!grid) throw std::invalid_argument("value '" + v.name + "': grid out of range");
}

void check_window(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y) {
  need(within(n.kernel_h, 1, kMaxWindow) && within(n.kernel_w, 1, kMaxWindow) && n.kernel_h * n.kernel_w <= kMaxWindow,
       n, "kernel must have 1 to 256 positions");
  need(within(n.stride_h, 1, kMaxExtent) && within(n.stride_w, 1, kMaxExtent), n, "stride must be 1 to 65536");
  need(n.pad_top >= 0 && n.pad_bottom >= 0 && n.pad_left >= 0 && n.pad_right >= 0, n, "negative padding");
  need(n.pad_top < n.kernel_h && n.pad_bottom < n.kernel_h && n.pad_left < n.kernel_w && n.pad_right < n.kernel_w, n,
       "padding as large as the kernel");
  const int height = x.height + n.pad_top + n.pad_bottom - n.kernel_h;
  const int width = x.width + n.pad_left + n.pad_right - n.kernel_w;
  need(height >= 0 && width >= 0 && y.height == height / n.stride_h + 1 && y.width == width / n.stride_w + 1, n,
       "output shape does not follow");
}

void check_conv(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y) {
  check_window(n, x, y);
  need(n.groups >= 1 && x.channels % n.groups == 0 && y.channels % n.groups == 0, n, "channels do not fit the groups");
  const std::int64_t per_output = static_cast<std::int64_t>(n.kernel_h) * n.kernel_w * (x.channels / n.groups);
  need(per_output <= kMaxElements / y.channels, n, "more than 2^28 weights");
  const std::size_t count = static_cast<std::size_t>(y.channels) * static_cast<std::size_t>(per_output);
  if (!x.quantized) {
    need(!y.quantized, n, "float32 inputs make float32 outputs");
    need(n.weight_real.size() == count && n.bias_real.size() == static_cast<std::size_t>(y.channels), n,
         "float32 weights have the wrong size");
    return;
  }
  need(n.weight_bits == 8 || (n.weight_bits >= 2 && n.weight_bits <= 4), n, "weight bits must be 8, 4, 3 or 2");
  const int bits = code_bits(n.weight_bits);
  need(n.weight_packed.size() == (count * static_cast<std::size_t>(bits) + 7) / 8, n, "weights have the wrong size");
  need(n.levels.size() == (std::size_t{1} << bits), n, "code book has the wrong size");
  const std::size_t outputs = static_cast<std::size_t>(y.channels);
  need(n.bias.size() == outputs && n.multiplier.size() == outputs, n, "bias or multiplier has the wrong size");
  for (const float m : n.multiplier) need(std::isfinite(m) && m >= 0, n, "a multiplier is not finite");
  need(!n.has_table || (n.table.size() == 256 && n.pre_zero >= 0 && n.pre_zero <= 255), n, "bad table");
  need(!n.has_table || y.quantized, n, "a table makes codes, the output is float32");
  need(n.clamp_low >= 0 && n.clamp_low <= n.clamp_high && n.clamp_high <= 255, n, "bad clamp");
}

void check_node(const std::vector<ValueDesc>& values, const NodeDesc& n) {
  const ValueDesc& x = values[n.inputs[0]];
  const ValueDesc& y = values[n.output];
  need(std::fabs(n.factor_a) <= kMaxFactor && std::fabs(n.factor_b) <= kMaxFactor, n, "a factor is not within 2^20");
  need(within(static_cast<int>(n.activation.act), 0, kActivationCount - 1), n, "unknown activation");
  for (const float p : n.activation.parameters) need(std::isfinite(p), n, "an activation's parameter is not finite");
  switch (n.op) {
    case Op::kQuantize:
      need(!x.quantized && y.quantized && same_shape(x, y), n, "quantize: float32 to codes of the same shape");
      return;
    case Op::kDequantize:
      need(x.quantized && !y.quantized && same_shape(x, y), n, "dequantize: codes to float32 of the same shape");
      return;
    case Op::kConv2d:
      check_conv(n, x, y);
      if (n.inputs.size() == 2) {
        const ValueDesc& r = values[n.inputs[1]];
        need(same_shape(r, y) && r.quantized == y.quantized && x.quantized == y.quantized, n, "residual does not fit");
        need(!y.quantized || (n.activation.act == Act::kNone && !n.has_table), n,
             "a residual cannot follow an activation");
      }
      return;
    case Op::kActivation:
      need(same_shape(x, y) && x.quantized == y.quantized, n, "shape or type changes");
      need(!x.quantized || n.table.size() == 256, n, "table must have 256 entries");
      return;
    case Op::kAdd: {
      const ValueDesc& b = values[n.inputs[1]];
      need(same_shape(x, y) && same_shape(b, y) && x.quantized == y.quantized && b.quantized == y.quantized, n,
           "operands do not fit");
      return;
    }
    case Op::kMul: {
      const ValueDesc& g = values[n.inputs[1]];
      need(same_shape(x, y) && g.height == 1 && g.width == 1 && g.channels == x.channels, n, "gate does not fit");
      need(x.quantized == y.quantized && g.quantized == y.quantized, n, "mixed types");
      return;
    }
    case Op::kGlobalAvgPool:
      need(y.height == 1 && y.width == 1 && y.channels == x.channels && x.quantized == y.quantized, n,
           "output does not fit");
      need(static_cast<std::int64_t>(x.height) * x.width * 255 < (std::int64_t{1} << 31), n, "image too large to pool");
      return;
    case Op::kMaxPool2d:
      check_window(n, x, y);
      need(y.channels == x.channels && x.quantized == y.quantized, n, "output does not fit");
      return;
    case Op::kConcat: {
      std::int64_t channels = 0;
      for (const int i : n.inputs) {
        const ValueDesc& v = values[i];
        need(v.height == y.height && v.width == y.width && v.quantized == y.quantized, n, "operands do not line up");
        channels += v.channels;
      }
      need(channels == y.channels, n, "channels do not add up");
      return;
    }
    case Op::kFlatten:
      need(y.height == 1 && y.width == 1 && x.quantized == y.quantized &&
               y.channels == static_cast<std::int64_t>(x.height) * x.width * x.channels, n, "output does not fit");
      return;
  }
  fail(n, "unknown operation");
}

}  // namespace

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
    const OpInfo& op = kOps[static_cast<int>(n.op)];
    need(n.inputs.size() >= op.fewest_inputs && n.inputs.size() <= op.most_inputs, n, "wrong number of inputs");
    for (const int i : n.inputs) need(i >= 0 && i < count && known[i], n, "reads a value that nothing made");
    need(n.output >= 0 && n.output < count && !known[n.output], n, "writes a value twice");
    check_node(values, n);
    known[n.output] = 1;
  }
  for (const int o : outputs) {
    if (o < 0 || o >= count || !known[o] || o == input) throw std::invalid_argument("bad output");
  }
}

}  // namespace subbyte
