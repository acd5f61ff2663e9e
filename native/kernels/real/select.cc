// The float32 family's table and its look-up.
#include "kernels/real/real.h"

namespace subbyte::real {

#define SUBBYTE_KERNEL(isa, prefix, outputs, rows)                          \
  void prefix##_conv(const Tile&, int);                                     \
  void prefix##_depthwise(const Depthwise&, int);                           \
  void prefix##_spread(const float* const*, int, float*, std::ptrdiff_t);   \
  void prefix##_collect(const Square&);                                     \
  void prefix##_activate(const Activation&, const float*, std::int64_t, float*); \
  void prefix##_add(const float*, const float*, std::int64_t, float*);      \
  void prefix##_gate(const float*, const float*, int, int, float*);         \
  void prefix##_sum(const float*, int, int, double*);                       \
  void prefix##_maximum(const float*, std::int64_t, float*);
#include "kernels/real/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, prefix, outputs, rows)                                              \
  {Isa::isa,         outputs,      rows,          prefix##_conv, prefix##_depthwise, prefix##_spread, prefix##_collect, \
   prefix##_activate, prefix##_add, prefix##_gate, prefix##_sum,  prefix##_maximum,   #prefix},
#include "kernels/real/kernels.inc"
};
}  // namespace

#include "kernels/look_up.inc"

}  // namespace subbyte::real
