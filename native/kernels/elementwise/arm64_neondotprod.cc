// Elementwise kernels, compiled for neondotprod.
#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) elementwise_neondotprod_##x
namespace subbyte::elementwise {
#include "kernels/elementwise/arm64.inc"
}
