// float32 kernels, compiled for avx512vnni.
#include "kernels/real/real.h"

#define NAME(x) real_avx512vnni_##x
namespace subbyte::real {
#include "kernels/real/loops.inc"
}
