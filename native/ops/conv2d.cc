// Convolutions, linear layers included: which family makes one.
#include <cmath>

#include "exec/weights.h"
#include "ops/ops.h"
#include "plan/plan.h"

namespace subbyte {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 28;

void check_residual(const Operation& o) {
  const ValueDesc &r = *o.in[1], &y = o.out;
  need(same_shape(r, y) && r.quantized == y.quantized && o.in[0]->quantized == y.quantized, o.node,
       "residual does not fit");
  need(!y.quantized || (o.node.activation.act == Act::kNone && !o.node.has_table), o.node,
       "a residual cannot follow an activation");
}

}  // namespace

void check_conv2d(const Operation& o) {
  const NodeDesc& n = o.node;
  const ValueDesc &x = *o.in[0], &y = o.out;
  check_window(n, x, y);
  need(n.groups >= 1 && x.channels % n.groups == 0 && y.channels % n.groups == 0, n, "channels do not fit the groups");
  const std::int64_t per_output = static_cast<std::int64_t>(n.kernel_h) * n.kernel_w * (x.channels / n.groups);
  need(per_output <= kMaxElements / y.channels, n, "more than 2^28 weights");
  const std::size_t count = static_cast<std::size_t>(y.channels) * static_cast<std::size_t>(per_output);
  if (o.in.size() == 2) check_residual(o);
  if (!x.quantized) {
    need(!y.quantized, n, "float32 inputs make float32 outputs");
    need(n.weight_real.size() == count && n.bias_real.size() == static_cast<std::size_t>(y.channels), n,
         "float32 weights have the wrong size");
    return;
  }
  const int bits = code_bits(n);
  need(bits == 8 || bits == 4 || bits == 2, n, "weights must have codes of 8, 4 or 2 bits");
  need(n.weight_packed.size() == (count * static_cast<std::size_t>(bits) + 7) / 8, n, "weights have the wrong size");
  need(n.levels.size() == std::size_t{1} << bits, n, "code book has the wrong size");
  const std::size_t outputs = static_cast<std::size_t>(y.channels);
  need(n.bias.size() == outputs && n.multiplier.size() == outputs, n, "bias or multiplier has the wrong size");
  for (const float m : n.multiplier) need(std::isfinite(m) && m >= 0, n, "a multiplier is not finite");
  need(!n.has_table || (n.table.size() == 256 && n.pre_zero >= 0 && n.pre_zero <= 255), n, "bad table");
  need(!n.has_table || y.quantized, n, "a table makes codes, the output is float32");
  need(n.clamp_low >= 0 && n.clamp_low <= n.clamp_high && n.clamp_high <= 255, n, "bad clamp");
}

StepPtr make_conv2d(const Operation& o) {
  const NodeDesc& n = o.node;
  const ValueDesc &in = *o.in[0], *residual_value = o.in.size() == 2 ? o.in[1] : nullptr;
  const Buffer &x = *o.x[0], &y = *o.y, *residual = o.x.size() == 2 ? o.x[1] : nullptr;
  if (uses_real_winograd(n, in, o.out)) return make_real_winograd_step(n, x, residual, y, o.options.isa);
  if (!in.quantized) return make_real_conv_step(n, x, residual, y, o.options.isa);
  if (is_depthwise(n, in, o.out)) return make_depthwise_step(n, x, y, o.out, o.options.isa);
  if (!o.gate && uses_winograd(n, in, o.out, o.options.isa)) {
    return make_winograd_step(n, x, residual, residual_value, y, o.out, o.options.isa);
  }
  return make_dot_step(n, x, residual, residual_value, y, o.out, o.gate, o.options);
}

bool is_depthwise(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y) {
  return x.quantized && !n.dilated() && n.groups == x.channels && y.channels == x.channels && x.channels > 1 && n.inputs.size() == 1;
}

}  // namespace subbyte
