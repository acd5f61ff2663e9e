// Dense and grouped quantized convolutions: work split into blocks of pixels and panels of channels.
#include <algorithm>
#include <cstring>

#include "exec/layer_epilogue.h"
#include "exec/step.h"
#include "exec/weights.h"
#include "kernels/dot/layer.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/sanitizer.h"

namespace subbyte {
namespace {

using dot::Panel;

// Pixels whose operands are gathered together; their pointers, and a gated copy of them, stay in the cache.
constexpr int kBlock = dot::kMaxRows;

// Bytes of weights that are fetched whole before the layer begins: such layers are too short to fetch for themselves.
constexpr std::size_t kSmall = 96 * 1024;

class DotStep final : public Step {
 public:
  DotStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
          const Buffer& y, const ValueDesc& out, const GateSource* gate, const Options& o)
      : x_(x), y_(y), has_residual_(residual != nullptr), has_gate_(gate != nullptr),
        epilogue_(n, out, residual_value) {
    if (residual) residual_ = *residual;
    if (gate) gate_ = *gate, gate_buffer_ = *gate->gate, gate_multiplier_ = *gate->multiplier;
    stride_h_ = n.stride_h, stride_w_ = n.stride_w;
    dilation_h_ = n.dilation_h, dilation_w_ = n.dilation_w;
    pad_top_ = n.pad_top, pad_left_ = n.pad_left;
    layer_ = layer_of(n, x, y);
    runs_per_row_ = row_is_run(n) ? 1 : n.kernel_w;
    pack(n, o.isa);
    split_ = dot::long_sums(layer_, o.isa) && layer_.pixels >= 12 && !panels_.sparse();
    elementwise_ = elementwise::find(o.isa);
    split(o.threads);
  }

  std::size_t scratch_bytes() const override {
    std::size_t bytes = pointer_bytes();
    if (has_gate_) bytes += factor_bytes() + static_cast<std::size_t>(kBlock) * x_.pixel + 256;
    if (split_) bytes += kAccumulators;
    return bytes + 256;
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(weights_.size() + 8 * bias_.size() + epilogue_.bytes() +
                                     4 * gate_multiplier_.size());
  }
  Span first_weights() const override {
    const Span panel = panel_span(0);
    return {panel.begin, std::max(panel.size, std::min(weights_.size(), kSmall))};
  }
  bool hides_prefetch() const override { return y_.height * y_.width >= 32; }
  const char* kernel_name() const { return panels_.all[0].kernel->name; }
  // "int8", or "int8+4x16:50" where zero blocks of 4 inputs x 16 outputs are skipped and 50 % of all are left, rounded up.
  std::string weights_text(bool book) const {
    Format format = layer_.weights;
    format.book = book && format.bits < 8;
    if (!panels_.sparse()) return format_text(format);
    const std::int64_t percent = (100 * panels_.kept + panels_.blocks - 1) / panels_.blocks;
    return format_text(format) + "+4x" + std::to_string(panels_.block_outputs) + ":" + std::to_string(percent);
  }

  void run(const Context& c) const override {
    fill_halo(c, y_);
    const Work work(*this, c);
    const Range units = share(pixel_blocks_ * panel_blocks_, c.thread, c.threads);
    Prefetch prefetch(ahead, static_cast<int>(panels_.all.size()) / panel_blocks_);
    int gathered = -1;
    for (int u = units.begin; u < units.end; ++u) {
      const int block = u / panel_blocks_;
      const Range pixels = part_of(y_.height * y_.width, block, pixel_blocks_);
      if (block != gathered) work.gather(pixels);
      gathered = block;
      const Range panels = share(static_cast<int>(panels_.all.size()), u % panel_blocks_, panel_blocks_);
      for (int p = panels.begin; p < panels.end; ++p) {
        work.run_panel(panels_.all[p], pixels.end - pixels.begin, u == units.begin ? panel_span(p + 1) : Span{});
        if (u == units.end - 1) prefetch.next();
      }
    }
  }

