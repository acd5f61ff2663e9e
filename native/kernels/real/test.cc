// Every float32 kernel is within the bound of docs/spec/numerics.md of the same sum in float64: the portable
// row too, since there is no row to be equal to. add, gate and maximum are exact.
#include "kernels/real/real.h"

#include <cmath>

#include "kernels/test.h"

namespace subbyte::test {
namespace {

using real::Kernel;

// Every function, those with parameters with several.
constexpr Activation kActivations[] = {
#define SUBBYTE_ACTIVATION(enumerator, name, result, ...) {Act::enumerator, {1, 1, 1}},
#include "subbyte/activations.inc"
    {Act::kLeakyRelu, {0.01f}}, {Act::kLeakyRelu, {-3}}, {Act::kClip, {-0.5f, 2.5f}},
    {Act::kElu, {1.5f, 1.25f, 1}}, {Act::kElu, {0.5f, -2, 4}},
    {Act::kSoftplus, {0.125f}}, {Act::kSoftplus, {10}},
};
constexpr double kUnit = 1.0 / (1 << 24);

double evaluate(const Activation& a, double x) {
  const double p[3] = {a.parameters[0], a.parameters[1], a.parameters[2]};
  const double six = std::min(std::max(x + 3, 0.0), 6.0) / 6, sigmoid = 0.5 * (1 + std::tanh(0.5 * x));
  switch (a.act) {
    case Act::kNone: return x;
    case Act::kRelu: return std::max(x, 0.0);
    case Act::kRelu6: return std::min(std::max(x, 0.0), 6.0);
    case Act::kSilu: return x * sigmoid;
    case Act::kHardSwish: return x * six;
    case Act::kSigmoid: return sigmoid;
    case Act::kHardSigmoid: return six;
    case Act::kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Act::kTanh: return std::tanh(x);
    case Act::kLeakyRelu: return x >= 0 ? x : p[0] * x;
    case Act::kGeluTanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case Act::kElu: return p[1] * (x > 0 ? x : p[0] * std::expm1(p[2] * x));
    case Act::kMish: return x * std::tanh(std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))));
    case Act::kSoftplus: return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(p[0] * x))) / p[0];
    case Act::kClip: return std::min(std::max(x, p[0]), p[1]);
  }
  return x;
}

// A sum of `terms` products and a bias, exact up to float64, and how large its terms are.
struct Sum {
  double value, magnitude;
  int terms;

  void add(double product) { value += product, magnitude += std::fabs(product), ++terms; }
};

// The largest slope of a function; 1.13 covers every one without parameters but hard_swish.
double slope_of(const Activation& a) {
  const double alpha = std::fabs(a.parameters[0]), scale = std::fabs(a.parameters[1]);
  if (a.act == Act::kHardSwish) return 1.5;
  if (a.act == Act::kLeakyRelu) return std::max(1.0, alpha);
  if (a.act == Act::kElu) return scale * std::max(1.0, alpha * a.parameters[2]);
  return 1.13;
}

// numerics.md: gamma(K + 2) of the magnitude, times the slope; then the activation's own 4 ulp and 2^-23 |x|.
// The reference's half ulp is not in it: this one is in float64.
bool close(float actual, const Sum& sum, const Activation& a, double residual) {
  const double k = (sum.terms + 2) * kUnit, gamma = k / (1 - k), y = evaluate(a, sum.value);
  double bound = gamma * sum.magnitude;
  const bool exact = a.act <= Act::kRelu6 || a.act == Act::kClip;
  if (!exact) bound = slope_of(a) * bound + 8 * kUnit * std::fabs(y) + 2 * kUnit * std::fabs(sum.value);
  bound += 2 * kUnit * std::fabs(y + residual);
  return std::fabs(static_cast<double>(actual) - (y + residual)) <= bound;
}

struct Context {
  Report& report;
  Random& random;
  const Kernel& kernel;

  void fill(Input<float>& values, float spread = 2.0f) const {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = random.real(-spread, spread);
  }
  void expect(bool good, const char* function, int n, int channels, int act) const {
    char what[120];
    std::snprintf(what, sizeof(what), "%s: %d, %d channels, activation %d", function, n, channels, act);
    report.expect(good, kernel.name, what);
  }
};

