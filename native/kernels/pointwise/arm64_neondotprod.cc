// Pointwise kernels, compiled for neondotprod.
#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/pointwise/pointwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) pointwise_neondotprod_##x
namespace subbyte::pointwise {
#include "kernels/pointwise/arm64.inc"
}
