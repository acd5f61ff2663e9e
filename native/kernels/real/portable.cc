// float32 kernels, compiled for portable.
#include "kernels/real/real.h"

#define NAME(x) real_portable_##x
namespace subbyte::real {
#include "kernels/real/loops.inc"
}