void conv(const Context& c, int rows, int taps, int in_channels, int channels, const Activation& a) {
  const bool narrow = 2 * channels <= c.kernel.outputs;
  const std::size_t panel = static_cast<std::size_t>(narrow ? c.kernel.outputs / 2 : c.kernel.outputs);
  const int offset = c.random.between(0, 9), stride = rows + 1;
  Input<float> weights(static_cast<std::size_t>(taps * in_channels) * panel), bias(panel);
  c.fill(weights, 1.0f), c.fill(bias);
  const std::size_t out_size = static_cast<std::size_t>(offset + channels + 1);
  std::vector<Input<float>> in, residual;
  std::vector<const float*> pointers, add;
  for (int t = 0; t < taps; ++t) {
    for (int r = 0; r < stride; ++r) {
      in.emplace_back(static_cast<std::size_t>(in_channels));
      c.fill(in.back());
    }
  }
  for (Input<float>& x : in) pointers.push_back(x.data());
  Output out(4 * out_size * static_cast<std::size_t>(rows));
  std::vector<float*> outs;
  for (int r = 0; r < rows; ++r) {
    residual.emplace_back(static_cast<std::size_t>(offset + channels));
    c.fill(residual.back());
    outs.push_back(out.real() + static_cast<std::size_t>(r) * out_size);
  }
  for (Input<float>& r : residual) add.push_back(r.data());
  const bool has_residual = c.random.between(0, 1);
  real::Tile tile{};
  tile.in = pointers.data(), tile.in_stride = stride, tile.taps = taps, tile.in_channels = in_channels;
  tile.weights = weights.data(), tile.bias = bias.data(), tile.out = outs.data();
  tile.panel = static_cast<int>(panel), tile.channels = channels;
  tile.residual = has_residual ? add.data() : nullptr;
  tile.offset = offset, tile.activation = a;
  c.kernel.conv(tile, rows);
  bool good = true;
  for (int r = 0; r < rows; ++r) {
    for (int o = 0; o < channels; ++o) {
      const std::size_t at = static_cast<std::size_t>(o);
      Sum sum{bias[at], std::fabs(bias[at]), 0};
      for (int t = 0; t < taps; ++t) {
        for (int k = 0; k < in_channels; ++k) {
          sum.add(static_cast<double>(in[static_cast<std::size_t>(t * stride + r)][static_cast<std::size_t>(k)]) *
                  weights[static_cast<std::size_t>(t * in_channels + k) * panel + at]);
        }
      }
      const std::size_t place = static_cast<std::size_t>(offset + o);
      good = good && close(outs[static_cast<std::size_t>(r)][place], sum, a,
                           has_residual ? residual[static_cast<std::size_t>(r)][place] : 0);
    }
  }
  const std::size_t last = 4 * (out_size * static_cast<std::size_t>(rows) - 1);
  good = good && out.untouched_outside(4 * static_cast<std::size_t>(offset), last);
  c.expect(good, "conv", rows, channels, static_cast<int>(a.act));
}

void depthwise(const Context& c, int rows, int taps, int channels, const Activation& a) {
  const std::size_t n = static_cast<std::size_t>(channels);
  const int stride = rows + 1;
  Input<float> weights(static_cast<std::size_t>(taps) * n), bias(n);
  c.fill(weights, 1.0f), c.fill(bias);
  std::vector<Input<float>> in, residual;
  std::vector<const float*> pointers, add;
  for (int i = 0; i < taps * stride; ++i) in.emplace_back(n), c.fill(in.back());
  for (Input<float>& x : in) pointers.push_back(x.data());
  std::vector<Output> out(static_cast<std::size_t>(rows), Output(4 * n));
  std::vector<float*> outs;
  for (Output& o : out) outs.push_back(o.real()), residual.emplace_back(n), c.fill(residual.back());
  for (Input<float>& r : residual) add.push_back(r.data());
  const bool has_residual = c.random.between(0, 1);
  real::Depthwise d{};
  d.in = pointers.data(), d.in_stride = stride, d.taps = taps, d.channels = channels;
  d.weights = weights.data(), d.bias = bias.data(), d.out = outs.data();
  d.residual = has_residual ? add.data() : nullptr, d.activation = a;
  c.kernel.depthwise(d, rows);
  bool good = true;
  for (std::size_t r = 0; r < out.size(); ++r) {
    good = good && out[r].untouched_outside(0, 4 * n);
    for (std::size_t i = 0; i < n; ++i) {
      Sum sum{bias[i], std::fabs(bias[i]), 0};
      for (int t = 0; t < taps; ++t) {
        const std::size_t tap = static_cast<std::size_t>(t);
        sum.add(static_cast<double>(in[tap * static_cast<std::size_t>(stride) + r][i]) * weights[tap * n + i]);
      }
      good = good && close(out[r].real()[i], sum, a, has_residual ? residual[r][i] : 0);
    }
  }
  c.expect(good, "depthwise", taps, channels, static_cast<int>(a.act));
}

