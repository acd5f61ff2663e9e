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
    for (int kx = 0; kx < n.kernel_w; kx += taps_ / runs_) {
      offsets_.push_back(static_cast<std::int64_t>(kx * n.dilation_w) * x.channels);
    }
    if (depthwise_) {
      pack_depthwise();
    } else {
      pack_panels();
    }
    n_.weight_real.clear();
    n_.weight_real.shrink_to_fit();
  }

  // The rows of a window; pointers of a block; then copies of a tile's windows.
  std::size_t scratch_bytes() const override {
    const std::size_t rows = static_cast<std::size_t>(kernel_->rows), runs = static_cast<std::size_t>(runs_);
    const std::size_t pointers = static_cast<std::size_t>(n_.kernel_h) + rows * static_cast<std::size_t>(block_tiles_) * (runs + 2);
    return pointers * sizeof(void*) + rows * copied_bytes() + 64;
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(4 * (weights_.size() + bias_.size()));
  }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override { run_rows(c, {0, y_.height}); }

  void run_rows(const Context& c, Range rows) const override {
    const Range mine = share((rows.end - rows.begin) * y_.width, c.thread, c.threads);
    const Range pixels{rows.begin * y_.width + mine.begin, rows.begin * y_.width + mine.end};
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

  static const float** window_rows_of(const Context& c) { return reinterpret_cast<const float**>(c.scratch); }

  Pointers pointers_of(const Context& c, int tile) const {
    const int rows = kernel_->rows;
    return {window_rows_of(c) + n_.kernel_h + tile * rows * (runs_ + 2), runs_, rows};
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

  // The rows of the input that windows with the topmost row `top` read; null: outside the image.
  void take_rows(const Context& c, int top, const float** rows) const {
    for (int i = 0, iy = top; i < n_.kernel_h; ++i, iy += n_.dilation_h) {
      rows[i] = iy >= 0 && iy < x_.height ? c.real_row(x_, iy) : nullptr;
    }
  }

  // The pointers of a tile, whose inputs are channels from in_first on; `copies`: room for its windows.
  void gather(const Context& c, Range pixels, int in_first, const Pointers& p, float* copies) const {
    const float** const rows = window_rows_of(c);
    int y = pixels.begin / y_.width, x = pixels.begin % y_.width;
    for (int r = 0; r < pixels.end - pixels.begin; ++y, x = 0) {
      const int top = y * n_.stride_h - n_.pad_top;
      const bool whole = top >= 0 && top + n_.reach_h() <= x_.height;
      take_rows(c, top, rows);
      float* const out = c.real_row_out(y_, y);
      const float* const residual = has_residual_ ? c.real_row(residual_, y) : nullptr;
      for (; x < y_.width && r < pixels.end - pixels.begin; ++x, ++r) {
        const int left = x * n_.stride_w - n_.pad_left;
        if (whole && left >= 0 && left + n_.reach_w() <= x_.width) {
          const std::int64_t from = static_cast<std::int64_t>(left) * x_.channels + in_first;
          const float** in = p.in + r;
          for (int ky = 0; ky < n_.kernel_h; ++ky) {
            for (const std::int64_t offset : offsets_) *in = rows[ky] + from + offset, in += p.rows;
          }
        } else if (by_rows_) {
          copies = copy_rows(rows, left, p.in + r, copies);
        } else {
          take_taps(rows, left, in_first, p.in + r);
        }
        const std::int64_t at = static_cast<std::int64_t>(x) * y_.channels;
        p.out()[r] = out + at;
        p.residual()[r] = residual ? residual + at : nullptr;
      }
    }
  }

  // Of a window that crosses the border.
  void take_taps(const float* const* rows, int left, int in_first, const float** in) const {
    for (int ky = 0; ky < n_.kernel_h; ++ky) {
      for (int i = 0, ix = left; i < n_.kernel_w; ++i, ix += n_.dilation_w, in += kernel_->rows) {
        const bool inside = rows[ky] && ix >= 0 && ix < x_.width;
        *in = inside ? rows[ky] + static_cast<std::int64_t>(ix) * x_.channels + in_first : zeros_.data();
      }
    }
  }

  // The same for rows in one piece: copies with zeros beyond the border. Returns the end of the copies.
  float* copy_rows(const float* const* rows, int left, const float** in, float* copies) const {
    const int begin = std::max(left, 0), end = std::min(left + n_.kernel_w, x_.width);
    for (int ky = 0; ky < runs_; ++ky, in += kernel_->rows, copies += run_) {
      *in = copies;
      std::fill(copies, copies + run_, 0.0f);
      if (!rows[ky] || begin >= end) continue;
      std::copy(rows[ky] + begin * x_.channels, rows[ky] + end * x_.channels, copies + (begin - left) * x_.channels);
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
  std::vector<std::int64_t> offsets_;  // of the runs of a row, from the window's first input there
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
