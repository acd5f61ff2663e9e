// Operations that only move elements.
#include <cstring>

#include "ops/work.h"

namespace subbyte {
namespace {

void concat(const Operands& o, const Context& c, Range rows) {
  std::ptrdiff_t at = 0;
  for (const Buffer& x : o.x) {
    const std::ptrdiff_t bytes = x.channels * x.element;
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int i = 0; i < x.width; ++i) {
        std::memcpy(c.address(o.y, y, i) + at, pixel_of(c, x, y, i), static_cast<std::size_t>(bytes));
      }
    }
    at += bytes;
  }
}

void flatten(const Operands& o, const Context& c, Range) {
  const Buffer& x = o.x[0];
  const Range rows = share(x.height, c.thread, c.threads);
  for (int y = rows.begin; y < rows.end; ++y) {
    for (int i = 0; i < x.width; ++i) {
      const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(y) * x.width + i) * x.channels * x.element;
      std::memcpy(c.address(o.y, 0, 0) + at, pixel_of(c, x, y, i), static_cast<std::size_t>(x.channels * x.element));
    }
  }
}

}  // namespace

void check_concat(const Operation& o) {
  std::int64_t channels = 0;
  for (const ValueDesc* v : o.in) {
    need(v->height == o.out.height && v->width == o.out.width && v->quantized == o.out.quantized, o.node,
         "operands do not line up");
    channels += v->channels;
  }
  need(channels == o.out.channels, o.node, "channels do not add up");
}
StepPtr make_concat(const Operation& o) { return make_work_step(o, concat); }

void check_flatten(const Operation& o) {
  const ValueDesc &x = *o.in[0], &y = o.out;
  need(y.height == 1 && y.width == 1 && x.quantized == y.quantized &&
           y.channels == static_cast<std::int64_t>(x.height) * x.width * x.channels, o.node, "output does not fit");
}
StepPtr make_flatten(const Operation& o) { return make_work_step(o, flatten); }

}  // namespace subbyte