  void run_rows(const Context& c, Range rows) const override {
    const Work work(*this, c);
    const Range mine = share((rows.end - rows.begin) * y_.width, c.thread, c.threads);
    const int count = mine.end - mine.begin, blocks = (count + block() - 1) / block();
    for (int b = 0; b < blocks; ++b) {
      const Range part = part_of(count, b, blocks);
      const int first = rows.begin * y_.width + mine.begin;
      work.gather({first + part.begin, first + part.end});
      for (const Panel& p : panels_.all) work.run_panel(p, part.end - part.begin, Span{});
    }
  }

 private:
  // One thread's scratch memory and what it does with it.
  class Work {
   public:
    Work(const DotStep& step, const Context& c)
        : s_(step), c_(c), pointers_(reinterpret_cast<const std::uint8_t**>(c.scratch)) {
      std::uint8_t* after = c.scratch + s_.pointer_bytes();
      after += (64 - reinterpret_cast<std::uintptr_t>(after) % 64) % 64;
      accumulators_ = reinterpret_cast<std::int32_t*>(after);
      if (s_.split_) after += kAccumulators;
      factors_ = reinterpret_cast<std::int16_t*>(after);
      gated_ = after + s_.factor_bytes();
      if (s_.has_gate_) {
        gate_factors(*s_.elementwise_, s_.gate_multiplier_, s_.gate_.zero_gate, c.address(s_.gate_buffer_, 0, 0), factors_);
      }
    }

    // The operands of output pixels, row by row: neighbouring pixels are a constant distance apart.
    void gather(Range pixels) const {
      const int count = pixels.end - pixels.begin, width = s_.y_.width;
      const std::ptrdiff_t step = s_.stride_w_ * s_.x_.pixel;
      int y = pixels.begin / width, x = pixels.begin % width;
      for (int i = 0; i < count; x = 0, ++y) {
        const int n = std::min(count - i, width - x);
        const int in_y = y * s_.stride_h_ - s_.pad_top_, in_x = x * s_.stride_w_ - s_.pad_left_;
        for (int run = 0; run < s_.layer_.runs; ++run) {
          const std::uint8_t* in = c_.address(s_.x_, in_y + run / s_.runs_per_row_ * s_.dilation_h_,
                                              in_x + run % s_.runs_per_row_ * s_.dilation_w_);
          spread(in, step, n, pointers_ + run * kBlock + i);
        }
        spread(c_.address(s_.y_, y, x), s_.y_.pixel, n, pointers_ + s_.layer_.runs * kBlock + i);
        if (s_.has_residual_) {
          spread(c_.address(s_.residual_, y, x), s_.residual_.pixel, n, pointers_ + (s_.layer_.runs + 1) * kBlock + i);
        }
        i += n;
      }
      if (s_.has_gate_) apply_gate(count);
    }

    // Tiles of nearly equal height: `tall` of them have one row more than the rest. The weights at `next` are
    // fetched a little before every tile.
    void run_panel(const Panel& p, int pixels, Span next) const {
      const int max_rows = p.kernel->max_rows, tiles = (pixels + max_rows - 1) / max_rows;
      const int rows = pixels / tiles, tall = pixels % tiles;
      const bool fetches = p.kernel->has(dot::kFetches);
      dot::Tile tile;
      tile.in_stride = kBlock;
      tile.runs = s_.layer_.runs;
      tile.levels = s_.levels_;
      tile.bias = s_.bias_.data() + p.channel_data;
      tile.multiplier = s_.multiplier_.data() + p.channel_data;
      tile.offset = p.first;
      tile.channels = p.channels;
      tile.epilogue = &s_.epilogue_.values();
      const std::uint8_t* packed = s_.weights_.data() + p.weights;
      tile.kept = reinterpret_cast<const std::int32_t*>(packed);
      tile.chain = p.chain;
      const std::uint8_t* const* in = p.in_offset == 0 ? pointers_ : shift(p, pixels);
      const int groups = s_.layer_.groups, piece = s_.split_ ? dot::piece(s_.layer_.weights) : groups;
      const int pieces = (groups + piece - 1) / piece;
      const std::size_t slice = dot::fetch_slice(next.size, tiles * pieces);
      for (int i = 0; i < pieces; ++i) {
        const int first = i * piece;
        tile.groups = std::min(piece, groups - first);
        tile.skip = 4 * static_cast<std::ptrdiff_t>(first);
        tile.weights = packed + p.list_bytes + dot::panel_bytes(1, first, p.kernel->vectors(), s_.layer_.weights);
        tile.in = in;
        tile.out = const_cast<std::uint8_t* const*>(pointers_ + s_.layer_.runs * kBlock);
        tile.residual = s_.has_residual_ ? pointers_ + (s_.layer_.runs + 1) * kBlock : nullptr;
        std::int32_t* at = accumulators_;
        for (int t = 0; t < tiles; ++t, next.begin += slice) {
          const int n = t < tall ? rows + 1 : rows;
          if (fetches) {
            tile.ahead = next.begin, tile.ahead_bytes = slice;
          } else {
            dot::fetch(next.begin, slice);
          }
          tile.resume = i > 0 ? at : nullptr;
          tile.suspend = i + 1 < pieces ? at : nullptr;
          p.kernel->run(tile, n);
          at += 16 * p.kernel->vectors() * n;
          tile.in += n;
          tile.out += n;
          if (s_.has_residual_) tile.residual += n;
        }
      }
    }

