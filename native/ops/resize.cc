// Maps of another size: subbyte/ir/coordinates.py in C++, in the same whole numbers.
#include <cstring>

#include "kernels/portable_epilogue.h"
#include "ops/work.h"

namespace subbyte {
namespace {

enum Mode { kAsymmetric, kHalfPixel, kAlignCorners };
constexpr int kUnit = 1 << 11;  // weights along an axis add up to this

struct Point {
  std::int64_t numerator, denominator;
};

Point source(int mode, std::int64_t i, std::int64_t extent, std::int64_t made) {
  if (mode == kAsymmetric) return {i * extent, made};
  if (mode == kHalfPixel) return {std::max<std::int64_t>(0, (2 * i + 1) * extent - made), 2 * made};
  if (made == 1) return {0, 1};
  return {i * (extent - 1), made - 1};
}

int nearest(int mode, int i, int extent, int made) {
  std::int64_t position;
  if (mode == kHalfPixel) {
    position = (2 * std::int64_t{i} + 1) * extent / (2 * std::int64_t{made});
  } else {
    const Point p = source(mode, i, extent, made);
    position = (2 * p.numerator + (mode == kAlignCorners ? p.denominator : 0)) / (2 * p.denominator);
  }
  return static_cast<int>(std::min<std::int64_t>(position, extent - 1));
}

// Two positions, and the weight of the second: in units, and unrounded.
struct Between {
  int first, second, weight;
  double exact;
};

Between linear(int mode, int i, int extent, int made) {
  const Point p = source(mode, i, extent, made);
  const int first = static_cast<int>(std::min<std::int64_t>(p.numerator / p.denominator, extent - 1));
  const std::int64_t rest = first == extent - 1 ? 0 : p.numerator - first * p.denominator;
  return {first, std::min(first + 1, extent - 1),
          static_cast<int>((2 * rest * kUnit + p.denominator) / (2 * p.denominator)),
          static_cast<double>(rest) / static_cast<double>(p.denominator)};
}

void copy_nearest(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  const int mode = o.node.numbers[0];
  for (int r = rows.begin; r < rows.end; ++r) {
    const int row = nearest(mode, r, x.height, y.height);
    for (int i = 0; i < y.width; ++i) {
      std::memcpy(c.address(y, r, i), pixel_of(c, x, row, nearest(mode, i, x.width, y.width)),
                  static_cast<std::size_t>(y.channels * y.element));
    }
  }
}

void interpolate(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  const int mode = o.node.numbers[0], zero = o.out.zero_point, high = high_of(o.out);
  const int zeros = o.in[0].zero_point * kUnit * kUnit;
  for (int r = rows.begin; r < rows.end; ++r) {
    const Between v = linear(mode, r, x.height, y.height);
    for (int i = 0; i < y.width; ++i) {
      const Between h = linear(mode, i, x.width, y.width);
      const std::uint8_t *a = c.address(x, v.first, h.first), *b = c.address(x, v.first, h.second);
      const std::uint8_t *d = c.address(x, v.second, h.first), *e = c.address(x, v.second, h.second);
      std::uint8_t* out = c.address(y, r, i);
      for (int k = 0; k < y.channels; ++k) {
        const int above = a[k] * (kUnit - h.weight) + b[k] * h.weight;
        const int below = d[k] * (kUnit - h.weight) + e[k] * h.weight;
        const int sum = above * (kUnit - v.weight) + below * v.weight - zeros;
        const float scaled = static_cast<float>(sum) * o.node.factor_a;
        out[k] = static_cast<std::uint8_t>(clamp(round_even(scaled) + zero, 0, high));
      }
    }
  }
}

void real_interpolate(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  const int mode = o.node.numbers[0];
  const auto at = [&](int row, int column) {
    return c.real(x) + row * row_elements(x) + static_cast<std::int64_t>(column) * x.channels;
  };
  for (int r = rows.begin; r < rows.end; ++r) {
    const Between v = linear(mode, r, x.height, y.height);
    const auto down = static_cast<float>(v.exact), up = static_cast<float>(1 - v.exact);
    for (int i = 0; i < y.width; ++i) {
      const Between h = linear(mode, i, x.width, y.width);
      const auto right = static_cast<float>(h.exact), left = static_cast<float>(1 - h.exact);
      const float *a = at(v.first, h.first), *b = at(v.first, h.second);
      const float *d = at(v.second, h.first), *e = at(v.second, h.second);
      float* out = c.real_out(y) + r * row_elements(y) + static_cast<std::int64_t>(i) * y.channels;
      for (int k = 0; k < y.channels; ++k) {
        out[k] = (a[k] * left + b[k] * right) * up + (d[k] * left + e[k] * right) * down;
      }
    }
  }
}

void check_resize(const Operation& o) {
  const ValueDesc &x = *o.in[0], &y = o.out;
  need(o.node.numbers.size() == 1 && o.node.numbers[0] >= kAsymmetric && o.node.numbers[0] <= kAlignCorners, o.node,
       "needs a mode");
  need(x.channels == y.channels && x.quantized == y.quantized, o.node, "output does not fit");
}

}  // namespace

void check_resize_nearest(const Operation& o) { check_resize(o); }
StepPtr make_resize_nearest(const Operation& o) { return make_work_step(o, copy_nearest); }

void check_resize_bilinear(const Operation& o) {
  check_resize(o);
  need(o.node.factor_a <= 0.25f && o.node.factor_a >= 0, o.node, "its factor is not within 2^-2");  // times 2^30
}
StepPtr make_resize_bilinear(const Operation& o) { return make_work_step(o, interpolate, real_interpolate); }

}  // namespace subbyte
