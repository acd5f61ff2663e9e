// The Winograd family's table and its look-up.
#include "kernels/winograd/winograd.h"

namespace subbyte::winograd {

#define SUBBYTE_KERNEL(isa, traits, prefix)                                 \
  std::size_t prefix##_bytes(const Shape&);                         \
  void prefix##_pack(const Shape&, const Weights&, std::uint8_t*);  \
  std::size_t prefix##_scratch(const Shape&);                       \
  void prefix##_run(const Shape&, const std::uint8_t*, const Strip&);
#include "kernels/winograd/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, traits, prefix) \
  {Isa::isa, traits, prefix##_bytes, prefix##_pack, prefix##_scratch, prefix##_run, #prefix},
#include "kernels/winograd/kernels.inc"
};
}  // namespace

#include "kernels/look_up.inc"

const Kernel* select(Isa isa, const Shape& s, int pixels) {
  const Kernel* kernel = find(isa);
  const bool large = s.channels >= 8 && s.outputs >= 8 && s.channels <= kMaxChannels && pixels >= 16;
  return kernel && large && (kernel->traits & kFaster) != 0 ? kernel : nullptr;
}

}  // namespace subbyte::winograd
