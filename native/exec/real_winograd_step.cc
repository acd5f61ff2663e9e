// float32 3 x 3 convolutions with stride 1 by Winograd's way (kernels/real/real.h): blocks of squares of 2 x 2 outputs,
// each of them spread to 16 elements, multiplied element by element with the filters', and collected again.
#include <algorithm>

#include "exec/step.h"
#include "kernels/real/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte {
namespace {

using real::Panel;

constexpr int kElements = 16;
// Bytes of a block: where all filters stay in the second-level cache, beside them; otherwise as large as the budget of a
// thread allows, since the filters come from further away once per block.
constexpr std::int64_t kCachedFilters = 512 << 10, kSmallBlock = 256 << 10, kLargeBlock = 960 << 10;
constexpr int kFewestChannels = 16, kMostChannels = 1024, kFewestSquares = 12;

int squares_of(int outputs) { return (outputs + 1) / 2; }

class RealWinogradStep final : public Step {
 public:
  RealWinogradStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa)
      : x_(x), y_(y), kernel_(real::find(isa)), activation_(n.activation), pad_top_(n.pad_top), pad_left_(n.pad_left),
        has_residual_(residual != nullptr), across_(squares_of(y.width)), squares_(across_ * squares_of(y.height)),
        row_(static_cast<std::int64_t>(x.width) * x.channels), zeros_(static_cast<std::size_t>(std::max(x.channels, kernel_->outputs))) {
    if (residual) residual_ = *residual;
    std::fill(zeros_.data(), zeros_.data() + zeros_.size(), 0.0f);
    pack(n);
    const auto filters = static_cast<std::int64_t>(4 * weights_.size());
    const std::int64_t bytes = filters <= kCachedFilters ? kSmallBlock : kLargeBlock;
    const std::int64_t square = 4 * kElements * (x.channels + kernel_->outputs) + kElements * 2 * std::int64_t{sizeof(void*)};
    const std::int64_t most = std::max(bytes / square, std::int64_t{kernel_->rows});
    const std::int64_t blocks = (squares_ + most - 1) / most;
    block_ = static_cast<int>((squares_ + blocks - 1) / blocks);
  }

  std::size_t scratch_bytes() const override {
    const std::size_t block = static_cast<std::size_t>(block_);
    return kElements * (4 * (element_in() + element_out()) + 2 * block * sizeof(void*)) + 64;
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(4 * (weights_.size() + bias_.size()));
  }
  const char* kernel_name() const { return kernel_->name; }

  void run(const Context& c) const override {
    const Range mine = share(squares_, c.thread, c.threads);
    for (int begin = mine.begin; begin < mine.end; begin += block_) {
      run_block(c, {begin, std::min(begin + block_, mine.end)});
    }
  }

 private:
  // Floats of an element of a block, before and behind the products; a cache line more than they are, lest elements
  // share their sets of the first-level cache.
  std::size_t element_in() const { return static_cast<std::size_t>(block_) * x_.channels + 16; }
  std::size_t element_out() const { return static_cast<std::size_t>(block_) * kernel_->outputs + 16; }

  void pack(const NodeDesc& n) {
    const int terms = kElements * x_.channels;
    std::vector<float> filters(static_cast<std::size_t>(y_.channels) * terms);
    real::transform_filters(y_.channels, x_.channels, n.weight_real.data(), filters.data());
    real::Layer layer = real::select(*kernel_, 1, y_.channels, terms);
    panels_ = std::move(layer.panels);
    weights_ = Aligned<float>(layer.weights);
    bias_ = Aligned<float>(layer.bias);
    for (const Panel& p : panels_) {
      float *weights = weights_.data() + p.weights, *bias = bias_.data() + p.bias;
      real::pack(p, terms, filters.data(), n.bias_real.data(), weights, bias);
      poison(weights + static_cast<std::size_t>(terms) * static_cast<std::size_t>(p.width), kGap);
      poison(bias + p.width, kGap);
    }
  }

  void run_block(const Context& c, Range squares) const {
    const int count = squares.end - squares.begin;
    auto* spread = reinterpret_cast<float*>(c.scratch + (64 - reinterpret_cast<std::uintptr_t>(c.scratch) % 64) % 64);
    float* products = spread + kElements * element_in();
    auto** out = reinterpret_cast<float**>(products + kElements * element_out());
    auto** in = const_cast<const float**>(out + count);
    for (int i = 0; i < count; ++i) {
      spread_square(c, squares.begin + i, spread + static_cast<std::ptrdiff_t>(i) * x_.channels);
    }
    for (int e = 0; e < kElements; ++e) {
      for (int i = 0; i < count; ++i) {
        in[e * count + i] = spread + static_cast<std::size_t>(e) * element_in() + static_cast<std::ptrdiff_t>(i) * x_.channels;
      }
    }
    for (const Panel& p : panels_) {
      multiply(p, count, in, out, products);
      for (int i = 0; i < count; ++i) collect_square(c, squares.begin + i, p, products + static_cast<std::ptrdiff_t>(i) * p.width);
    }
  }

