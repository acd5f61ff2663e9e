// float32 kernels, compiled for portable.
#include "kernels/real/real.h"

#define NAME(x) real_portable_##x
namespace subbyte::real {
constexpr int kRows = 4, kVectors = 2;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
