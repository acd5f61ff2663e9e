// The elementwise family's table and its look-up.
#include "kernels/elementwise/elementwise.h"

namespace subbyte::elementwise {

#define SUBBYTE_KERNEL(isa, prefix)                                                                              \
  void prefix##_quantize(const float*, int, int, float, float, float, std::int32_t, std::uint8_t*, std::ptrdiff_t); \
  void prefix##_dequantize(const std::uint8_t*, std::int64_t, std::int32_t, float, float*);                       \
  void prefix##_look_up(const std::uint8_t*, const std::uint8_t*, std::int64_t, std::uint8_t*);                   \
  void prefix##_add(const Add&, const std::uint8_t*, const std::uint8_t*, std::int64_t, std::uint8_t*);           \
  void prefix##_gate(const Gate&, const std::int16_t*, const std::uint8_t*, std::ptrdiff_t, int, int,             \
                     std::uint8_t*, std::ptrdiff_t);                                                             \
  void prefix##_prelu(const Prelu&, const float*, const std::uint8_t*, std::ptrdiff_t, int, int, std::uint8_t*,    \
                      std::ptrdiff_t);                                                                           \
  void prefix##_factors(const std::uint8_t*, int, std::int32_t, const float*, std::int16_t*);                      \
  void prefix##_average(const std::uint32_t*, int, std::int64_t, float, std::int32_t, std::int32_t, std::uint8_t*); \
  void prefix##_sum(const std::uint8_t*, std::ptrdiff_t, int, int, std::uint32_t*);                               \
  void prefix##_maximum(const std::uint8_t*, std::int64_t, std::uint8_t*);
#include "kernels/elementwise/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, prefix)                                                              \
  {Isa::isa,     prefix##_quantize, prefix##_dequantize, prefix##_look_up, prefix##_add, prefix##_gate, \
   prefix##_prelu, prefix##_factors, prefix##_sum, prefix##_average, prefix##_maximum, #prefix},
#include "kernels/elementwise/kernels.inc"
};
}  // namespace

#include "kernels/look_up.inc"

}  // namespace subbyte::elementwise
