// What a quantized convolution does with its sums, from its description; owns the activation's table.
#pragma once

#include <algorithm>

#include "exec/step.h"
#include "kernels/epilogue.h"

namespace subbyte {

class LayerEpilogue {
 public:
  // residual: the grid of what is added, if anything is.
  LayerEpilogue(const NodeDesc& n, const ValueDesc& out, const ValueDesc* residual) {
    values_.zero = n.has_table ? n.pre_zero : out.zero_point;
    values_.low = n.clamp_low, values_.high = n.clamp_high;
    if (!out.quantized) {
      values_.finish = Finish::kReal;
    } else if (n.has_table) {
      values_.finish = Finish::kTable;
      table_ = Aligned<std::uint8_t>(256);
      std::copy(n.table.begin(), n.table.end(), table_.data());
      values_.table = table_.data();
    } else if (residual) {
      values_.finish = Finish::kResidual;
      values_.residual_zero = residual->zero_point;
      values_.residual_factor = n.factor_a;
    }
  }

  const Epilogue& values() const { return values_; }
  std::size_t bytes() const { return table_.size(); }

 private:
  Epilogue values_;
  Aligned<std::uint8_t> table_;
};

}  // namespace subbyte