  void spread_square(const Context& c, int square, float* to) const {
    const int top = 2 * (square / across_) - pad_top_, left = 2 * (square % across_) - pad_left_;
    const std::int64_t from = (static_cast<std::int64_t>(top) * x_.width + left) * x_.channels;
    const bool whole = top >= 0 && left >= 0 && top + 4 <= x_.height && left + 4 <= x_.width;
    const float* in[kElements];
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) {
        const int y = top + i, x = left + j;
        const bool inside = whole || (y >= 0 && y < x_.height && x >= 0 && x < x_.width);
        in[4 * i + j] = inside ? c.real(x_) + (from + i * row_ + j * x_.channels) : zeros_.data();
      }
    }
    kernel_->spread(in, x_.channels, to, static_cast<std::ptrdiff_t>(element_in()));
  }

  // A panel's products of all elements and squares: [element][square][width].
  void multiply(const Panel& p, int count, const float* const* in, float** out, float* products) const {
    real::Tile t{};
    t.in_stride = kernel_->rows;
    t.taps = 1;
    t.in_channels = x_.channels;
    t.bias = zeros_.data();
    t.panel = t.channels = p.width;
    const int tiles = (count + kernel_->rows - 1) / kernel_->rows;
    for (int e = 0; e < kElements; ++e) {
      for (int i = 0; i < count; ++i) {
        out[i] = products + static_cast<std::size_t>(e) * element_out() + static_cast<std::ptrdiff_t>(i) * p.width;
      }
      t.weights = weights_.data() + p.weights + static_cast<std::ptrdiff_t>(e) * x_.channels * p.width;
      for (int i = 0; i < tiles; ++i) {
        const Range rows = share(count, i, tiles);
        t.in = in + e * count + rows.begin;
        t.out = out + rows.begin;
        kernel_->conv(t, rows.end - rows.begin);
      }
    }
  }

  void collect_square(const Context& c, int square, const Panel& p, const float* products) const {
    const int top = 2 * (square / across_), left = 2 * (square % across_);
    float* out[4];
    const float* residual[4];
    for (int i = 0; i < 4; ++i) {
      const int y = top + i / 2, x = left + i % 2;
      const bool inside = y < y_.height && x < y_.width;
      const std::int64_t at = (static_cast<std::int64_t>(y) * y_.width + x) * y_.channels;
      out[i] = inside ? c.real_out(y_) + at : nullptr;
      residual[i] = inside && has_residual_ ? c.real(residual_) + at : nullptr;
    }
    kernel_->collect({products, static_cast<std::ptrdiff_t>(element_out()), bias_.data() + p.bias, p.width, p.channels,
                      out, has_residual_ ? residual : nullptr, p.first, activation_});
  }

  Buffer x_, y_, residual_;
  const real::Kernel* kernel_;
  Activation activation_;
  int pad_top_, pad_left_;
  bool has_residual_;
  int across_, squares_, block_ = 1;
  std::int64_t row_;  // of the input: floats
  std::vector<Panel> panels_;
  Aligned<float> weights_, bias_, zeros_;
};

}  // namespace

// Squares on the edge of a map may stick out of it; 9 products an output make way for 16 a square.
bool uses_real_winograd(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y) {
  const std::int64_t squares = std::int64_t{squares_of(y.height)} * squares_of(y.width);
  return info_of(n.op).is(kWeighted) && !x.quantized && n.groups == 1 && n.kernel_h == 3 && n.kernel_w == 3 && !n.dilated() &&
         n.stride_h == 1 && n.stride_w == 1 && x.channels >= kFewestChannels && x.channels <= kMostChannels &&
         y.channels >= kFewestChannels && squares >= kFewestSquares &&
         9 * std::int64_t{y.height} * y.width >= 20 * squares;
}

StepPtr make_real_winograd_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa) {
  auto step = std::make_unique<RealWinogradStep>(n, x, residual, y, isa);
  step->info.kernel = step->kernel_name();
  step->info.executed_weights = "fp32 (Winograd)";
  return step;
}

}  // namespace subbyte
