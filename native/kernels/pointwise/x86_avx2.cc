// Pointwise kernels for AVX2.
#include <immintrin.h>

#include "kernels/pointwise/pointwise.h"
#include "kernels/portable_epilogue.h"
#include "kernels/x86_avx2_epilogue.h"

#define NAME(x) pointwise_avx2_##x
namespace subbyte::pointwise {
#include "kernels/pointwise/x86_256.inc"
}
