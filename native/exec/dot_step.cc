// Dense and grouped quantized convolutions: work split into blocks of pixels and panels of channels.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "exec/layer_epilogue.h"
#include "exec/step.h"
#include "exec/weights.h"
#include "kernels/dot/dot.h"
#include "kernels/pointwise/pointwise.h"
#include "kernels/sanitizer.h"

namespace subbyte {
namespace {

// Pixels whose operands are gathered together; their pointers, and a gated copy of them, stay in the cache.
constexpr int kBlock = 104;

// A panel of more than three times as many 4-byte groups (at 8 bits; more for narrower weights) is worked through in pieces that
// stay in the first-level cache beside the accumulators of a block.
constexpr int kPiece = 64;

// Bytes of weights that are fetched whole before the layer begins: such layers are too short to fetch for themselves.
constexpr std::size_t kSmall = 96 * 1024;

struct Panel {
  const dot::Kernel* kernel;
  std::size_t weights, channel_data;  // offsets: bytes of `weights_`, entries of `bias_` and `multiplier_`
  std::ptrdiff_t in_offset;           // first input channel of the group
  int first, channels;                // output channels
};

class DotStep final : public Step {
 public:
  DotStep(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
          const Buffer& y, const ValueDesc& out, const GateSource* gate, const Options& o)
      : x_(x), y_(y), has_residual_(residual != nullptr), has_gate_(gate != nullptr),
        epilogue_(n, out, residual_value) {
    if (residual) residual_ = *residual;
    if (gate) gate_ = *gate, gate_buffer_ = *gate->gate;
    stride_h_ = n.stride_h, stride_w_ = n.stride_w;
    pad_top_ = n.pad_top, pad_left_ = n.pad_left;
    in_group_ = x.channels / n.groups;
    // A row of taps is one contiguous run where all channels take part.
    taps_per_run_ = n.groups == 1 ? n.kernel_w : 1;
    runs_ = n.groups == 1 ? n.kernel_h : n.kernel_h * n.kernel_w;
    runs_per_row_ = n.groups == 1 ? 1 : n.kernel_w;
    groups4_ = static_cast<int>(n.groups == 1 ? n.kernel_w * x.pixel / 4 : (in_group_ + 3) / 4);
    pack(n, o.isa);
    split_ = long_sums(o.isa) && y.height * y.width >= 12;
    pointwise_ = pointwise::find(o.isa);
    split(o.threads);
  }

  std::size_t scratch_bytes() const override {
    std::size_t bytes = sizeof(void*) * kBlock * static_cast<std::size_t>(runs_ + 2);
    if (has_gate_) bytes += factor_bytes() + static_cast<std::size_t>(kBlock) * x_.pixel + 256;
    if (split_) bytes += kAccumulators;
    return bytes + 256;
  }
  std::int64_t weight_bytes() const override {
    return static_cast<std::int64_t>(weights_.size() + 8 * bias_.size() + epilogue_.bytes());
  }
  Span first_weights() const override {
    const Span panel = panel_span(0);
    return {panel.begin, std::max(panel.size, std::min(weights_.size(), kSmall))};
  }
  bool hides_prefetch() const override { return y_.height * y_.width >= 32; }
  int resident_bits() const { return bits_; }
  const char* kernel_name() const { return panels_[0].kernel->name; }

  void run(const Context& c) const override {
    fill_halo(c, y_);
    const Work work(*this, c);
    const Range units = share(pixel_blocks_ * panel_blocks_, c.thread, c.threads);
    Prefetch prefetch(ahead, static_cast<int>(panels_.size()) / panel_blocks_);
    int gathered = -1;
    for (int u = units.begin; u < units.end; ++u) {
      const int block = u / panel_blocks_;
      const Range pixels = share(y_.height * y_.width, block, pixel_blocks_);
      if (block != gathered) work.gather(pixels);
      gathered = block;
      const Range panels = share(static_cast<int>(panels_.size()), u % panel_blocks_, panel_blocks_);
      for (int p = panels.begin; p < panels.end; ++p) {
        work.run_panel(panels_[p], pixels.end - pixels.begin, u == units.begin ? panel_span(p + 1) : Span{});
        if (u == units.end - 1) prefetch.next();
      }
    }
  }