// Small whole numbers, of which every sum is exact: equal to the definition, whatever their order.
void winograd(const Context& c, int channels, const Activation& a) {
  const auto whole = [&](Input<float>& values) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(c.random.between(-9, 9));
  };
  constexpr int kB[4][4] = {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
  constexpr int kA[2][4] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
  const std::size_t n = static_cast<std::size_t>(channels);
  std::vector<Input<float>> d;
  std::vector<const float*> pointers;
  for (int i = 0; i < 16; ++i) d.emplace_back(n), whole(d.back());
  for (Input<float>& x : d) pointers.push_back(x.data());
  const int stride = channels + c.random.between(0, 3);
  Output spread(4 * static_cast<std::size_t>(15 * stride + channels));
  c.kernel.spread(pointers.data(), channels, spread.real(), stride);
  bool good = spread.untouched_outside(0, 4 * static_cast<std::size_t>(15 * stride + channels));
  for (int e = 0; e < 16; ++e) {
    for (std::size_t k = 0; k < n; ++k) {
      float v = 0;
      for (int i = 0; i < 16; ++i) v += static_cast<float>(kB[e / 4][i / 4] * kB[e % 4][i % 4]) * d[static_cast<std::size_t>(i)][k];
      good = good && spread.real()[static_cast<std::size_t>(e * stride) + k] == v;
    }
  }
  c.expect(good, "spread", 1, channels, 0);

  const int valid = std::min(channels, c.kernel.outputs), panel = 2 * valid <= c.kernel.outputs ? c.kernel.outputs / 2 : c.kernel.outputs;
  const int offset = c.random.between(0, 5);
  Input<float> sums(static_cast<std::size_t>(16 * panel)), bias(static_cast<std::size_t>(panel));
  whole(sums), whole(bias);
  const std::size_t out_size = static_cast<std::size_t>(offset + valid);
  std::vector<Output> out(4, Output(4 * out_size));
  std::vector<Input<float>> residual;
  float* outs[4];
  const float* add[4];
  const bool has_residual = c.random.between(0, 1);
  for (std::size_t i = 0; i < 4; ++i) {
    residual.emplace_back(out_size), whole(residual.back());
    outs[i] = i == 0 || c.random.between(0, 3) ? out[i].real() : nullptr;
    add[i] = outs[i] ? residual[i].data() : nullptr;
  }
  c.kernel.collect({sums.data(), panel, bias.data(), panel, valid, outs, has_residual ? add : nullptr, offset, a});
  good = true;
  for (std::size_t i = 0; i < 4; ++i) {
    good = good && out[i].untouched_outside(outs[i] ? 4 * static_cast<std::size_t>(offset) : 0, outs[i] ? 4 * out_size : 0);
    for (int k = 0; outs[i] && k < valid; ++k) {
      Sum sum{bias[static_cast<std::size_t>(k)], 0, 0};  // exact: no magnitude to round
      for (int e = 0; e < 16; ++e) {
        sum.value += kA[i / 2][e / 4] * kA[i % 2][e % 4] * static_cast<double>(sums[static_cast<std::size_t>(e * panel + k)]);
      }
      const std::size_t place = static_cast<std::size_t>(offset + k);
      good = good && close(outs[i][place], sum, a, has_residual ? residual[i][place] : 0);
    }
  }
  c.expect(good, "collect", 1, valid, static_cast<int>(a.act));
}

