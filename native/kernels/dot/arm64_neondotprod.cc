// ARMv8.2 dot product: sdot multiplies s8 by s8. Activations are moved to -128 .. 127 by flipping their top bit, and
// 128 times the sum of the weights makes up for it.
#include "kernels/dot/arm64_tile.h"

namespace subbyte::dot {
namespace {

struct Signed {
  using Operand = int8x16_t;
  static constexpr int kOffset = 128;
  static SUBBYTE_INLINE Operand operand(uint8x16_t x) {
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(0x80)));
  }
  template <int kLane>
  static SUBBYTE_INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, Operand x) {
    return vdotq_laneq_s32(acc, w, x, kLane);
  }
};

}  // namespace

#define SUBBYTE_ONLY_NEONDOTPROD
#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) \
  void function(const Tile& t, int r) { run<Signed, bits>(t, vectors, r); }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
