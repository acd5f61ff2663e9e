// float32 kernels, compiled for neoni8mm.
#include "kernels/real/real.h"

#define NAME(x) real_neoni8mm_##x
namespace subbyte::real {
constexpr int kRows = 6, kVectors = 4;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