void activate(const Context& c, int n, const Activation& a, float spread) {
  Input<float> in(static_cast<std::size_t>(n));
  c.fill(in, spread);
  Output out(4 * in.size());
  c.kernel.activate(a, in.data(), n, out.real());
  bool good = out.untouched_outside(0, 4 * in.size());
  for (std::size_t i = 0; i < in.size(); ++i) good = good && close(out.real()[i], {in[i], 0, 0}, a, 0);
  c.expect(good, "activate", n, 1, static_cast<int>(a.act));
}

void element_wise(const Context& c, int pixels, int channels) {
  const std::size_t n = static_cast<std::size_t>(pixels * channels), m = static_cast<std::size_t>(channels);
  Input<float> a(n), b(n), gate(m);
  c.fill(a), c.fill(b), c.fill(gate);
  Output sum(4 * n), product(4 * n), largest(4 * n), totals(8 * m);
  c.kernel.add(a.data(), b.data(), pixels * channels, sum.real());
  c.kernel.gate(a.data(), gate.data(), pixels, channels, product.real());
  std::copy(b.data(), b.data() + n, largest.real());
  c.kernel.maximum(a.data(), pixels * channels, largest.real());
  bool good = sum.untouched_outside(0, 4 * n) && product.untouched_outside(0, 4 * n) && largest.untouched_outside(0, 4 * n);
  for (std::size_t i = 0; i < n; ++i) {
    good = good && sum.real()[i] == a[i] + b[i] && product.real()[i] == a[i] * gate[i % m] &&
           largest.real()[i] == std::max(a[i], b[i]);
  }
  c.expect(good, "add, gate, maximum", pixels, channels, 0);
  auto* total = reinterpret_cast<double*>(totals.data());
  std::fill(total, total + m, 1.5);
  c.kernel.sum(a.data(), pixels, channels, total);
  good = totals.untouched_outside(0, 8 * m);
  for (std::size_t i = 0; i < m; ++i) {
    double expected = 1.5;  // sums of few float32 numbers are exact in float64 up to 2^-53 each
    for (std::size_t p = 0; p < n; p += m) expected += a[p + i];
    good = good && std::fabs(total[i] - expected) <= pixels * std::ldexp(2.0 * (pixels + 1), -53);
  }
  c.expect(good, "sum", pixels, channels, 0);
}

}  // namespace

void test_real(Report& report, unsigned seed) {
  for (int i = 0; i < real::table_size(); ++i) {
    const Kernel& kernel = real::table()[i];
    report.expect(real::find(kernel.isa) == &kernel, kernel.name, "is found in the table");
    if (!report.runs(kernel.isa, kernel.name)) continue;
    Random random(seed + static_cast<unsigned>(i));
    const Context c{report, random, kernel};
    for (int rows = 1; rows <= kernel.rows; ++rows) {
      for (int channels = 1; channels <= kernel.outputs; ++channels) {
        conv(c, rows, random.between(1, 3), random.between(1, 40), channels, {Act::kNone});
      }
      for (int channels = 1; channels <= 40; ++channels) depthwise(c, rows, random.between(1, 9), channels, {Act::kRelu});
    }
    for (const Activation& a : kActivations) {
      for (int channels = 1; channels <= kernel.outputs; ++channels) {
        for (int i = 0; i < 3; ++i) {
          conv(c, random.between(1, kernel.rows), random.between(1, 9), random.between(1, 70), channels, a);
        }
      }
      for (int channels = 1; channels <= 70; ++channels) {
        depthwise(c, random.between(1, kernel.rows), random.between(1, 25), channels, a);
      }
      for (int channels = 1; channels <= 40; ++channels) winograd(c, channels, a);
      for (int n = 1; n <= 40; ++n) activate(c, n, a, 8.0f), activate(c, n, a, 200.0f);
    }
    for (int channels = 1; channels <= 70; ++channels) element_wise(c, random.between(1, 12), channels);
  }
}

}  // namespace subbyte::test
