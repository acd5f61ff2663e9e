// float32 kernels, compiled for avxvnni.
#include "kernels/real/real.h"

#define NAME(x) real_avxvnni_##x
namespace subbyte::real {
#include "kernels/real/loops.inc"
}
