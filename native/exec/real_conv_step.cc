// float32 convolutions: tiles of pixels over panels of channels, taps outside the image read zeros.
//
// Where all weights stay in the second-level cache, one tile after the other is made. Otherwise pixels are taken in blocks
// whose inputs stay there, and in a block one panel of weights after the other serves all tiles: it comes from further away
// once per block.
#include <algorithm>

#include "exec/step.h"
#include "kernels/real/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte {
namespace {

using real::Panel;

constexpr std::int64_t kCached = 512 << 10;          // bytes: half of a usual second-level cache
constexpr std::int64_t kBlockPointers = 256 << 10;   // bytes
// The rows of windows over fewer channels are read in one piece.
constexpr int kFewChannels = 16;

class RealConvStep final : public Step {
 public:
  RealConvStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa)
      : n_(n), x_(x), y_(y), kernel_(real::find(isa)), has_residual_(residual != nullptr),
        taps_(n.kernel_h * n.kernel_w) {
    if (residual) residual_ = *residual;
    in_group_ = x.channels / n.groups;
    depthwise_ = n.groups == x.channels && y.channels == x.channels;
    by_rows_ = n.groups == 1 && n.dilation_w == 1 && in_group_ < kFewChannels && !depthwise_;
    runs_ = by_rows_ ? n.kernel_h : taps_;
    run_ = taps_ / runs_ * (depthwise_ ? x.channels : in_group_);
    block_tiles_ = tiles_of_block();
    zeros_ = Aligned<float>(static_cast<std::size_t>(run_));
    std::fill(zeros_.data(), zeros_.data() + zeros_.size(), 0.0f);
    for (int ky = 0; ky < n.kernel_h; ++ky) {
      for (int kx = 0; kx < n.kernel_w; kx += taps_ / runs_) {
        offsets_.push_back((static_cast<std::int64_t>(ky * n.dilation_h) * x.width + kx * n.dilation_w) * x.channels);
      }
    }
    if (depthwise_) {
      pack_depthwise();
    } else {
      pack_panels();
    }
    n_.weight_real.clear();
    n_.weight_real.shrink_to_fit();
  }

  // Pointers of a block; then copies of a tile's windows.
  std::size_t scratch_bytes() const override {
    const std::size_t rows = static_cast<std::size_t>(kernel_->rows), runs = static_cast<std::size_t>(runs_);
    return rows * (static_cast<std::size_t>(block_tiles_) * sizeof(void*) * (runs + 2) + copied_bytes()) + 64;
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(4 * (weights_.size() + bias_.size()));
  }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override {
    const Range pixels = share(y_.height * y_.width, c.thread, c.threads);
    const int count = pixels.end - pixels.begin, tiles = (count + kernel_->rows - 1) / kernel_->rows;
    for (int begin = 0; begin < tiles; begin += block_tiles_) {
      Block block{pixels.begin, count, tiles, begin, std::min(begin + block_tiles_, tiles)};
      if (depthwise_) {
        run_depthwise(c, block);
      } else {
        for (int g = 0; g < n_.groups; ++g) run_group(c, block, g);
      }
    }
  }

 private:
  // Tiles begin .. end - 1 of `tiles`, which share `count` pixels from `first` on evenly.
  struct Block {
    int first, count, tiles, begin, end;

    Range pixels(int tile) const {
      const Range r = share(count, tile, tiles);
      return {first + r.begin, first + r.end};
    }
  };

  // What the kernels read of a tile's pixels, [run][row]; then its outputs and residuals.
  struct Pointers {
    const float** in;
    int runs, rows;

    const float** out() const { return in + runs * rows; }
    const float** residual() const { return in + (runs + 1) * rows; }
  };

  Pointers pointers_of(const Context& c, int tile) const {
    const int rows = kernel_->rows;
    return {reinterpret_cast<const float**>(c.scratch) + tile * rows * (runs_ + 2), runs_, rows};
  }

  // Of a pixel whose window's rows may cross the border.
  std::size_t copied_bytes() const { return by_rows_ ? 4 * static_cast<std::size_t>(runs_ * run_) : 0; }

  int tiles_of_block() const {
    const std::int64_t weights = std::int64_t{4} * y_.channels * taps_ * in_group_;
    if (depthwise_ || by_rows_ || weights <= kCached) return 1;
    const std::int64_t inputs = std::int64_t{4} * x_.height * x_.width * x_.channels;
    const std::int64_t tiles = y_.height * y_.width / kernel_->rows + 1, blocks = (inputs + kCached - 1) / kCached;
    const std::int64_t most = kBlockPointers / (kernel_->rows * (runs_ + 2) * static_cast<std::int64_t>(sizeof(void*)));
    return static_cast<int>(std::max(std::int64_t{1}, std::min(most, (tiles + blocks - 1) / blocks)));
  }

  void pack_depthwise() {
    weights_ = Aligned<float>(static_cast<std::size_t>(taps_) * x_.channels);
    bias_ = Aligned<float>(static_cast<std::size_t>(x_.channels));
    std::copy(n_.bias_real.begin(), n_.bias_real.end(), bias_.data());
    real::pack_depthwise(taps_, x_.channels, n_.weight_real.data(), weights_.data());
  }

