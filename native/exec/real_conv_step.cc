// float32 convolutions: tiles of pixels over panels of channels, taps outside the image read zeros.
#include <algorithm>

#include "exec/step.h"
#include "kernels/real/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte {
namespace {

using real::Panel;

class RealConvStep final : public Step {
 public:
  RealConvStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa)
      : n_(n), x_(x), y_(y), kernel_(real::find(isa)), has_residual_(residual != nullptr),
        taps_(n.kernel_h * n.kernel_w), zeros_(static_cast<std::size_t>(x.channels)) {
    if (residual) residual_ = *residual;
    in_group_ = x.channels / n.groups;
    depthwise_ = n.groups == x.channels && y.channels == x.channels;
    std::fill(zeros_.data(), zeros_.data() + zeros_.size(), 0.0f);
    if (depthwise_) {
      pack_depthwise();
    } else {
      pack_panels();
    }
    n_.weight_real.clear();
    n_.weight_real.shrink_to_fit();
  }

  std::size_t scratch_bytes() const override {
    return sizeof(void*) * real::kRows * static_cast<std::size_t>(taps_ + 2);
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(4 * (weights_.size() + bias_.size()));
  }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override {
    const Range pixels = share(y_.height * y_.width, c.thread, c.threads);
    auto* pointers = reinterpret_cast<const float**>(c.scratch);
    const int step = depthwise_ ? 1 : real::kRows;
    for (int p = pixels.begin; p < pixels.end; p += step) {
      const int rows = std::min(step, pixels.end - p);
      for (int r = 0; r < rows; ++r) gather(c, p + r, r, pointers);
      if (depthwise_) {
        run_depthwise(pointers);
      } else {
        for (const Panel& panel : panels_) run_panel(panel, rows, pointers);
      }
    }
  }

 private:
  void pack_depthwise() {
    weights_ = Aligned<float>(static_cast<std::size_t>(taps_) * x_.channels);
    bias_ = Aligned<float>(static_cast<std::size_t>(x_.channels));
    std::copy(n_.bias_real.begin(), n_.bias_real.end(), bias_.data());
    real::pack_depthwise(taps_, x_.channels, n_.weight_real.data(), weights_.data());
  }

  void pack_panels() {
    const int terms = taps_ * in_group_;
    panels_ = real::select(n_.groups, in_group_, y_.channels / n_.groups, terms);
    weights_ = Aligned<float>(panels_.size() * real::panel_step(terms));
    bias_ = Aligned<float>(panels_.size() * real::bias_step());
    for (const Panel& p : panels_) {
      float *weights = weights_.data() + p.weights, *bias = bias_.data() + p.bias;
      real::pack(p, terms, n_.weight_real.data(), n_.bias_real.data(), weights, bias);
      poison(weights + static_cast<std::size_t>(terms) * real::kPanel, kGap);
      poison(bias + real::kPanel, kGap);
    }
  }

  // pointers[tap * kRows + r]: the input of a tap; then the output and the residual.
  void gather(const Context& c, int pixel, int r, const float** pointers) const {
    const int y = pixel / y_.width, x = pixel % y_.width;
    for (int t = 0; t < taps_; ++t) {
      const int iy = y * n_.stride_h - n_.pad_top + t / n_.kernel_w * n_.dilation_h;
      const int ix = x * n_.stride_w - n_.pad_left + t % n_.kernel_w * n_.dilation_w;
      const bool inside = iy >= 0 && iy < x_.height && ix >= 0 && ix < x_.width;
      const std::int64_t at = (static_cast<std::int64_t>(iy) * x_.width + ix) * x_.channels;
      pointers[t * real::kRows + r] = inside ? c.real(x_) + at : zeros_.data();
    }
    const std::int64_t at = static_cast<std::int64_t>(pixel) * y_.channels;
    pointers[taps_ * real::kRows + r] = c.real_out(y_) + at;
    pointers[(taps_ + 1) * real::kRows + r] = has_residual_ ? c.real(residual_) + at : nullptr;
  }

  void run_panel(const Panel& p, int rows, const float** pointers) const {
    real::Tile t;
    const float* shifted[real::kRows * 256];
    t.in = pointers;
    if (p.in_first != 0) {
      for (int i = 0; i < taps_ * real::kRows; ++i) {
        shifted[i] = pointers[i] == zeros_.data() ? zeros_.data() : pointers[i] + p.in_first;
      }
      t.in = shifted;
    }
    t.in_stride = real::kRows;
    t.taps = taps_;
    t.in_channels = in_group_;
    t.weights = weights_.data() + p.weights;
    t.bias = bias_.data() + p.bias;
    t.channels = p.channels;
    t.out = const_cast<float* const*>(pointers + taps_ * real::kRows);
    t.residual = has_residual_ ? pointers + (taps_ + 1) * real::kRows : nullptr;
    t.offset = p.first;
    t.activation = n_.activation;
    kernel_->conv(t, rows);
  }

  void run_depthwise(const float** pointers) const {
    const float* taps[256];
    for (int t = 0; t < taps_; ++t) taps[t] = pointers[t * real::kRows];
    real::Depthwise d;
    d.in = taps;
    d.taps = taps_;
    d.channels = x_.channels;
    d.weights = weights_.data();
    d.bias = bias_.data();
    d.out = const_cast<float*>(pointers[taps_ * real::kRows]);
    d.residual = pointers[(taps_ + 1) * real::kRows];
    d.activation = n_.activation;
    kernel_->depthwise(d);
  }

  NodeDesc n_;
  Buffer x_, y_, residual_;
  const real::Kernel* kernel_;
  bool has_residual_, depthwise_ = false;
  int taps_, in_group_ = 1;
  std::vector<Panel> panels_;
  Aligned<float> weights_, bias_, zeros_;
};

}  // namespace

StepPtr make_real_conv_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa) {
  auto step = std::make_unique<RealConvStep>(n, x, residual, y, isa);
  step->info.kernel = step->kernel_name();
  step->info.executed_weights = format_text(kFp32);
  return step;
}

}  // namespace subbyte
