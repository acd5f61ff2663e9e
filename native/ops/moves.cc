// Operations that cut, repeat, reorder or surround a map: elements as they are, on one grid.
#include <cstring>
#include <numeric>

#include "ops/work.h"

namespace subbyte {
namespace {

constexpr int kAxes = 8;  // of a rearrange, at most

std::size_t pixel_bytes(const Buffer& b) { return static_cast<std::size_t>(b.channels * b.element); }

void copy_element(const std::uint8_t* from, std::uint8_t* to, std::ptrdiff_t bytes) {
  if (bytes == 1) {
    *to = *from;
  } else {
    std::memcpy(to, from, 4);
  }
}

void slice(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  const int *begin = o.node.numbers.data(), *step = begin + 6;
  for (int r = rows.begin; r < rows.end; ++r) {
    for (int i = 0; i < y.width; ++i) {
      const std::uint8_t* in =
          pixel_of(c, x, begin[0] + r * step[0], begin[1] + i * step[1]) + begin[2] * x.element;
      std::uint8_t* out = c.address(y, r, i);
      if (step[2] == 1) {
        std::memcpy(out, in, pixel_bytes(y));
        continue;
      }
      for (int k = 0; k < y.channels; ++k) {
        copy_element(in + static_cast<std::ptrdiff_t>(k) * step[2] * x.element, out + k * y.element, y.element);
      }
    }
  }
}

void expand(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  for (int r = rows.begin; r < rows.end; ++r) {
    for (int i = 0; i < y.width; ++i) {
      const std::uint8_t* in = pixel_of(c, x, x.height == 1 ? 0 : r, x.width == 1 ? 0 : i);
      std::uint8_t* out = c.address(y, r, i);
      if (x.channels == y.channels) {
        std::memcpy(out, in, pixel_bytes(y));
        continue;
      }
      for (int k = 0; k < y.channels; ++k) copy_element(in, out + k * y.element, y.element);
    }
  }
}

// Where the elements of a buffer lie, counted in the order (row, column, channel).
struct Elements {
  const Context& c;
  const Buffer& b;
  std::uint8_t* operator()(std::int64_t index) const {
    const std::int64_t pixel = index / b.channels;
    const int row = static_cast<int>(pixel / b.width), column = static_cast<int>(pixel % b.width);
    return const_cast<std::uint8_t*>(pixel_of(c, b, row, column)) + index % b.channels * b.element;
  }
};

// Whole runs of elements that are neighbours in both.
void rearrange(const Operands& o, const Context& c, Range) {
  const int axes = static_cast<int>(o.node.numbers.size() / 2);
  const int *dims = o.node.numbers.data(), *perm = dims + axes;
  std::int64_t strides[kAxes], extents[kAxes], steps[kAxes], at[kAxes] = {}, count = 1;
  for (int i = axes; i-- > 0; count *= dims[i]) strides[i] = count;
  for (int i = 0; i < axes; ++i) extents[i] = dims[perm[i]], steps[i] = strides[perm[i]];
  const int last = axes - 1;
  std::int64_t run = 1;
  if (steps[last] == 1) run = std::gcd(std::gcd(extents[last], std::int64_t{o.x[0].channels}), std::int64_t{o.y.channels});
  extents[last] /= run, steps[last] *= run;

  const Range runs = share(static_cast<int>(count / run), c.thread, c.threads);
  std::int64_t rest = runs.begin, from = 0;
  for (int i = axes; i-- > 0; rest /= extents[i]) at[i] = rest % extents[i], from += at[i] * steps[i];
  const Elements in{c, o.x[0]}, out{c, o.y};
  const std::ptrdiff_t element = o.y.element;
  for (std::int64_t u = runs.begin; u < runs.end; ++u) {
    if (run == 1) {
      copy_element(in(from), out(u), element);
    } else {
      std::memcpy(out(u * run), in(from), static_cast<std::size_t>(run * element));
    }
    for (int i = axes; i-- > 0;) {
      from += steps[i];
      if (++at[i] < extents[i]) break;
      from -= extents[i] * steps[i], at[i] = 0;
    }
  }
}

enum Edge { kZero, kEdge, kReflect };

// The position of the input that one of the padded map shows; -1: zero.
int inside(int position, int extent, int mode) {
  if (position >= 0 && position < extent) return position;
  if (mode == kZero) return -1;
  if (mode == kEdge) return position < 0 ? 0 : extent - 1;
  return position < 0 ? -position : 2 * (extent - 1) - position;
}

void pad(const Operands& o, const Context& c, Range rows) {
  const Buffer &x = o.x[0], &y = o.y;
  const int mode = o.node.numbers[0], zero = x.quantized ? x.zero_point : 0;
  for (int r = rows.begin; r < rows.end; ++r) {
    const int from = inside(r - o.node.pad_top, x.height, mode);
    for (int i = 0; i < y.width; ++i) {
      const int column = inside(i - o.node.pad_left, x.width, mode);
      if (from < 0 || column < 0) {
        std::memset(c.address(y, r, i), zero, pixel_bytes(y));
      } else {
        std::memcpy(c.address(y, r, i), pixel_of(c, x, from, column), pixel_bytes(y));
      }
    }
  }
}

void check_kind(const Operation& o) {
  need(o.in[0]->quantized == o.out.quantized, o.node, "must not change between codes and float32");
}

}  // namespace

void check_slice(const Operation& o) {
  check_kind(o);
  const ValueDesc &x = *o.in[0], &y = o.out;
  const std::vector<int>& n = o.node.numbers;
  need(n.size() == 9, o.node, "needs begin, end and step of three axes");
  const int extents[] = {x.height, x.width, x.channels}, made[] = {y.height, y.width, y.channels};
  for (std::size_t i = 0; i < 3; ++i) {
    const int begin = n[i], end = n[3 + i], step = n[6 + i];
    need(begin >= 0 && begin < end && end <= extents[i] && step >= 1 && step <= 1 << 16, o.node, "cuts outside its input");
    need(made[i] == (end - begin - 1) / step + 1, o.node, "output shape does not follow");
  }
}
StepPtr make_slice(const Operation& o) { return make_work_step(o, slice); }

void check_expand(const Operation& o) {
  check_kind(o);
  const ValueDesc &x = *o.in[0], &y = o.out;
  const auto fits = [](int have, int made) { return have == made || have == 1; };
  need(fits(x.height, y.height) && fits(x.width, y.width) && fits(x.channels, y.channels), o.node,
       "cannot repeat its input to its output");
}
StepPtr make_expand(const Operation& o) { return make_work_step(o, expand); }

void check_rearrange(const Operation& o) {
  check_kind(o);
  const ValueDesc &x = *o.in[0], &y = o.out;
  const std::vector<int>& n = o.node.numbers;
  need(!n.empty() && n.size() % 2 == 0 && n.size() <= 2 * kAxes, o.node, "needs one to eight axes and their order");
  const std::size_t axes = n.size() / 2;
  const std::int64_t elements = static_cast<std::int64_t>(x.height) * x.width * x.channels;
  std::int64_t count = 1;
  unsigned seen = 0;
  for (std::size_t i = 0; i < axes; ++i) {
    need(n[i] >= 1 && n[i] <= elements && count <= elements, o.node, "axes do not fit its input");
    count *= n[i];
    const int axis = n[axes + i];
    need(axis >= 0 && axis < static_cast<int>(axes) && (seen >> axis & 1) == 0, o.node, "is no order of its axes");
    seen |= 1u << axis;
  }
  need(count == elements && elements == static_cast<std::int64_t>(y.height) * y.width * y.channels, o.node,
       "axes do not fit its input and output");
}
StepPtr make_rearrange(const Operation& o) { return make_work_step(o, rearrange); }

void check_pad(const Operation& o) {
  check_kind(o);
  const NodeDesc& n = o.node;
  const ValueDesc &x = *o.in[0], &y = o.out;
  need(n.numbers.size() == 1 && n.numbers[0] >= kZero && n.numbers[0] <= kReflect, n, "needs a mode");
  const int sides[] = {n.pad_top, n.pad_bottom, n.pad_left, n.pad_right};
  for (int i = 0; i < 4; ++i) {
    need(sides[i] >= 0 && sides[i] < 256, n, "padding must be 0 to 255");
    need(n.numbers[0] != kReflect || sides[i] < (i < 2 ? x.height : x.width), n, "reflects more than there is");
  }
  need(y.height == x.height + n.pad_top + n.pad_bottom && y.width == x.width + n.pad_left + n.pad_right &&
           y.channels == x.channels, n, "output shape does not follow");
}
StepPtr make_pad(const Operation& o) { return make_work_step(o, pad); }

}  // namespace subbyte
