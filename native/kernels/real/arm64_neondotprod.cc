// float32 kernels, compiled for neondotprod.
#include "kernels/real/real.h"

#define NAME(x) real_neondotprod_##x
namespace subbyte::real {
constexpr int kRows = 6, kVectors = 4;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
