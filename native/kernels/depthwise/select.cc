// The depthwise family's table and its look-up.
#include "kernels/depthwise/depthwise.h"

namespace subbyte::depthwise {

#define SUBBYTE_KERNEL(isa, prefix)              \
  std::size_t prefix##_bytes(const Shape&);      \
  void prefix##_pack(const Shape&, const Weights&, std::uint8_t*); \
  void prefix##_run(const Shape&, const std::uint8_t*, const Row&);
#include "kernels/depthwise/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, prefix) {Isa::isa, prefix##_bytes, prefix##_pack, prefix##_run, #prefix},
#include "kernels/depthwise/kernels.inc"
};
}  // namespace

#include "kernels/look_up.inc"

}  // namespace subbyte::depthwise
