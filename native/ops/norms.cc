// Normalizations and attention, on float32 values; sums and quotients in float64, rounded once.
#include <cmath>

#include "ops/work.h"

namespace subbyte {
namespace {

struct Moments {
  double mean, deviation;
};

// Of `count` numbers at `first` and every `stride` elements after it, `run` of them together.
Moments moments(const float* first, std::int64_t count, int run, std::int64_t stride, double eps) {
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    for (int k = 0; k < run; ++k) sum += static_cast<double>(first[i * stride + k]);
  }
  const double numbers = static_cast<double>(count) * run, mean = sum / numbers;
  for (std::int64_t i = 0; i < count; ++i) {
    for (int k = 0; k < run; ++k) {
      const double d = static_cast<double>(first[i * stride + k]) - mean;
      squares += d * d;
    }
  }
  return {mean, std::sqrt(squares / numbers + eps)};
}

float normal(double x, const Moments& m, float weight, float bias) {
  return static_cast<float>((x - m.mean) / m.deviation * static_cast<double>(weight) + static_cast<double>(bias));
}

void layer_norm(const Operands& o, const Context& c, Range) {
  const int channels = o.y.channels;
  const Range pixels = share(o.y.height * o.y.width, c.thread, c.threads);
  const float *weight = o.node.weight_real.data(), *bias = o.node.bias_real.data();
  for (std::int64_t p = pixels.begin; p < pixels.end; ++p) {
    const float* x = c.real(o.x[0]) + p * channels;
    float* y = c.real_out(o.y) + p * channels;
    const Moments m = moments(x, 1, channels, channels, o.node.eps);
    for (int k = 0; k < channels; ++k) y[k] = normal(static_cast<double>(x[k]), m, weight[k], bias[k]);
  }
}

void group_norm(const Operands& o, const Context& c, Range) {
  const int channels = o.y.channels, each = channels / o.node.groups;
  const std::int64_t pixels = static_cast<std::int64_t>(o.y.height) * o.y.width;
  const Range groups = share(o.node.groups, c.thread, c.threads);
  for (int first = groups.begin * each; first < groups.end * each; first += each) {
    const float* x = c.real(o.x[0]);
    float* y = c.real_out(o.y);
    const Moments m = moments(x + first, pixels, each, channels, o.node.eps);
    for (std::int64_t p = 0; p < pixels; ++p) {
      for (int k = first; k < first + each; ++k) {
        const std::int64_t at = p * channels + k;
        y[at] = normal(static_cast<double>(x[at]), m, o.node.weight_real[static_cast<std::size_t>(k)],
                       o.node.bias_real[static_cast<std::size_t>(k)]);
      }
    }
  }
}

void softmax(const Operands& o, const Context& c, Range) {
  const int channels = o.y.channels;
  const Range pixels = share(o.y.height * o.y.width, c.thread, c.threads);
  auto* powers = reinterpret_cast<double*>(c.scratch);
  for (std::int64_t p = pixels.begin; p < pixels.end; ++p) {
    const float* x = c.real(o.x[0]) + p * channels;
    float* y = c.real_out(o.y) + p * channels;
    const float largest = *std::max_element(x, x + channels);
    double sum = 0;
    for (int k = 0; k < channels; ++k) {
      powers[k] = std::exp(static_cast<double>(x[k]) - static_cast<double>(largest));
      sum += powers[k];
    }
    for (int k = 0; k < channels; ++k) y[k] = static_cast<float>(powers[k] / sum);
  }
}

float dot(const float* a, const float* b, int count) {
  constexpr int kLanes = 8;
  double lanes[kLanes] = {}, sum = 0;
  int k = 0;
  for (; k + kLanes <= count; k += kLanes) {
    for (int i = 0; i < kLanes; ++i) lanes[i] += static_cast<double>(a[k + i]) * static_cast<double>(b[k + i]);
  }
  for (; k < count; ++k) sum += static_cast<double>(a[k]) * static_cast<double>(b[k]);
  for (const double lane : lanes) sum += lane;
  return static_cast<float>(sum);
}

void matmul(const Operands& o, const Context& c, Range) {
  const Buffer &a = o.x[0], &b = o.x[1], &y = o.y;
  const Range rows = share(y.height * y.width, c.thread, c.threads);
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    const float* left = c.real(a) + r * a.channels;
    const float* right = c.real(b) + r / y.width * row_elements(b);
    float* out = c.real_out(y) + r * y.channels;
    for (int n = 0; n < y.channels; ++n) out[n] = dot(left, right + static_cast<std::int64_t>(n) * b.channels, a.channels);
  }
}

void check_real(const Operation& o) {
  for (const ValueDesc* v : o.in) need(!v->quantized, o.node, "works on float32 values");
  need(!o.out.quantized, o.node, "works on float32 values");
}

void check_norm(const Operation& o) {
  check_real(o);
  const NodeDesc& n = o.node;
  const auto channels = static_cast<std::size_t>(o.out.channels);
  need(same_shape(*o.in[0], o.out), n, "shape changes");
  need(n.weight_real.size() == channels && n.bias_real.size() == channels, n, "needs weights and biases of each channel");
  need(n.eps > 0 && std::isfinite(n.eps), n, "eps must be positive");
}

}  // namespace

void check_layer_norm(const Operation& o) { check_norm(o); }
StepPtr make_layer_norm(const Operation& o) { return make_work_step(o, layer_norm); }

void check_group_norm(const Operation& o) {
  check_norm(o);
  need(o.node.groups >= 1 && o.out.channels % o.node.groups == 0, o.node, "channels do not fit the groups");
}
StepPtr make_group_norm(const Operation& o) { return make_work_step(o, group_norm); }

void check_softmax(const Operation& o) {
  check_real(o);
  need(same_shape(*o.in[0], o.out), o.node, "shape changes");
}
StepPtr make_softmax(const Operation& o) { return make_work_step(o, softmax); }

void check_matmul(const Operation& o) {
  check_real(o);
  const ValueDesc &a = *o.in[0], &b = *o.in[1], &y = o.out;
  need(a.height == b.height && a.channels == b.channels && y.height == a.height && y.width == a.width &&
           y.channels == b.width, o.node, "operands do not fit");
}
StepPtr make_matmul(const Operation& o) { return make_work_step(o, matmul); }

}  // namespace subbyte
