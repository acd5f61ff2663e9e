// Depthwise convolution by sdot: activations moved to -128 .. 127.
#include "kernels/depthwise/arm64_rows.h"

namespace subbyte::depthwise {
namespace {

struct Signed {
  using Operand = int8x16_t;
  static constexpr int kOffset = 128;
  static SUBBYTE_INLINE Operand operand(uint8x16_t x) {
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80)));
  }
  static SUBBYTE_INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, Operand x) { return vdotq_s32(acc, w, x); }
};

}  // namespace

std::size_t depthwise_u8s8_neondotprod_bytes(const Shape& s) { return packed_bytes(s); }

void depthwise_u8s8_neondotprod_pack(const Shape& s, const Weights& w, std::uint8_t* packed) {
  pack(s, w, Signed::kOffset, packed);
}

void depthwise_u8s8_neondotprod_run(const Shape& s, const std::uint8_t* packed, const Row& row) {
  run<Signed>(s, packed, row);
}

}  // namespace subbyte::depthwise