   private:
    static void spread(const std::uint8_t* first, std::ptrdiff_t step, int n, const std::uint8_t** pointers) {
      for (int i = 0; i < n; ++i) pointers[i] = first + i * step;
    }

    // A gated convolution is 1 x 1: one run, whose operands are replaced by gated copies.
    void apply_gate(int count) const {
      const elementwise::Gate g{s_.gate_.zero_x, s_.gate_.zero, s_.gate_.high};
      const std::ptrdiff_t pixel = s_.x_.pixel;
      for (int i = 0; i < count;) {  // neighbours in memory go together
        int n = 1;
        while (i + n < count && pointers_[i + n] == pointers_[i] + n * pixel) ++n;
        s_.elementwise_->gate(g, factors_, pointers_[i], pixel, n, s_.x_.channels, gated_ + i * pixel, pixel);
        spread(gated_ + i * pixel, pixel, n, pointers_ + i);
        i += n;
      }
    }

    const std::uint8_t* const* shift(const Panel& p, int pixels) const {
      const std::uint8_t** shifted = pointers_ + kBlock * (s_.layer_.runs + 2);
      for (int run = 0; run < s_.layer_.runs; ++run) {
        for (int i = 0; i < pixels; ++i) shifted[run * kBlock + i] = pointers_[run * kBlock + i] + p.in_offset;
      }
      return shifted;
    }

    const DotStep& s_;
    const Context& c_;
    const std::uint8_t** pointers_;
    std::int32_t* accumulators_;
    std::int16_t* factors_;
    std::uint8_t* gated_;
  };

  // Of a block: operands, results, residuals, and the operands of one part of several.
  std::size_t pointer_bytes() const {
    const int operands = layer_.parts > 1 ? 2 * layer_.runs : layer_.runs;
    return sizeof(void*) * kBlock * static_cast<std::size_t>(operands + 2);
  }
  // Accumulators of kBlock pixels of the widest panel.
  static constexpr std::size_t kAccumulators = sizeof(std::int32_t) * kBlock * 16 * dot::kMaxVectors;

  std::size_t factor_bytes() const { return (2 * static_cast<std::size_t>(x_.channels) + 256) / 64 * 64; }

  // A row of taps is one contiguous run where all channels take part and its taps are neighbours.
  static bool row_is_run(const NodeDesc& n) { return n.groups == 1 && n.dilation_w == 1; }

  static dot::Layer layer_of(const NodeDesc& n, const Buffer& x, const Buffer& y) {
    const bool whole = n.groups == 1;
    const int in = x.channels / n.groups, taps = n.kernel_h * n.kernel_w;
    const int taps_per_run = row_is_run(n) ? n.kernel_w : 1;
    const int tap_bytes = whole ? static_cast<int>(x.pixel) : (in + 3) / 4 * 4;
    return {n.groups,     in,        y.channels / n.groups, taps, taps / taps_per_run, taps_per_run * tap_bytes / 4,
            taps_per_run, tap_bytes, y.height * y.width,    {}};
  }

