// Products, differences and quotients of two maps, roots, and slopes for each channel.
#include <cmath>

#include "kernels/portable_epilogue.h"
#include "ops/work.h"

namespace subbyte {
namespace {

void multiply(const Operands& o, const Context& c, Range rows) {
  const int zero_a = o.in[0].zero_point, zero_b = o.in[1].zero_point, zero = o.out.zero_point, high = high_of(o.out);
  const float factor = o.node.factor_a;
  for (int r = rows.begin; r < rows.end; ++r) {
    for (int i = 0; i < o.y.width; ++i) {
      const std::uint8_t *a = c.address(o.x[0], r, i), *b = c.address(o.x[1], r, i);
      std::uint8_t* y = c.address(o.y, r, i);
      for (int k = 0; k < o.y.channels; ++k) {
        const float product = static_cast<float>((a[k] - zero_a) * (b[k] - zero_b)) * factor;
        y[k] = static_cast<std::uint8_t>(clamp(round_even(product) + zero, 0, high));
      }
    }
  }
}

void subtract(const Operands& o, const Context& c, Range rows) {
  const elementwise::Add p{o.in[0].zero_point, o.in[1].zero_point, o.out.zero_point, high_of(o.out),
                         o.node.factor_a,    -o.node.factor_b};
  for (int r = rows.begin; r < rows.end; ++r) {
    o.codes->add(p, c.address(o.x[0], r, 0), c.address(o.x[1], r, 0), o.y.width * o.y.pixel, c.address(o.y, r, 0));
  }
}

void prelu(const Operands& o, const Context& c, Range rows) {
  const elementwise::Prelu p{o.in[0].zero_point, o.out.zero_point, high_of(o.out), o.node.factor_a};
  const float* below = o.node.multiplier.data();
  for (int r = rows.begin; r < rows.end; ++r) {
    o.codes->prelu(p, below, c.address(o.x[0], r, 0), o.x[0].pixel, o.y.width, o.y.channels, c.address(o.y, r, 0),
                   o.y.pixel);
  }
}

// float32 values are dense: rows are one range of elements.
template <typename Element>
void for_elements(const Operands& o, Range rows, const Element& element) {
  for (std::int64_t i = rows.begin * row_elements(o.y); i < rows.end * row_elements(o.y); ++i) element(i);
}

void real_multiply(const Operands& o, const Context& c, Range rows) {
  const float *a = c.real(o.x[0]), *b = c.real(o.x[1]);
  float* y = c.real_out(o.y);
  for_elements(o, rows, [&](std::int64_t i) { y[i] = a[i] * b[i]; });
}

void real_subtract(const Operands& o, const Context& c, Range rows) {
  const float *a = c.real(o.x[0]), *b = c.real(o.x[1]);
  float* y = c.real_out(o.y);
  for_elements(o, rows, [&](std::int64_t i) { y[i] = a[i] - b[i]; });
}

void divide(const Operands& o, const Context& c, Range rows) {
  const float *a = c.real(o.x[0]), *b = c.real(o.x[1]);
  float* y = c.real_out(o.y);
  for_elements(o, rows, [&](std::int64_t i) { y[i] = a[i] == 0 && b[i] == 0 ? 0.0f : a[i] / b[i]; });
}

void square_root(const Operands& o, const Context& c, Range rows) {
  const float* x = c.real(o.x[0]);
  float* y = c.real_out(o.y);
  for_elements(o, rows, [&](std::int64_t i) { y[i] = x[i] > 0 ? std::sqrt(x[i]) : 0.0f; });
}

void real_prelu(const Operands& o, const Context& c, Range rows) {
  const std::int64_t pixels = static_cast<std::int64_t>(rows.end - rows.begin) * o.y.width;
  const float *x = c.real(o.x[0]) + rows.begin * row_elements(o.y), *slope = o.node.multiplier.data();
  float* y = c.real_out(o.y) + rows.begin * row_elements(o.y);
  for (std::int64_t p = 0; p < pixels; ++p, x += o.y.channels, y += o.y.channels) {
    for (int k = 0; k < o.y.channels; ++k) y[k] = x[k] >= 0 ? x[k] : slope[k] * x[k];
  }
}

}  // namespace

void check_multiply(const Operation& o) {
  check_add(o);
  need(std::fabs(o.node.factor_a) <= 1 << 14, o.node, "its factor is not within 2^14");  // times 255^2: a 31-bit number
}
StepPtr make_multiply(const Operation& o) { return make_work_step(o, multiply, real_multiply); }

void check_subtract(const Operation& o) { check_add(o); }
StepPtr make_subtract(const Operation& o) { return make_work_step(o, subtract, real_subtract); }

void check_divide(const Operation& o) {
  check_add(o);
  need(!o.out.quantized, o.node, "works on float32 values");
}
StepPtr make_divide(const Operation& o) { return make_work_step(o, divide); }

void check_sqrt(const Operation& o) {
  need(same_shape(*o.in[0], o.out) && !o.in[0]->quantized && !o.out.quantized, o.node,
       "works on float32 values, and changes no shape");
}
StepPtr make_sqrt(const Operation& o) { return make_work_step(o, square_root); }

void check_prelu(const Operation& o) {
  const ValueDesc& x = *o.in[0];
  need(same_shape(x, o.out) && x.quantized == o.out.quantized, o.node, "shape or type changes");
  need(o.node.multiplier.size() == static_cast<std::size_t>(x.channels), o.node, "needs a slope for each channel");
  for (const float m : o.node.multiplier) {
    need(std::isfinite(m) && (!x.quantized || std::fabs(m) <= 1 << 22), o.node, "a slope is too large");
  }
}
StepPtr make_prelu(const Operation& o) { return make_work_step(o, prelu, real_prelu); }

}  // namespace subbyte
