// Conversions, activations, sums and gates.
#include <algorithm>

#include "ops/work.h"

namespace subbyte {
namespace {

void quantize(const Operands& o, const Context& c, Range rows) {
  const float* in = c.real(o.x[0]);
  const auto zero = static_cast<float>(o.out.zero_point);
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->quantize(in + y * row_elements(o.x[0]), o.y.width, o.y.channels, 1.0f / o.out.scale, -zero,
                      static_cast<float>(high_of(o.out)) - zero, o.out.zero_point, c.address(o.y, y, 0), o.y.pixel);
  }
}

void dequantize_rows(const Operands& o, const Context& c, Range rows) {
  const Buffer& x = o.x[0];
  for (int y = rows.begin; y < rows.end; ++y) {
    for (int i = 0; i < x.width; ++i) {
      o.codes->dequantize(c.address(x, y, i), x.channels, o.in[0].zero_point, o.in[0].scale,
                          c.real_out(o.y) + y * row_elements(o.y) + static_cast<std::int64_t>(i) * x.channels);
    }
  }
}

void look_up(const Operands& o, const Context& c, Range rows) {
  alignas(64) std::uint8_t table[256];
  std::copy(o.node.table.begin(), o.node.table.end(), table);
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->look_up(table, c.address(o.x[0], y, 0), o.y.width * o.y.pixel, c.address(o.y, y, 0));
  }
}

void add(const Operands& o, const Context& c, Range rows) {
  const elementwise::Add p{o.in[0].zero_point, o.in[1].zero_point, o.out.zero_point, high_of(o.out),
                         o.node.factor_a,    o.node.factor_b};
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->add(p, c.address(o.x[0], y, 0), c.address(o.x[1], y, 0), o.y.width * o.y.pixel, c.address(o.y, y, 0));
  }
}

void mul(const Operands& o, const Context& c, Range rows) {
  auto* factors = reinterpret_cast<std::int16_t*>(c.scratch);
  gate_factors(*o.codes, o.node.multiplier, o.in[1].zero_point, c.address(o.x[1], 0, 0), factors);
  const elementwise::Gate gate{o.in[0].zero_point, o.out.zero_point, high_of(o.out)};
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->gate(gate, factors, c.address(o.x[0], y, 0), o.x[0].pixel, o.y.width, o.y.channels, c.address(o.y, y, 0),
                  o.y.pixel);
  }
}

// float32 values are dense: one range of elements.
Range element_share(const Buffer& b, const Context& c) {
  return share(b.height * b.width * b.channels, c.thread, c.threads);
}

void real_activate(const Operands& o, const Context& c, Range) {
  const Range e = element_share(o.y, c);
  o.real->activate(o.node.activation, c.real(o.x[0]) + e.begin, e.end - e.begin,
                   c.real_out(o.y) + e.begin);
}

void real_add(const Operands& o, const Context& c, Range) {
  const Range e = element_share(o.y, c);
  o.real->add(c.real(o.x[0]) + e.begin, c.real(o.x[1]) + e.begin, e.end - e.begin, c.real_out(o.y) + e.begin);
}

void real_mul(const Operands& o, const Context& c, Range rows) {
  const std::int64_t at = rows.begin * row_elements(o.y);
  const float* gate = c.real(o.x[1]);
  if (!o.node.multiplier.empty()) {
    auto* scaled = reinterpret_cast<float*>(c.scratch);
    o.real->gate(gate, o.node.multiplier.data(), 1, o.y.channels, scaled);
    gate = scaled;
  }
  o.real->gate(c.real(o.x[0]) + at, gate, (rows.end - rows.begin) * o.y.width, o.y.channels, c.real_out(o.y) + at);
}

}  // namespace

void check_quantize(const Operation& o) {
  need(!o.in[0]->quantized && o.out.quantized && same_shape(*o.in[0], o.out), o.node,
       "quantize: float32 to codes of the same shape");
}
StepPtr make_quantize(const Operation& o) { return make_work_step(o, quantize); }

void check_dequantize(const Operation& o) {
  need(o.in[0]->quantized && !o.out.quantized && same_shape(*o.in[0], o.out), o.node,
       "dequantize: codes to float32 of the same shape");
}
StepPtr make_dequantize(const Operation& o) { return make_work_step(o, dequantize_rows); }

void check_activation(const Operation& o) {
  const ValueDesc& x = *o.in[0];
  need(same_shape(x, o.out) && x.quantized == o.out.quantized, o.node, "shape or type changes");
  need(!x.quantized || o.node.table.size() == 256, o.node, "table must have 256 entries");
}
StepPtr make_activation(const Operation& o) { return make_work_step(o, look_up, real_activate); }

void check_add(const Operation& o) {
  for (const ValueDesc* v : o.in) {
    need(same_shape(*v, o.out) && v->quantized == o.out.quantized, o.node, "operands do not fit");
  }
}
StepPtr make_add(const Operation& o) { return make_work_step(o, add, real_add); }

void check_mul(const Operation& o) {
  const ValueDesc &x = *o.in[0], &g = *o.in[1];
  need(same_shape(x, o.out) && g.height == 1 && g.width == 1 && g.channels == x.channels, o.node, "gate does not fit");
  need(x.quantized == o.out.quantized && g.quantized == o.out.quantized, o.node, "mixed types");
  const std::vector<float>& m = o.node.multiplier;
  need(m.size() == static_cast<std::size_t>(x.channels) || (m.empty() && !x.quantized), o.node,
       "needs a multiplier for each channel");
  // rounded to 32 bits in the kernels, times a code
  need(std::all_of(m.begin(), m.end(), [](float v) { return v >= 0 && v <= 1 << 20; }), o.node,
       "a multiplier is not within 2^20");
}
StepPtr make_mul(const Operation& o) { return make_work_step(o, mul, real_mul); }

}  // namespace subbyte
