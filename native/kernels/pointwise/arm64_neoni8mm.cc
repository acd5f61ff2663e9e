// Pointwise kernels, compiled for neoni8mm.
#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/pointwise/pointwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) pointwise_neoni8mm_##x
namespace subbyte::pointwise {
#include "kernels/pointwise/arm64.inc"
}
