// float32 kernels, compiled for avx2.
#include "kernels/real/real.h"

#define NAME(x) real_avx2_##x
namespace subbyte::real {
constexpr int kRows = 6, kVectors = 2;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
