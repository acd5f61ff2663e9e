// One accumulator to one stored output, in plain C++: the readable form of numerics.md, and the tail
// path of the vector kernels. Included by files of several instruction sets, so everything is local to
// the including file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"

namespace subbyte {
namespace {

// Round half to even under the default rounding mode.
inline std::int32_t round_even(float v) { return static_cast<std::int32_t>(__builtin_rintf(v)); }

inline std::int32_t clamp(std::int32_t v, std::int32_t low, std::int32_t high) {
  return v < low ? low : v > high ? high : v;
}

// `scaled` is fl(fl(acc) * m); `residual` is read for Finish::kResidual only.
inline std::uint8_t finish_code(const Epilogue& e, float scaled, const std::uint8_t* residual) {
  if (e.finish == Finish::kTable) return e.table[clamp(round_even(scaled) + e.zero, 0, 255)];
  if (e.finish == Finish::kResidual) {
    const float r = static_cast<float>(*residual - e.residual_zero) * e.residual_factor;
    scaled = scaled + r;
  }
  return static_cast<std::uint8_t>(clamp(round_even(scaled) + e.zero, e.low, e.high));
}

// Output `channel` (from `offset`) of one pixel.
inline void finish_one(const Epilogue& e, std::int32_t acc, float multiplier, std::uint8_t* out,
                       const std::uint8_t* residual, std::ptrdiff_t at) {
  const float scaled = static_cast<float>(acc) * multiplier;
  if (e.finish == Finish::kReal) {
    reinterpret_cast<float*>(out)[at] = scaled;
  } else {
    out[at] = finish_code(e, scaled, e.finish == Finish::kResidual ? residual + at : nullptr);
  }
}

}  // namespace
}  // namespace subbyte
