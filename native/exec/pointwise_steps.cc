// Steps that are not convolutions, quantized and float32.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "exec/step.h"
#include "kernels/pointwise/pointwise.h"
#include "kernels/real/real.h"

namespace subbyte {

void fill_halo(const Context& c, const Buffer& b) {
  if (b.top + b.bottom + b.left + b.right == 0) return;
  const Range rows = share(b.top + b.height + b.bottom, c.thread, c.threads);
  for (int r = rows.begin; r < rows.end; ++r) {
    const int y = r - b.top;
    std::uint8_t* row = c.address(b, y, -b.left);
    if (y < 0 || y >= b.height) {
      std::memset(row, b.zero_point, static_cast<std::size_t>(b.row));
      continue;
    }
    std::memset(row, b.zero_point, static_cast<std::size_t>(b.left * b.pixel));
    std::memset(c.address(b, y, b.width), b.zero_point, static_cast<std::size_t>(b.right * b.pixel));
  }
}

void gate_factors(const pointwise::Kernel& kernel, const GateSource& g, const std::uint8_t* codes, int channels,
                  std::int16_t* factors) {
  kernel.factors(codes, channels, g.zero_gate, g.factor, factors);
  std::fill(factors + channels, factors + channels + 64, std::int16_t{0});
}

namespace {

// Inputs, output and kernels that every step here has.
struct Operands {
  std::vector<Buffer> x;
  std::vector<ValueDesc> in;
  Buffer y;
  ValueDesc out;
  NodeDesc node;
  const pointwise::Kernel* codes;
  const real::Kernel* real;
};

// Does some rows of the output; work that is not by rows shares itself out and ignores them.
using Work = void (*)(const Operands&, const Context&, Range rows);

int high_of(const ValueDesc& v) { return (1 << v.bits) - 1; }
std::int64_t row_elements(const Buffer& b) { return static_cast<std::int64_t>(b.width) * b.channels; }

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
  const pointwise::Add p{o.in[0].zero_point, o.in[1].zero_point, o.out.zero_point, high_of(o.out),
                         o.node.factor_a,    o.node.factor_b};
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->add(p, c.address(o.x[0], y, 0), c.address(o.x[1], y, 0), o.y.width * o.y.pixel, c.address(o.y, y, 0));
  }
}

void mul(const Operands& o, const Context& c, Range rows) {
  const GateSource source{nullptr, o.in[0].zero_point, o.in[1].zero_point, o.out.zero_point, high_of(o.out),
                          o.node.factor_a};
  auto* factors = reinterpret_cast<std::int16_t*>(c.scratch);
  gate_factors(*o.codes, source, c.address(o.x[1], 0, 0), o.y.channels, factors);
  const pointwise::Gate gate{source.zero_x, source.zero, source.high};
  for (int y = rows.begin; y < rows.end; ++y) {
    o.codes->gate(gate, factors, c.address(o.x[0], y, 0), o.x[0].pixel, o.y.width, o.y.channels, c.address(o.y, y, 0),
                  o.y.pixel);
  }
}

// Channels are shared out in blocks of 64.
Range channel_share(int channels, const Context& c) {
  const Range blocks = share((channels + 63) / 64, c.thread, c.threads);
  return {std::min(channels, 64 * blocks.begin), std::min(channels, 64 * blocks.end)};
}

void global_avg_pool(const Operands& o, const Context& c, Range) {
  const Buffer& x = o.x[0];
  const Range channels = channel_share(x.channels, c);
  const int count = channels.end - channels.begin;
  auto* sums = reinterpret_cast<std::uint32_t*>(c.scratch);
  std::fill(sums, sums + count, 0u);
  for (int y = 0; y < x.height; ++y) {
    o.codes->sum(c.address(x, y, 0) + channels.begin, x.pixel, x.width, count, sums);
  }
  const std::int64_t positions = static_cast<std::int64_t>(x.height) * x.width;
  std::uint8_t* out = c.address(o.y, 0, 0) + channels.begin;
  o.codes->average(sums, count, positions * o.in[0].zero_point, o.node.factor_a, o.out.zero_point, high_of(o.out), out);
}

// Calls visit(y, x, input y, input x) for every tap inside the image.
template <typename Visit>
void for_taps(const Operands& o, Range rows, const Visit& visit) {
  const NodeDesc& n = o.node;
  for (int y = rows.begin; y < rows.end; ++y) {
    for (int x = 0; x < o.y.width; ++x) {
      for (int ky = 0; ky < n.kernel_h; ++ky) {
        for (int kx = 0; kx < n.kernel_w; ++kx) {
          const int iy = y * n.stride_h - n.pad_top + ky, ix = x * n.stride_w - n.pad_left + kx;
          if (iy >= 0 && iy < o.x[0].height && ix >= 0 && ix < o.x[0].width) visit(y, x, iy, ix);
        }
      }
    }
  }
}