  void run_rows(const Context& c, Range rows) const override {
    const Work work(*this, c);
    const Range mine = share((rows.end - rows.begin) * y_.width, c.thread, c.threads);
    const int count = mine.end - mine.begin, blocks = (count + kBlock - 1) / kBlock;
    for (int b = 0; b < blocks; ++b) {
      const Range part = share(count, b, blocks);
      const int first = rows.begin * y_.width + mine.begin;
      work.gather({first + part.begin, first + part.end});
      for (const Panel& p : panels_) work.run_panel(p, part.end - part.begin, Span{});
    }
  }

 private:
  // One thread's scratch memory and what it does with it.
  class Work {
   public:
    Work(const DotStep& step, const Context& c)
        : s_(step), c_(c), pointers_(reinterpret_cast<const std::uint8_t**>(c.scratch)) {
      std::uint8_t* after = c.scratch + sizeof(void*) * kBlock * static_cast<std::size_t>(s_.runs_ + 2);
      after += (64 - reinterpret_cast<std::uintptr_t>(after) % 64) % 64;
      accumulators_ = reinterpret_cast<std::int32_t*>(after);
      if (s_.split_) after += kAccumulators;
      factors_ = reinterpret_cast<std::int16_t*>(after);
      gated_ = after + s_.factor_bytes();
      if (s_.has_gate_) {
        gate_factors(*s_.pointwise_, s_.gate_, c.address(s_.gate_buffer_, 0, 0), s_.x_.channels, factors_);
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
        for (int run = 0; run < s_.runs_; ++run) {
          const std::uint8_t* in = c_.address(s_.x_, in_y + run / s_.runs_per_row_, in_x + run % s_.runs_per_row_);
          spread(in, step, n, pointers_ + run * kBlock + i);
        }
        spread(c_.address(s_.y_, y, x), s_.y_.pixel, n, pointers_ + s_.runs_ * kBlock + i);
        if (s_.has_residual_) {
          spread(c_.address(s_.residual_, y, x), s_.residual_.pixel, n, pointers_ + (s_.runs_ + 1) * kBlock + i);
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
      const bool fetches = dot::fetches(p.kernel->isa) && !p.kernel->narrow;
      const std::uint8_t* shifted[kBlock * 64];
      dot::Tile tile;
      tile.in_stride = kBlock;
      tile.runs = s_.runs_;
      tile.levels = s_.levels_;
      tile.bias = s_.bias_.data() + p.channel_data;
      tile.multiplier = s_.multiplier_.data() + p.channel_data;
      tile.offset = p.first;
      tile.channels = p.channels;
      tile.epilogue = &s_.epilogue_.values();
      const std::uint8_t* const* in = p.in_offset == 0 ? pointers_ : shift(p, pixels, shifted);
      const int pieces = s_.split_ ? (s_.groups4_ + s_.piece() - 1) / s_.piece() : 1;
      const std::size_t slice = dot::fetch_slice(next.size, tiles * pieces);
      for (int i = 0; i < pieces; ++i) {
        const int first = s_.split_ ? i * s_.piece() : 0;
        tile.groups = s_.split_ ? std::min(s_.piece(), s_.groups4_ - first) : s_.groups4_;
        tile.skip = 4 * static_cast<std::ptrdiff_t>(first);
        tile.weights = s_.weights_.data() + p.weights + dot::panel_bytes(1, first, p.kernel->vectors, s_.bits_);
        tile.in = in;
        tile.out = const_cast<std::uint8_t* const*>(pointers_ + s_.runs_ * kBlock);
        tile.residual = s_.has_residual_ ? pointers_ + (s_.runs_ + 1) * kBlock : nullptr;
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
          at += 16 * p.kernel->vectors * n;
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
      const pointwise::Gate g{s_.gate_.zero_x, s_.gate_.zero, s_.gate_.high};
      const std::ptrdiff_t pixel = s_.x_.pixel;
      for (int i = 0; i < count;) {  // neighbours in memory go together
        int n = 1;
        while (i + n < count && pointers_[i + n] == pointers_[i] + n * pixel) ++n;
        s_.pointwise_->gate(g, factors_, pointers_[i], pixel, n, s_.x_.channels, gated_ + i * pixel, pixel);
        spread(gated_ + i * pixel, pixel, n, pointers_ + i);
        i += n;
      }
    }

    const std::uint8_t* const* shift(const Panel& p, int pixels, const std::uint8_t** shifted) const {
      for (int run = 0; run < s_.runs_; ++run) {
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

  // Accumulators of kBlock pixels of the widest panel.
  static constexpr std::size_t kAccumulators = sizeof(std::int32_t) * kBlock * 16 * dot::kMaxVectors;

  std::size_t factor_bytes() const { return (2 * static_cast<std::size_t>(x_.channels) + 256) / 64 * 64; }

  void pack(const NodeDesc& n, Isa isa) {
    const UnpackedWeights w(n, in_group_);
    const int out_group = y_.channels / n.groups;
    const int tap_bytes = n.groups == 1 ? static_cast<int>(x_.pixel) : 4 * groups4_;
    // Padding inputs must meet weight zero: a code book without it is expanded where there is padding.
    bits_ = code_bits(n.weight_bits);
    if (bits_ < 8 && tap_bytes != in_group_ && w.zero_code() < 0) bits_ = 8;
    for (int l = 0; l < 16; ++l) levels_[l] = bits_ < 8 ? w.levels()[l % (1 << bits_)] : 0;
    const bool small_tiles =
        dot::small_tiles(isa, bits_) && y_.height * y_.width >= 6 && runs_ * groups4_ >= dot::kLongEnough;
    std::size_t bytes = 0, entries = 0;
    for (int g = 0; g < n.groups; ++g) {
      const int vectors = (out_group + 15) / 16;
      const int count = small_tiles ? std::max(1, vectors / 2) : (vectors + dot::kMaxVectors - 1) / dot::kMaxVectors;
      for (int p = 0; p < count; ++p) {
        const Range v = share(vectors, p, count);
        const int first = 16 * v.begin, channels = std::min(out_group, 16 * v.end) - first;
        const bool narrow = vectors == 2 && channels <= 24 && !long_sums(isa) && dot::find_narrow(isa, bits_);
        const dot::Kernel* kernel = narrow ? dot::find_narrow(isa, bits_) : dot::find(isa, bits_, v.end - v.begin);
        panels_.push_back({kernel, bytes, entries, static_cast<std::ptrdiff_t>(g) * in_group_,
                           g * out_group + first, channels});
        bytes += dot::panel_bytes(runs_, groups4_, v.end - v.begin, bits_) + kGap;
        entries += 16 * static_cast<std::size_t>(v.end - v.begin) + kGap / 4;
      }
    }
    weights_ = Aligned<std::uint8_t>(bytes);
    bias_ = Aligned<std::int32_t>(entries);
    multiplier_ = Aligned<float>(entries);
    for (const Panel& p : panels_) {
      pack_panel(n, w, p, tap_bytes);
      const std::size_t outputs = 16 * static_cast<std::size_t>(p.kernel->vectors);
      poison(weights_.data() + p.weights + dot::panel_bytes(runs_, groups4_, p.kernel->vectors, bits_), kGap);
      poison(bias_.data() + p.channel_data + outputs, kGap);
      poison(multiplier_.data() + p.channel_data + outputs, kGap);
    }
  }

  void pack_panel(const NodeDesc& n, const UnpackedWeights& w, const Panel& p, int tap_bytes) {
    const int per_pack = dot::groups_per_pack(bits_), vectors = p.kernel->vectors;
    const int zero = bits_ < 8 ? std::max(w.zero_code(), 0) : 0;
    std::uint8_t* out = weights_.data() + p.weights;
    for (int run = 0; run < runs_; ++run) {
      for (int g0 = 0; g0 < groups4_; g0 += per_pack, out += 64 * vectors) {
        for (int slot = 0; slot < 16 * vectors; ++slot) {
          const int o = output_of(p, slot);
          for (int i = 0; i < 4; ++i) {
            unsigned byte = 0;
            for (int j = 0; j < per_pack && g0 + j < groups4_; ++j) {
              const int k = 4 * (g0 + j) + i, tap = run * taps_per_run_ + k / tap_bytes, channel = k % tap_bytes;
              int code = zero;
              if (o < p.channels && channel < in_group_) {
                const std::size_t at =
                    (static_cast<std::size_t>(p.first + o) * n.kernel_h * n.kernel_w + tap) * in_group_ + channel;
                code = bits_ < 8 ? w.code(at) : static_cast<std::uint8_t>(w.value(at));
              }
              byte |= static_cast<unsigned>(code) << (bits_ * j);
            }
            out[64 * (slot / 16) + 4 * (slot % 16) + i] = static_cast<std::uint8_t>(byte);
          }
        }
      }
    }
    for (int slot = 0; slot < 16 * vectors; ++slot) {
      const int o = output_of(p, slot);
      const bool valid = o < p.channels;
      const std::size_t channel = static_cast<std::size_t>(p.first + o);
      bias_[p.channel_data + slot] =
          valid ? centred_bias(n.bias[channel], x_.zero_point, w.sum(channel)) : 0;
      multiplier_[p.channel_data + slot] = valid ? n.multiplier[channel] : 0;
    }
  }

  // The output of its panel that a place of the panel's vectors holds.
  static int output_of(const Panel& p, int slot) { return p.kernel->narrow && slot >= 24 ? slot - 8 : slot; }

  // Blocks of equal size, enough of them for every thread; few pixels are shared out by panels instead.
  void split(int threads) {
    const int pixels = y_.height * y_.width;
    pixel_blocks_ = (pixels + kBlock - 1) / kBlock;
    panel_blocks_ = 1;
    if (threads > 1) {
      if (pixels >= threads * 24) {
        pixel_blocks_ = (pixel_blocks_ + threads - 1) / threads * threads;
      } else {
        panel_blocks_ = static_cast<int>(panels_.size());
      }
    }
  }

  Span panel_span(int p) const {
    if (p >= static_cast<int>(panels_.size())) return {};
    return {weights_.data() + panels_[p].weights, dot::panel_bytes(runs_, groups4_, panels_[p].kernel->vectors, bits_)};
  }

  // Whether the sums may be worth making in pieces.
  bool long_sums(Isa isa) const { return dot::splits(isa) && runs_ == 1 && groups4_ > 3 * kPiece * (8 / bits_); }

  int piece() const { return kPiece * (8 / bits_); }

  Buffer x_, y_, residual_, gate_buffer_;
  bool has_residual_, has_gate_, split_ = false;
  GateSource gate_{};
  int stride_h_, stride_w_, pad_top_, pad_left_;
  int in_group_, taps_per_run_, runs_, runs_per_row_, groups4_, bits_ = 8;
  int pixel_blocks_ = 1, panel_blocks_ = 1;
  std::vector<Panel> panels_;
  Aligned<std::uint8_t> weights_;
  Aligned<std::int32_t> bias_;
  Aligned<float> multiplier_;
  alignas(64) std::int8_t levels_[16];
  LayerEpilogue epilogue_;
  const pointwise::Kernel* pointwise_;
};

}  // namespace

StepPtr make_dot_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
                      const Buffer& y, const ValueDesc& out, const GateSource* gate, const Options& o) {
  if (n.groups > 1 && n.kernel_h * n.kernel_w > 64) {
    throw std::invalid_argument(n.name + ": grouped convolutions larger than 8 x 8 are not supported");
  }
  auto step = std::make_unique<DotStep>(n, x, residual, residual_value, y, out, gate, o);
  step->info.kernel = step->kernel_name();
  step->info.resident_weight_bits = step->resident_bits();
  return step;
}

}  // namespace subbyte
