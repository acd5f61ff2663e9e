// What a plan is made of: buffers in an arena and steps over kernel-table rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "exec/team.h"
#include "kernels/elementwise/elementwise.h"
#include "subbyte/engine.h"

namespace subbyte {

// 64-byte aligned memory for weights and arenas.
template <typename T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(std::size_t count);
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const;
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

// Where a value lies. Quantized values: one byte per element, `pixel` = channels rounded up to 4 (more where only
// depthwise layers read it), and a halo of zero-point codes as wide as the padding of the convolutions that read
// it. float32 values: dense.
struct Buffer {
  int height = 1, width = 1, channels = 1;
  int top = 0, bottom = 0, left = 0, right = 0;
  bool quantized = false;
  int zero_point = 0;
  std::ptrdiff_t element = 1;  // bytes
  std::ptrdiff_t pixel = 0, row = 0;  // bytes between neighbours, halo included
  std::size_t bytes = 0;              // with halo and slack
  std::ptrdiff_t offset = -1;         // in the arena; -1: the caller's input
  int lines = 0;                      // of a line buffer (a region's intermediate): rows kept, in turn; 0: all of them

  std::ptrdiff_t at(int y, int x) const {
    const int slot = lines == 0 ? y + top : (y + top) % lines;
    return offset + slot * row + (x + left) * pixel;
  }
  bool dense() const { return row == width * pixel && pixel == channels * element; }
};

// One run's memory and thread. `scratch` is per thread; `seconds`, on thread 0 and not always, takes the time of
// each row of the plan.
struct Context {
  std::uint8_t* arena;
  const float* input;
  std::uint8_t* scratch;
  int thread, threads;
  Team* team = nullptr;
  double* seconds = nullptr;

  std::uint8_t* address(const Buffer& b, int y, int x) const { return arena + b.at(y, x); }
  const float* real(const Buffer& b) const {
    return b.offset < 0 ? input : reinterpret_cast<const float*>(arena + b.offset);
  }
  float* real_out(const Buffer& b) const { return reinterpret_cast<float*>(arena + b.offset); }
  // Row y of a float32 value, which may be a line buffer.
  const float* real_row(const Buffer& b, int y) const {
    return real(b) + static_cast<std::int64_t>(b.lines == 0 ? y : y % b.lines) * b.width * b.channels;
  }
  float* real_row_out(const Buffer& b, int y) const { return const_cast<float*>(real_row(b, y)); }
};

struct Range {
  int begin, end;
};

// The share of `count` units that falls to `part` of `parts`.
inline Range share(int count, int part, int parts) {
  return {static_cast<int>(static_cast<std::int64_t>(count) * part / parts),
          static_cast<int>(static_cast<std::int64_t>(count) * (part + 1) / parts)};
}

// A piece of memory that will be read soon.
struct Span {
  const std::uint8_t* begin = nullptr;
  std::size_t size = 0;
};

// Fetches spans into the second-level cache, a slice at a time between pieces of other work: weights are read
// once per image, and the first touch of each would otherwise wait for memory.
class Prefetch {
 public:
  // All of `spans` will have been asked for after `slices` calls of next().
  Prefetch(const std::vector<Span>& spans, int slices) : spans_(spans) {
    std::size_t lines = 0;
    for (const Span& s : spans) lines += (s.size + 63) / 64;
    per_slice_ = slices > 0 ? (lines + static_cast<std::size_t>(slices) - 1) / static_cast<std::size_t>(slices) : 0;
  }

  void next() {
    for (std::size_t left = per_slice_; left > 0 && index_ < spans_.size();) {
      const Span& s = spans_[index_];
      for (; left > 0 && at_ < s.size; at_ += 64, --left) __builtin_prefetch(s.begin + at_, 0, 2);
      if (at_ >= s.size) at_ = 0, ++index_;
    }
  }

 private:
  const std::vector<Span>& spans_;
  std::size_t per_slice_, index_ = 0, at_ = 0;
};

class Step {
 public:
  virtual ~Step() = default;
  // Does thread `c.thread`'s share. Every thread of the team calls it; nobody waits inside.
  virtual void run(const Context& c) const = 0;
  // The same for some rows of its output only, without the halo; for steps whose node `works_by_rows`.
  virtual void run_rows(const Context&, Range) const {}
  virtual std::size_t scratch_bytes() const { return 0; }
  virtual std::int64_t weight_bytes() const { return 0; }
  // The weights that it reads first; empty where there are none.
  virtual Span first_weights() const { return {}; }
  // Whether it does enough work to hide the fetching of others' weights.
  virtual bool hides_prefetch() const { return false; }

  // Its rows of the plan: one, or one for each step of a region.
  virtual std::vector<StepInfo> infos() const { return {info}; }
  virtual std::size_t infos_count() const { return 1; }

  StepInfo info;
  std::vector<Span> ahead;  // first weights of the steps up to and including the next that hides_prefetch()
};

using StepPtr = std::unique_ptr<Step>;

// Builders, one per family. Buffers are those of the node's inputs and output.
struct GateSource {  // squeeze-and-excitation gate applied where a projection loads its operand
  const Buffer* gate;
  int zero_x, zero_gate, zero, high;
  const std::vector<float>* multiplier;  // [channels]: numerics.md, "mul", M[c]
};
StepPtr make_dot_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
                      const Buffer& y, const ValueDesc& out, const GateSource* gate, const Options& o);
// Whether a quantized convolution without a gate is made by Winograd's way (kernels/winograd) on this ISA.
bool uses_winograd(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y, Isa isa);
StepPtr make_winograd_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const ValueDesc* residual_value,
                           const Buffer& y, const ValueDesc& out, Isa isa);
StepPtr make_depthwise_step(const NodeDesc& n, const Buffer& x, const Buffer& y, const ValueDesc& out, Isa isa);
// The same question for float32 convolutions (kernels/real): on every ISA.
bool uses_real_winograd(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y);
StepPtr make_real_winograd_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa);
StepPtr make_real_conv_step(const NodeDesc& n, const Buffer& x, const Buffer* residual, const Buffer& y, Isa isa);

// A region: steps that are executed one row tile of the last one's output after the other, so that what passes between
// them is a line buffer in the cache and not a tensor in memory (Alwani et al., "Fused-layer CNN accelerators", 2016).
struct RegionStep {
  StepPtr step;
  Buffer y;                 // its output
  std::vector<Range> rows;  // per row tile: the output rows to make, halo rows (before 0, from height on) included
};
StepPtr make_region(std::vector<RegionStep> steps);

// The rows of a window operation's input that output rows need; may reach into the padding. Both are numbers: no row
// lies further than plan/regions.cc's kFarthest above the map, and no stride is larger than 65536 (plan/check.cc).
inline Range window_rows(Range out, int stride, int kernel, int pad_top) {
  const std::int64_t first = std::int64_t{out.begin} * stride - pad_top;
  const std::int64_t last = (std::int64_t{out.end} - 1) * stride - pad_top;
  return {static_cast<int>(first), static_cast<int>(last + kernel)};
}

// Writes the zero point around a quantized buffer: this thread's share of its rows.
void fill_halo(const Context& c, const Buffer& b);

// Gate codes to the Q15 factors of numerics.md, "mul", with multipliers M[c]; 64 entries past the end become 0.
void gate_factors(const elementwise::Kernel& kernel, const std::vector<float>& multiplier, int zero_gate,
                  const std::uint8_t* codes, std::int16_t* factors);

}  // namespace subbyte
