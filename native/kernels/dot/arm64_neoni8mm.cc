// ARMv8.6 int8 matrix multiplication extension: sudot multiplies s8 weights by u8 activations as they are.
#include "kernels/dot/arm64_tile.h"

namespace subbyte::dot {
namespace {

struct Mixed {
  using Operand = uint8x16_t;
  static constexpr int kOffset = 0;
  static SUBBYTE_INLINE Operand operand(uint8x16_t x) { return x; }
  template <int kLane>
  static SUBBYTE_INLINE int32x4_t dot(int32x4_t acc, int8x16_t w, Operand x) {
    return vsudotq_laneq_s32(acc, w, x, kLane);
  }
};

}  // namespace

#define SUBBYTE_ONLY_NEONI8MM
#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) \
  void function(const Tile& t, int r) { run<Mixed, bits>(t, vectors, r); }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
