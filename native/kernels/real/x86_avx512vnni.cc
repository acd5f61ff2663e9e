// float32 kernels, compiled for avx512vnni.
#include <immintrin.h>

#include "kernels/real/real.h"

#define NAME(x) real_avx512vnni_##x
namespace subbyte::real {
constexpr int kRows = 10, kVectors = 2;  // as in kernels.inc
#include "kernels/real/loops.inc"
#include "kernels/real/winograd.inc"
}
