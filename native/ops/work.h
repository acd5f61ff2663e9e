// Steps that are one function over rows or elements: everything but convolutions.
#pragma once

#include <algorithm>

#include "kernels/elementwise/elementwise.h"
#include "kernels/real/real.h"
#include "ops/ops.h"

namespace subbyte {

// What a work has: copies, for as long as its step lives.
struct Operands {
  std::vector<Buffer> x;
  std::vector<ValueDesc> in;
  Buffer y;
  ValueDesc out;
  NodeDesc node;
  const elementwise::Kernel* codes;
  const real::Kernel* real;
};

// Does some rows of the output; work that is not by rows shares itself out and ignores them.
using Work = void (*)(const Operands&, const Context&, Range rows);

// Scratch memory: 8 bytes for each channel of the first input, and 256.
StepPtr make_work_step(const Operation& o, Work work);
inline StepPtr make_work_step(const Operation& o, Work codes, Work real) {
  return make_work_step(o, o.in[0]->quantized ? codes : real);
}

inline int high_of(const ValueDesc& v) { return (1 << v.bits) - 1; }
inline std::int64_t row_elements(const Buffer& b) { return static_cast<std::int64_t>(b.width) * b.channels; }
// Where a pixel of any value begins, the caller's input included.
inline const std::uint8_t* pixel_of(const Context& c, const Buffer& x, int row, int column) {
  if (x.offset >= 0) return c.address(x, row, column);
  return reinterpret_cast<const std::uint8_t*>(c.input) + row * x.row + column * x.pixel;
}

}  // namespace subbyte
