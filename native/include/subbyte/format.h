// How numbers are stored: the engine's part of subbyte/quant/format.py.
#pragma once

namespace subbyte {

enum class Kind { kInt, kUint, kFloat };  // signed codes (weights), unsigned ones (activations), IEEE 754 numbers

struct Format {
  Kind kind = Kind::kInt;
  int bits = 8;
  bool book = false;  // there is a code book: codes of weights index it, bytes of activations are its levels
  constexpr bool operator==(const Format&) const = default;
};

inline constexpr Format kInt8{Kind::kInt, 8}, kInt4{Kind::kInt, 4}, kInt3{Kind::kInt, 3}, kInt2{Kind::kInt, 2};
inline constexpr Format kUint8{Kind::kUint, 8}, kFp16{Kind::kFloat, 16}, kFp32{Kind::kFloat, 32};

}  // namespace subbyte
