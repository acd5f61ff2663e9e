// float32 kernels, compiled for avxvnni.
#include "kernels/real/real.h"

#define NAME(x) real_avxvnni_##x
namespace subbyte::real {
constexpr int kRows = 6, kVectors = 2;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
