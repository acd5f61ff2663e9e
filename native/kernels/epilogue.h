// What a convolution does with its accumulators: docs/spec/numerics.md, "conv2d, linear".
#pragma once

#include <cstdint>

namespace subbyte {

enum class Finish : int {
  kClamp = 0,     // codes = clamp(rne(acc * m) + zero, low, high)
  kTable = 1,     // codes = table[clamp(rne(acc * m) + zero, 0, 255)]
  kResidual = 2,  // codes = clamp(rne(acc * m + (r - residual_zero) * residual_factor) + zero, low, high)
  kReal = 3,      // float32 = acc * m
};

struct Epilogue {
  Finish finish = Finish::kClamp;
  std::int32_t zero = 0;  // of the output grid, or of the pre-activation grid
  std::int32_t low = 0, high = 255;
  const std::uint8_t* table = nullptr;  // [256], 64-byte aligned
  std::int32_t residual_zero = 0;
  float residual_factor = 0;
};

}  // namespace subbyte
