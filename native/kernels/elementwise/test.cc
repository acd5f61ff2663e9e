// Every elementwise kernel equals the portable one, on lengths and channel counts around every vector's width.
#include "kernels/elementwise/elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/test.h"

namespace subbyte::test {
namespace {

using elementwise::Kernel;

constexpr int kReadPastPixel = 64;  // what the planner leaves behind every buffer, at least

struct Pair {  // what a kernel and the portable one wrote
  explicit Pair(std::size_t bytes) : actual(bytes), expected(bytes) {}
  Output actual, expected;
};

struct Context {
  Report& report;
  Random& random;
  const Kernel& kernel;
  const Kernel& portable;

  void compare(const char* function, int n, int channels, const Pair& pair, std::size_t written) const {
    char what[120];
    std::snprintf(what, sizeof(what), "%s, %d elements or pixels, %d channels", function, n, channels);
    report.expect(pair.actual == pair.expected, kernel.name, what);
    report.expect(pair.expected.untouched_outside(0, written), portable.name, what);
  }
  void fill(Input<std::uint8_t>& bytes) const {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = random.byte();
  }
};

// Numbers that round up, down and to even, far outside of the grid, and 0.
float awkward(Random& random, float scale) {
  switch (random.between(0, 5)) {
    case 0: return (static_cast<float>(random.between(-300, 300)) + 0.5f) * scale;
    case 1: return random.real(-1e30f, 1e30f);
    case 2: return random.between(0, 1) ? std::numeric_limits<float>::max() : -std::numeric_limits<float>::max();
    case 3: return 0.0f;
    default: return random.real(-300.0f, 300.0f) * scale;
  }
}

void quantize(const Context& c, int pixels, int channels) {
  const float scale = c.random.between(0, 3) == 0 ? 0.03125f : c.random.real(0.001f, 2.0f);
  const int zero = c.random.between(0, 255), high = 255 - zero;
  Input<float> in(static_cast<std::size_t>(pixels * channels));
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = awkward(c.random, scale);
  // Bytes between `channels` and `out_pixel` may be written: compare the channels only.
  const std::ptrdiff_t pixel = (channels + 3) / 4 * 4;
  Pair pair(static_cast<std::size_t>(pixels * pixel));
  const auto run = [&](const Kernel& k, Output& out) {
    k.quantize(in.data(), pixels, channels, 1.0f / scale, -static_cast<float>(zero), static_cast<float>(high), zero,
               out.data(), pixel);
    for (int p = 0; p < pixels; ++p) {
      for (std::ptrdiff_t i = channels; i < pixel; ++i) out.data()[p * pixel + i] = 0xA5;
    }
  };
  run(c.kernel, pair.actual), run(c.portable, pair.expected);
  c.compare("quantize", pixels, channels, pair, static_cast<std::size_t>(pixels * pixel));
}

void dequantize(const Context& c, int n) {
  const float scale = c.random.real(0.001f, 2.0f);
  const int zero = c.random.between(0, 255);
  Input<std::uint8_t> in(static_cast<std::size_t>(n));
  c.fill(in);
  Pair pair(4 * static_cast<std::size_t>(n));
  c.kernel.dequantize(in.data(), n, zero, scale, pair.actual.real());
  c.portable.dequantize(in.data(), n, zero, scale, pair.expected.real());
  c.compare("dequantize", n, 1, pair, 4 * static_cast<std::size_t>(n));
}

void look_up(const Context& c, int n) {
  AlignedInput table(256);
  for (int i = 0; i < 256; ++i) table.data()[i] = c.random.byte();
  Input<std::uint8_t> in(static_cast<std::size_t>(n));
  c.fill(in);
  Pair pair(static_cast<std::size_t>(n));
  c.kernel.look_up(table.data(), in.data(), n, pair.actual.data());
  c.portable.look_up(table.data(), in.data(), n, pair.expected.data());
  c.compare("look_up", n, 1, pair, static_cast<std::size_t>(n));
}

void add(const Context& c, int n) {
  const elementwise::Add p{c.random.between(0, 255), c.random.between(0, 255), c.random.between(0, 255),
                         c.random.between(0, 1) ? 255 : 15, c.random.real(0.01f, 3.0f), c.random.real(0.01f, 3.0f)};
  Input<std::uint8_t> a(static_cast<std::size_t>(n)), b(static_cast<std::size_t>(n));
  c.fill(a), c.fill(b);
  Pair pair(static_cast<std::size_t>(n));
  c.kernel.add(p, a.data(), b.data(), n, pair.actual.data());
  c.portable.add(p, a.data(), b.data(), n, pair.expected.data());
  c.compare("add", n, 1, pair, static_cast<std::size_t>(n));
}

void gate(const Context& c, int pixels, int channels) {
  const elementwise::Gate g{c.random.byte(), c.random.byte(), c.random.between(0, 1) ? 255 : 15};
  Input<std::int16_t> factors(static_cast<std::size_t>(channels) + 64);
  for (int i = 0; i < channels; ++i) {
    const int ends[] = {-32768, 32767, 0, c.random.between(-300, 300)};
    factors[static_cast<std::size_t>(i)] =
        static_cast<std::int16_t>(c.random.between(0, 1) ? ends[c.random.between(0, 3)] : c.random.between(-32768, 32767));
  }
  const std::ptrdiff_t pixel = (channels + 3) / 4 * 4, out_pixel = pixel + 4 * c.random.between(0, 1);
  Input<std::uint8_t> x(static_cast<std::size_t>(pixels * pixel + kReadPastPixel));
  c.fill(x);
  Pair pair(static_cast<std::size_t>(pixels * out_pixel));
  const auto run = [&](const Kernel& k, Output& out) {
    k.gate(g, factors.data(), x.data(), pixel, pixels, channels, out.data(), out_pixel);
    for (int p = 0; p < pixels; ++p) {
      for (std::ptrdiff_t i = channels; i < out_pixel; ++i) out.data()[p * out_pixel + i] = 0xA5;
    }
  };
  run(c.kernel, pair.actual), run(c.portable, pair.expected);
  c.compare("gate", pixels, channels, pair, static_cast<std::size_t>(pixels * out_pixel));
}

void prelu(const Context& c, int pixels, int channels) {
  const elementwise::Prelu p{c.random.between(0, 255), c.random.between(0, 255), c.random.between(0, 1) ? 255 : 15,
                             c.random.real(0.01f, 3.0f)};
  Input<float> below(static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < below.size(); ++i) {
    const float limit = c.random.between(0, 3) == 0 ? 4194304.0f : 2.0f;  // 2^22: what the step allows
    below[i] = c.random.real(-limit, limit);
  }
  const std::ptrdiff_t pixel = (channels + 3) / 4 * 4, out_pixel = pixel + 4 * c.random.between(0, 1);
  Input<std::uint8_t> x(static_cast<std::size_t>(pixels * pixel));
  c.fill(x);
  Pair pair(static_cast<std::size_t>(pixels * out_pixel));
  c.kernel.prelu(p, below.data(), x.data(), pixel, pixels, channels, pair.actual.data(), out_pixel);
  c.portable.prelu(p, below.data(), x.data(), pixel, pixels, channels, pair.expected.data(), out_pixel);
  c.compare("prelu", pixels, channels, pair, static_cast<std::size_t>(pixels * out_pixel));
}

void factors(const Context& c, int channels) {
  const int zero = c.random.between(0, 255);
  Input<std::uint8_t> codes(static_cast<std::size_t>(channels));
  c.fill(codes);
  Input<float> scales(static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scales[i] = c.random.between(0, 3) == 0 ? c.random.real(0.0f, 1e6f) : c.random.real(0.01f, 128.0f);
  }
  Pair pair(2 * static_cast<std::size_t>(channels));
  const auto run = [&](const Kernel& k, Output& out) {
    k.factors(codes.data(), channels, zero, scales.data(), reinterpret_cast<std::int16_t*>(out.data()));
  };
  run(c.kernel, pair.actual), run(c.portable, pair.expected);
  c.compare("factors", 1, channels, pair, 2 * static_cast<std::size_t>(channels));
}

void sum(const Context& c, int pixels, int channels) {
  const std::ptrdiff_t pixel = (channels + 3) / 4 * 4;
  Input<std::uint8_t> x(static_cast<std::size_t>(pixels * pixel + kReadPastPixel));
  c.fill(x);
  if (pixels > 256) std::fill_n(x.data(), x.size(), std::uint8_t{255});  // more than 16 bits hold
  Pair pair(4 * static_cast<std::size_t>(channels));  // starts from the pattern: sums are added to what is there
  c.kernel.sum(x.data(), pixel, pixels, channels, reinterpret_cast<std::uint32_t*>(pair.actual.data()));
  c.portable.sum(x.data(), pixel, pixels, channels, reinterpret_cast<std::uint32_t*>(pair.expected.data()));
  c.compare("sum", pixels, channels, pair, 4 * static_cast<std::size_t>(channels));
}

void maximum(const Context& c, int n) {
  Input<std::uint8_t> in(static_cast<std::size_t>(n));
  c.fill(in);
  Pair pair(static_cast<std::size_t>(n));  // starts from the pattern
  c.kernel.maximum(in.data(), n, pair.actual.data());
  c.portable.maximum(in.data(), n, pair.expected.data());
  c.compare("maximum", n, 1, pair, static_cast<std::size_t>(n));
}

}  // namespace

void test_elementwise(Report& report, unsigned seed) {
  for (int i = 0; i < elementwise::table_size(); ++i) {
    const Kernel& kernel = elementwise::table()[i];
    report.expect(elementwise::find(kernel.isa) == &kernel, kernel.name, "is found in the table");
    if (!report.runs(kernel.isa, kernel.name)) continue;
    Random random(seed + static_cast<unsigned>(i));
    const Context c{report, random, kernel, *elementwise::find(Isa::kPortable)};
    for (int n = 1; n <= 200; ++n) {
      dequantize(c, n), look_up(c, n), add(c, n), maximum(c, n), factors(c, n);
      const int pixels = random.between(1, 20), channels = n <= 130 ? n : random.between(1, 8);
      quantize(c, pixels, channels), gate(c, pixels, channels), prelu(c, pixels, channels), sum(c, pixels, channels);
      quantize(c, n, 3);  // images
      if (n % 16 == 1) sum(c, 256 + 2 * n, n);
    }
  }
}

}  // namespace subbyte::test
