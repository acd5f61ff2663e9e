// 3 x 3 quantized convolutions with stride 1 where Winograd's way is faster: strips of 2 x 2 outputs, shared out among
// the threads.
#include <algorithm>

#include "exec/layer_epilogue.h"
#include "exec/step.h"
#include "exec/weights.h"
#include "kernels/winograd/winograd.h"

namespace subbyte {
namespace {

class WinogradStep final : public Step {
 public:
  WinogradStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
               const Buffer& y, const ValueDesc& out, Isa isa)
      : x_(x), y_(y), kernel_(winograd::find(isa)), shape_{static_cast<int>(x.pixel), y.channels},
        pad_top_(n.pad_top), pad_left_(n.pad_left), has_residual_(residual != nullptr),
        epilogue_(n, out, residual_value) {
    if (residual) residual_ = *residual;
    packed_ = Aligned<std::uint8_t>(kernel_->packed_bytes(shape_));
    winograd::pack(*kernel_, shape_, x.channels, weights_of(n, x.channels, x.zero_point), packed_.data());
    tiles_ = (y.width + 1) / 2;
    strips_ = (tiles_ + winograd::kMaxTiles - 1) / winograd::kMaxTiles;
  }

  std::size_t scratch_bytes() const override { return kernel_->scratch_bytes(shape_) + 64; }
  std::int64_t weight_bytes() const override { return static_cast<std::int64_t>(packed_.size() + epilogue_.bytes()); }
  Span first_weights() const override { return {packed_.data(), std::min<std::size_t>(packed_.size(), 64 * 1024)}; }
  bool hides_prefetch() const override { return true; }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override {
    fill_halo(c, y_);
    std::uint8_t* scratch = c.scratch + (64 - reinterpret_cast<std::uintptr_t>(c.scratch) % 64) % 64;
    const Range units = share((y_.height + 1) / 2 * strips_, c.thread, c.threads);
    Prefetch prefetch(ahead, units.end - units.begin);
    for (int u = units.begin; u < units.end; ++u) {
      run_strip(c, 2 * (u / strips_), share(tiles_, u % strips_, strips_), scratch);
      prefetch.next();
    }
  }

 private:
  // Output rows y and y + 1.
  void run_strip(const Context& c, int y, Range tiles, std::uint8_t* scratch) const {
    const int x = 2 * tiles.begin;
    winograd::Strip s{};
    for (int i = 0; i < 4; ++i) {
      // Below the halo only outputs that nobody wants look.
      const int row = std::min(y - pad_top_ + i, x_.height + x_.bottom - 1);
      s.in[i] = c.address(x_, row, x - pad_left_);
    }
    s.in_pixel = x_.pixel;
    s.tiles = tiles.end - tiles.begin;
    s.width = std::min(2 * s.tiles, y_.width - x), s.height = std::min(2, y_.height - y);
    for (int i = 0; i < s.height; ++i) {
      s.out[i] = c.address(y_, y + i, x);
      if (has_residual_) s.residual[i] = c.address(residual_, y + i, x);
    }
    s.out_pixel = y_.pixel;
    s.residual_pixel = residual_.pixel;
    s.epilogue = &epilogue_.values();
    s.scratch = scratch;
    kernel_->run(shape_, packed_.data(), s);
  }

  Buffer x_, y_, residual_;
  const winograd::Kernel* kernel_;
  winograd::Shape shape_;
  int pad_top_, pad_left_, tiles_ = 0, strips_ = 0;
  bool has_residual_;
  Aligned<std::uint8_t> packed_;
  LayerEpilogue epilogue_;
};

}  // namespace

// Narrower weights are not widened: they stay as small as was asked for, and their dot kernels are fast too.
bool uses_winograd(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y, Isa isa) {
  return info_of(n.op).is(kWeighted) && x.quantized && code_bits(n) == 8 && n.groups == 1 && n.kernel_h == 3 &&
         n.kernel_w == 3 && !n.dilated() && n.stride_h == 1 && n.stride_w == 1 &&
         winograd::select(isa, {x.channels, y.channels}, y.height * y.width) != nullptr;
}

StepPtr make_winograd_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
                           const Buffer& y, const ValueDesc& out, Isa isa) {
  auto step = std::make_unique<WinogradStep>(n, x, residual, residual_value, y, out, isa);
  step->info.kernel = step->kernel_name();
  step->info.executed_weights = "int16 (Winograd)";
  return step;
}

}  // namespace subbyte
