// Depthwise convolution by usdot: activations as they are.
#include "kernels/depthwise/arm64_rows.h"

namespace subbyte::depthwise {
namespace {

struct Mixed {
  using Operand = uint8x16_t;
  static constexpr int kOffset = 0;
  static SUBBYTE_INLINE Operand operand(uint8x16_t x) { return x; }
  static SUBBYTE_INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, Operand x) { return vusdotq_s32(acc, x, w); }
};

}  // namespace

std::size_t depthwise_u8s8_neoni8mm_bytes(const Shape& s) { return packed_bytes(s); }

void depthwise_u8s8_neoni8mm_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  pack(s, w, Mixed::kOffset, packed);
}

void depthwise_u8s8_neoni8mm_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  run<Mixed>(s, packed, row);
}

}  // namespace subbyte::depthwise
