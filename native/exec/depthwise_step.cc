// Depthwise quantized convolution: output rows shared out among the threads.
#include <algorithm>

#include "exec/layer_epilogue.h"
#include "exec/step.h"
#include "exec/weights.h"
#include "kernels/depthwise/depthwise.h"

namespace subbyte {
namespace {

class DepthwiseStep final : public Step {
 public:
  DepthwiseStep(const NodeDesc& n, const Buffer& x, const Buffer& y, const ValueDesc& out, Isa isa)
      : x_(x), y_(y), kernel_(depthwise::find(isa)), shape_{n.kernel_h, n.kernel_w, n.stride_w, x.channels},
        stride_h_(n.stride_h), pad_top_(n.pad_top), pad_left_(n.pad_left), epilogue_(n, out, nullptr) {
    packed_ = Aligned<std::uint8_t>(kernel_->packed_bytes(shape_));
    depthwise::pack(*kernel_, shape_, weights_of(n, 1, x.zero_point), packed_.data());
  }

  std::size_t scratch_bytes() const override { return sizeof(void*) * static_cast<std::size_t>(shape_.kernel_h); }
  std::int64_t weight_bytes() const override { return static_cast<std::int64_t>(packed_.size() + epilogue_.bytes()); }
  Span first_weights() const override { return {packed_.data(), packed_.size()}; }
  bool hides_prefetch() const override { return true; }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override {
    fill_halo(c, y_);
    Prefetch prefetch(ahead, (y_.height + c.threads - 1) / c.threads);
    run_share(c, {0, y_.height}, &prefetch);
  }

  void run_rows(const Context& c, Range rows) const override { run_share(c, rows, nullptr); }

 private:
  // This thread's share of the rows, in units of as many pixels as kernels make at a time: threads meet within a row
  // where the rows cannot be shared out evenly.
  void run_share(const Context& c, Range rows, Prefetch* prefetch) const {
    constexpr int kUnit = 4;
    const int per_row = (y_.width + kUnit - 1) / kUnit;
    const Range units = share((rows.end - rows.begin) * per_row, c.thread, c.threads);
    for (int u = units.begin; u < units.end;) {
      const int row = u / per_row, end = std::min(units.end, (row + 1) * per_row);
      if (prefetch) prefetch->next();
      run_pixels(c, rows.begin + row,
                 {kUnit * (u - row * per_row), std::min(y_.width, kUnit * (end - row * per_row))});
      u = end;
    }
  }

  void run_pixels(const Context& c, int y, Range pixels) const {
    auto* in = reinterpret_cast<const std::uint8_t**>(c.scratch);
    const int x = pixels.begin * shape_.stride - pad_left_;
    for (int ky = 0; ky < shape_.kernel_h; ++ky) in[ky] = c.address(x_, y * stride_h_ - pad_top_ + ky, x);
    const depthwise::Row row{in, x_.pixel, pixels.end - pixels.begin, c.address(y_, y, pixels.begin), y_.pixel,
                             &epilogue_.values()};
    kernel_->run(shape_, packed_.data(), row);
  }

  Buffer x_, y_;
  const depthwise::Kernel* kernel_;
  depthwise::Shape shape_;
  int stride_h_, pad_top_, pad_left_;
  Aligned<std::uint8_t> packed_;
  LayerEpilogue epilogue_;
};

}  // namespace

StepPtr make_depthwise_step(const NodeDesc& n, const Buffer& x, const Buffer& y, const ValueDesc& out, Isa isa) {
  auto step = std::make_unique<DepthwiseStep>(n, x, y, out, isa);
  step->info.kernel = step->kernel_name();
  step->info.executed_weights = format_text(kInt8);
  return step;
}

}  // namespace subbyte
