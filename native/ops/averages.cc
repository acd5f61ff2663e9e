// Averages over windows of positions.
#include "ops/work.h"

namespace subbyte {
namespace {

// The positions of output i that lie inside the input, and how many count: subbyte/ir/coordinates.py, spans.
struct Span {
  int begin, end, counted;
};

Span span_of(const NodeDesc& n, bool rows, int i, int extent, int made) {
  if (n.numbers.empty()) {  // adaptive
    const std::int64_t wide = extent;
    const int begin = static_cast<int>(i * wide / made), end = static_cast<int>(((i + 1) * wide + made - 1) / made);
    return {begin, end, end - begin};
  }
  const int kernel = rows ? n.kernel_h : n.kernel_w;
  const int first = i * (rows ? n.stride_h : n.stride_w) - (rows ? n.pad_top : n.pad_left);
  const int begin = std::max(first, 0), end = std::min(first + kernel, extent);
  return {begin, end, n.numbers[0] == 1 ? kernel : end - begin};
}

void average(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  auto* sums = reinterpret_cast<std::uint32_t*>(c.scratch);
  for (int r = rows.begin; r < rows.end; ++r) {
    const Span v = span_of(o.node, true, r, x.height, y.height);
    for (int i = 0; i < y.width; ++i) {
      const Span h = span_of(o.node, false, i, x.width, y.width);
      std::fill(sums, sums + y.channels, 0u);
      for (int in = v.begin; in < v.end; ++in) {
        o.codes->sum(c.address(x, in, h.begin), x.pixel, h.end - h.begin, y.channels, sums);
      }
      const std::int64_t taken = static_cast<std::int64_t>(v.end - v.begin) * (h.end - h.begin);
      const float scale = o.node.factor_a / static_cast<float>(static_cast<std::int64_t>(v.counted) * h.counted);
      o.codes->average(sums, y.channels, taken * o.in[0].zero_point, scale, o.out.zero_point, high_of(o.out),
                       c.address(y, r, i));
    }
  }
}

void real_average(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  auto* sums = reinterpret_cast<double*>(c.scratch);
  for (int r = rows.begin; r < rows.end; ++r) {
    const Span v = span_of(o.node, true, r, x.height, y.height);
    for (int i = 0; i < y.width; ++i) {
      const Span h = span_of(o.node, false, i, x.width, y.width);
      std::fill(sums, sums + y.channels, 0.0);
      for (int in = v.begin; in < v.end; ++in) {
        o.real->sum(c.real(x) + in * row_elements(x) + static_cast<std::int64_t>(h.begin) * x.channels, h.end - h.begin,
                    y.channels, sums);
      }
      const double counted = static_cast<double>(v.counted) * h.counted;
      float* out = c.real_out(y) + r * row_elements(y) + static_cast<std::int64_t>(i) * y.channels;
      for (int k = 0; k < y.channels; ++k) out[k] = static_cast<float>(sums[k] / counted);
    }
  }
}

}  // namespace

void check_avg_pool2d(const Operation& o) {
  check_window(o.node, *o.in[0], o.out);
  need(o.node.numbers.size() == 1 && (o.node.numbers[0] == 0 || o.node.numbers[0] == 1), o.node, "count_pad must be 0 or 1");
  need(o.out.channels == o.in[0]->channels && o.in[0]->quantized == o.out.quantized, o.node, "output does not fit");
}
StepPtr make_avg_pool2d(const Operation& o) { return make_work_step(o, average, real_average); }

void check_adaptive_avg_pool2d(const Operation& o) {
  const ValueDesc &x = *o.in[0], &y = o.out;
  need(y.channels == x.channels && x.quantized == y.quantized && o.node.numbers.empty(), o.node, "output does not fit");
  need(static_cast<std::int64_t>(x.height) * x.width * 255 < (std::int64_t{1} << 31), o.node, "image too large to pool");
}
StepPtr make_adaptive_avg_pool2d(const Operation& o) { return make_work_step(o, average, real_average); }

}  // namespace subbyte
