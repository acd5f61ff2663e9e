// A step that is one function over rows or elements; halos and gates, which other steps use too.
#include <algorithm>
#include <cstring>

#include "ops/work.h"

namespace subbyte {

void fill_halo(const Context& c, const Buffer& b) {
  if (b.top + b.bottom + b.left + b.right == 0) return;
  const Range rows = share(b.top + b.height + b.bottom, c.thread, c.threads);
  for (int r = rows.begin; r < rows.end; ++r) {
    const int y = r - b.top;
    std::uint8_t* row = c.address(b, y, -b.left);
    if (y < 0 || y >= b.height) {
      std::memset(row, b.zero_point, static_cast<std::size_t>(b.row));
      continue;
    }
    std::memset(row, b.zero_point, static_cast<std::size_t>(b.left * b.pixel));
    std::memset(c.address(b, y, b.width), b.zero_point, static_cast<std::size_t>(b.right * b.pixel));
  }
}

void gate_factors(const elementwise::Kernel& kernel, const std::vector<float>& multiplier, int zero_gate,
                  const std::uint8_t* codes, std::int16_t* factors) {
  const int channels = static_cast<int>(multiplier.size());
  kernel.factors(codes, channels, zero_gate, multiplier.data(), factors);
  std::fill(factors + channels, factors + channels + 64, std::int16_t{0});
}

namespace {

class ElementwiseStep final : public Step {
 public:
  ElementwiseStep(Work work, Operands operands) : work_(work), o_(std::move(operands)) {}

  std::size_t scratch_bytes() const override {
    return 8 * static_cast<std::size_t>(o_.x[0].channels) + 256;
  }
  std::int64_t weight_bytes() const override {
    const NodeDesc& n = o_.node;
    return static_cast<std::int64_t>(4 * (n.multiplier.size() + n.weight_real.size() + n.bias_real.size()));
  }
  void run(const Context& c) const override {
    if (o_.y.quantized) fill_halo(c, o_.y);
    work_(o_, c, share(o_.y.height, c.thread, c.threads));
  }
  void run_rows(const Context& c, Range rows) const override {
    const Range mine = share(rows.end - rows.begin, c.thread, c.threads);
    work_(o_, c, {rows.begin + mine.begin, rows.begin + mine.end});
  }

 private:
  Work work_;
  Operands o_;
};

}  // namespace

StepPtr make_work_step(const Operation& op, Work work) {
  Operands o{{}, {}, *op.y, op.out, op.node, elementwise::find(op.options.isa), real::find(op.options.isa)};
  for (const Buffer* b : op.x) o.x.push_back(*b);
  for (const ValueDesc* v : op.in) o.in.push_back(*v);
  const char* name = op.in[0]->quantized || op.out.quantized ? o.codes->name : o.real->name;
  auto step = std::make_unique<ElementwiseStep>(work, std::move(o));
  step->info.kernel = name;
  return step;
}

}  // namespace subbyte
