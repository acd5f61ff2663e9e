// Elementwise kernels for AVX-VNNI.
#include <immintrin.h>

#include "kernels/elementwise/elementwise.h"
#include "kernels/portable_epilogue.h"
#include "kernels/x86_avx2_epilogue.h"

#define NAME(x) elementwise_avxvnni_##x
namespace subbyte::elementwise {
#include "kernels/elementwise/x86_256.inc"
}