void max_pool(const Operands& o, const Context& c, Range rows) {
  for (int y = rows.begin; y < rows.end; ++y) {
    std::memset(c.address(o.y, y, 0), 0, static_cast<std::size_t>(o.y.width * o.y.pixel));
  }
  for_taps(o, rows, [&](int y, int x, int iy, int ix) {
    o.codes->maximum(c.address(o.x[0], iy, ix), o.y.channels, c.address(o.y, y, x));
  });
}

void concat(const Operands& o, const Context& c, Range rows) {
  std::ptrdiff_t at = 0;
  for (const Buffer& x : o.x) {
    const std::ptrdiff_t bytes = x.channels * x.element;
    for (int y = rows.begin; y < rows.end; ++y) {
      for (int i = 0; i < x.width; ++i) {
        const std::uint8_t* from = x.offset < 0 ? reinterpret_cast<const std::uint8_t*>(c.input) + y * x.row + i * x.pixel
                                                : c.address(x, y, i);
        std::memcpy(c.address(o.y, y, i) + at, from, static_cast<std::size_t>(bytes));
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
      const std::uint8_t* from = x.offset < 0 ? reinterpret_cast<const std::uint8_t*>(c.input) + y * x.row + i * x.pixel
                                              : c.address(x, y, i);
      const std::ptrdiff_t at = (static_cast<std::ptrdiff_t>(y) * x.width + i) * x.channels * x.element;
      std::memcpy(c.address(o.y, 0, 0) + at, from, static_cast<std::size_t>(x.channels * x.element));
    }
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
  o.real->gate(c.real(o.x[0]) + at, c.real(o.x[1]), (rows.end - rows.begin) * o.y.width, o.y.channels,
               c.real_out(o.y) + at);
}

void real_pool(const Operands& o, const Context& c, Range) {
  if (c.thread != 0) return;
  const Buffer& x = o.x[0];
  auto* sums = reinterpret_cast<double*>(c.scratch);
  std::fill(sums, sums + x.channels, 0.0);
  o.real->sum(c.real(x), x.height * x.width, x.channels, sums);
  for (int i = 0; i < x.channels; ++i) {
    c.real_out(o.y)[i] = static_cast<float>(sums[i] / (static_cast<double>(x.height) * x.width));
  }
}

void real_max_pool(const Operands& o, const Context& c, Range rows) {
  float* out = c.real_out(o.y);
  std::fill(out + rows.begin * row_elements(o.y), out + rows.end * row_elements(o.y), -INFINITY);
  for_taps(o, rows, [&](int y, int x, int iy, int ix) {
    o.real->maximum(c.real(o.x[0]) + iy * row_elements(o.x[0]) + static_cast<std::int64_t>(ix) * o.y.channels,
                    o.y.channels, out + y * row_elements(o.y) + static_cast<std::int64_t>(x) * o.y.channels);
  });
}

class PointwiseStep final : public Step {
 public:
  PointwiseStep(Work work, Operands operands) : work_(work), o_(std::move(operands)) {}

  std::size_t scratch_bytes() const override {
    return 8 * static_cast<std::size_t>(o_.x[0].channels) + 256;
  }
  void run(const Context& c) const override {
    if (o_.y.quantized) fill_halo(c, o_.y);
    work_(o_, c, share(o_.y.height, c.thread, c.threads));
  }
  void run_rows(const Context& c, Range rows) const override {
    const Range mine = share(rows.end - rows.begin, c.thread, c.threads);
    work_(o_, c, {rows.begin + mine.begin, rows.begin + mine.end});
  }

 private:
  Work work_;
  Operands o_;
};

Work choose(Op op, bool quantized) {
  switch (op) {
    case Op::kQuantize: return quantize;
    case Op::kDequantize: return dequantize_rows;
    case Op::kActivation: return quantized ? look_up : real_activate;
    case Op::kAdd: return quantized ? add : real_add;
    case Op::kMul: return quantized ? mul : real_mul;
    case Op::kGlobalAvgPool: return quantized ? global_avg_pool : real_pool;
    case Op::kMaxPool2d: return quantized ? max_pool : real_max_pool;
    case Op::kConcat: return concat;
    case Op::kFlatten: return flatten;
    case Op::kConv2d: break;
  }
  return nullptr;
}

}  // namespace

StepPtr make_pointwise_step(const NodeDesc& n, const std::vector<const Buffer*>& x,
                            const std::vector<const ValueDesc*>& in, const Buffer& y, const ValueDesc& out, Isa isa) {
  Operands o;
  for (const Buffer* b : x) o.x.push_back(*b);
  for (const ValueDesc* v : in) o.in.push_back(*v);
  o.y = y;
  o.out = out;
  o.node = n;
  o.codes = pointwise::find(isa);
  o.real = real::find(isa);
  const bool quantized = in[0]->quantized;
  const char* name = quantized || n.op == Op::kQuantize ? o.codes->name : o.real->name;
  auto step = std::make_unique<PointwiseStep>(choose(n.op, quantized), std::move(o));
  step->info.kernel = name;
  return step;
}

}  // namespace subbyte
