// float32 kernels, compiled for neondotprod.
#include "kernels/real/real.h"

#define NAME(x) real_neondotprod_##x
namespace subbyte::real {
#include "kernels/real/loops.inc"
}