  void pack(const NodeDesc& n, Isa isa) {
    const LayerWeights w = weights_of(n, layer_.in_channels, x_.zero_point);
    layer_.weights = dot::packed_format(layer_, w);
    for (int l = 0; l < 16; ++l) levels_[l] = layer_.weights.bits < 8 ? w.levels[l % (1 << w.bits)] : 0;
    panels_ = dot::select(layer_, w, isa);
    layer_.weights = panels_.weights;
    const Panel& last = panels_.all.back();
    weights_ = Aligned<std::uint8_t>(last.weights + last.bytes + kGap);
    const std::size_t entries = last.channel_data + outputs_of(last) + kGap / 4;
    bias_ = Aligned<std::int32_t>(entries);
    multiplier_ = Aligned<float>(entries);
    for (Panel& p : panels_.all) {
      std::uint8_t* weights = weights_.data() + p.weights;
      std::int32_t* bias = bias_.data() + p.channel_data;
      float* multiplier = multiplier_.data() + p.channel_data;
      dot::pack(layer_, p, w, weights, bias, multiplier);
      if (p.kernel->has(dot::kChains)) {
        p.chain = dot::chain_length(weights, layer_.runs, layer_.groups, p.kernel->vectors(), layer_.weights, levels_);
      }
      poison(weights + p.bytes, kGap);
      poison(bias + outputs_of(p), kGap);
      poison(multiplier + outputs_of(p), kGap);
    }
  }

  static std::size_t outputs_of(const Panel& p) { return 16 * static_cast<std::size_t>(p.kernel->vectors()); }

  // Blocks of equal size, enough of them for every thread; few pixels are shared out by panels instead.
  void split(int threads) {
    const int pixels = y_.height * y_.width;
    pixel_blocks_ = (pixels + block() - 1) / block();
    panel_blocks_ = 1;
    if (threads > 1) {
      if (pixels >= threads * 24) {
        pixel_blocks_ = (pixel_blocks_ + threads - 1) / threads * threads;
      } else {
        panel_blocks_ = static_cast<int>(panels_.all.size());
      }
    }
  }

  // Kernels that skip like blocks of whole tiles of theirs.
  int block() const { return panels_.sparse() ? kBlock / dot::kSparseTile * dot::kSparseTile : kBlock; }
  // The share of `count` pixels that is block `b`.
  Range part_of(int count, int b, int blocks) const {
    if (!panels_.sparse()) return share(count, b, blocks);
    const Range tiles = share((count + dot::kSparseTile - 1) / dot::kSparseTile, b, blocks);
    return {tiles.begin * dot::kSparseTile, std::min(count, tiles.end * dot::kSparseTile)};
  }

  Span panel_span(int p) const {
    if (p >= static_cast<int>(panels_.all.size())) return {};
    return {weights_.data() + panels_.all[p].weights, panels_.all[p].bytes};
  }

  Buffer x_, y_, residual_, gate_buffer_;
  bool has_residual_, has_gate_, split_ = false;
  GateSource gate_{};  // its pointers are those of the planner: what they point to is copied
  std::vector<float> gate_multiplier_;
  int stride_h_, stride_w_, dilation_h_, dilation_w_, pad_top_, pad_left_;
  int runs_per_row_;
  dot::Layer layer_;
  int pixel_blocks_ = 1, panel_blocks_ = 1;
  dot::Panels panels_;
  Aligned<std::uint8_t> weights_;
  Aligned<std::int32_t> bias_;
  Aligned<float> multiplier_;
  alignas(64) std::int8_t levels_[16];
  LayerEpilogue epilogue_;
  const elementwise::Kernel* elementwise_;
};

}  // namespace

StepPtr make_dot_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
                      const Buffer& y, const ValueDesc& out, const GateSource* gate, const Options& o) {
  auto step = std::make_unique<DotStep>(n, x, residual, residual_value, y, out, gate, o);
  step->info.kernel = step->kernel_name();
  step->info.executed_weights = step->weights_text(n.weight_format.ends_with("+book"));
  return step;
}

}  // namespace subbyte
