// float32 kernels, compiled for avx2.
#include "kernels/real/real.h"

#define NAME(x) real_avx2_##x
namespace subbyte::real {
#include "kernels/real/loops.inc"
}
