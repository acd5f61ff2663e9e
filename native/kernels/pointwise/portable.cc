// Pointwise kernels, plain C++.
#include "kernels/pointwise/pointwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) pointwise_portable_##x
namespace subbyte::pointwise {
#include "kernels/pointwise/loops.inc"
}
