// Pools: averages of whole maps, maxima of windows.
#include <cmath>
#include <cstring>

#include "ops/work.h"

namespace subbyte {
namespace {

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

}  // namespace

void check_global_avg_pool(const Operation& o) {
  const ValueDesc &x = *o.in[0], &y = o.out;
  need(y.height == 1 && y.width == 1 && y.channels == x.channels && x.quantized == y.quantized, o.node,
       "output does not fit");
  need(static_cast<std::int64_t>(x.height) * x.width * 255 < (std::int64_t{1} << 31), o.node, "image too large to pool");
}
StepPtr make_global_avg_pool(const Operation& o) { return make_work_step(o, global_avg_pool, real_pool); }

void check_max_pool2d(const Operation& o) {
  check_window(o.node, *o.in[0], o.out);
  need(o.out.channels == o.in[0]->channels && o.in[0]->quantized == o.out.quantized, o.node, "output does not fit");
}
StepPtr make_max_pool2d(const Operation& o) { return make_work_step(o, max_pool, real_max_pool); }

}  // namespace subbyte