  void pack_panels() {
    const int terms = taps_ * in_group_;
    real::Layer layer = real::select(*kernel_, n_.groups, y_.channels / n_.groups, terms);
    panels_ = std::move(layer.panels);
    weights_ = Aligned<float>(layer.weights);
    bias_ = Aligned<float>(layer.bias);
    for (const Panel& p : panels_) {
      float *weights = weights_.data() + p.weights, *bias = bias_.data() + p.bias;
      real::pack(p, terms, n_.weight_real.data(), n_.bias_real.data(), weights, bias);
      poison(weights + static_cast<std::size_t>(terms) * static_cast<std::size_t>(p.width), kGap);
      poison(bias + p.width, kGap);
    }
  }

  // The pointers of a tile, whose inputs are channels from in_first on; `copies`: room for its windows.
  void gather(const Context& c, Range pixels, int in_first, const Pointers& p, float* copies) const {
    int y = pixels.begin / y_.width, x = pixels.begin % y_.width;
    for (int r = 0; r < pixels.end - pixels.begin; ++r) {
      const int top = y * n_.stride_h - n_.pad_top, left = x * n_.stride_w - n_.pad_left;
      const std::int64_t from = (static_cast<std::int64_t>(top) * x_.width + left) * x_.channels + in_first;
      if (top >= 0 && left >= 0 && top + n_.reach_h() <= x_.height && left + n_.reach_w() <= x_.width) {
        const float* in = c.real(x_) + from;
        for (int i = 0; i < runs_; ++i) p.in[i * p.rows + r] = in + offsets_[static_cast<std::size_t>(i)];
      } else if (by_rows_) {
        copies = copy_rows(c, top, left, p.in + r, copies);
      } else {
        take_taps(c, top, left, from, p.in + r);
      }
      const std::int64_t at = static_cast<std::int64_t>(pixels.begin + r) * y_.channels;
      p.out()[r] = c.real_out(y_) + at;
      p.residual()[r] = has_residual_ ? c.real(residual_) + at : nullptr;
      if (++x == y_.width) x = 0, ++y;
    }
  }

  // Of a window that crosses the border.
  void take_taps(const Context& c, int top, int left, std::int64_t from, const float** in) const {
    for (int t = 0, iy = top; t < taps_; iy += n_.dilation_h) {
      for (int i = 0, ix = left; i < n_.kernel_w; ++i, ++t, ix += n_.dilation_w, in += kernel_->rows) {
        const bool inside = iy >= 0 && iy < x_.height && ix >= 0 && ix < x_.width;
        *in = inside ? c.real(x_) + (from + offsets_[static_cast<std::size_t>(t)]) : zeros_.data();
      }
    }
  }

  // The same for rows in one piece: copies with zeros beyond the border. Returns the end of the copies.
  float* copy_rows(const Context& c, int top, int left, const float** in, float* copies) const {
    const int begin = std::max(left, 0), end = std::min(left + n_.kernel_w, x_.width);
    for (int i = 0; i < runs_; ++i, in += kernel_->rows, copies += run_) {
      const int iy = top + i * n_.dilation_h;
      *in = copies;
      std::fill(copies, copies + run_, 0.0f);
      if (iy < 0 || iy >= x_.height || begin >= end) continue;
      const float* row = c.real(x_) + static_cast<std::int64_t>(iy) * x_.width * x_.channels;
      std::copy(row + begin * x_.channels, row + end * x_.channels, copies + (begin - left) * x_.channels);
    }
    return copies;
  }

  void run_group(const Context& c, const Block& block, int group) const {
    const std::size_t panels = panels_.size() / static_cast<std::size_t>(n_.groups);
    auto* copies = reinterpret_cast<float*>(pointers_of(c, block_tiles_).in);
    for (int i = block.begin; i < block.end; ++i) {
      gather(c, block.pixels(i), group * in_group_, pointers_of(c, i - block.begin), copies);
    }
    for (std::size_t k = 0; k < panels; ++k) {
      const Panel& panel = panels_[static_cast<std::size_t>(group) * panels + k];
      real::Tile t;
      t.in_stride = kernel_->rows;
      t.taps = runs_;
      t.in_channels = run_;
      t.weights = weights_.data() + panel.weights;
      t.bias = bias_.data() + panel.bias;
      t.panel = panel.width;
      t.channels = panel.channels;
      t.offset = panel.first;
      t.activation = n_.activation;
      for (int i = block.begin; i < block.end; ++i) {
        const Pointers p = pointers_of(c, i - block.begin);
        const Range pixels = block.pixels(i);
        t.in = p.in;
        t.out = const_cast<float* const*>(p.out());
        t.residual = has_residual_ ? p.residual() : nullptr;
        kernel_->conv(t, pixels.end - pixels.begin);
      }
    }
  }

  void run_depthwise(const Context& c, const Block& block) const {
    const Pointers p = pointers_of(c, 0);
    const Range pixels = block.pixels(block.begin);
    gather(c, pixels, 0, p, nullptr);
    real::Depthwise d;
    d.in = p.in;
    d.in_stride = kernel_->rows;
    d.taps = taps_;
    d.channels = x_.channels;
    d.weights = weights_.data();
    d.bias = bias_.data();
    d.out = const_cast<float* const*>(p.out());
    d.residual = has_residual_ ? p.residual() : nullptr;
    d.activation = n_.activation;
    kernel_->depthwise(d, pixels.end - pixels.begin);
  }

  NodeDesc n_;
  Buffer x_, y_, residual_;
  const real::Kernel* kernel_;
  bool has_residual_, depthwise_ = false, by_rows_ = false;
  int taps_, in_group_ = 1, block_tiles_ = 1;
  int runs_ = 1, run_ = 1;             // of a window, each of so many neighbouring inputs
  std::vector<std::int64_t> offsets_;  // per run, from the window's first input
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
