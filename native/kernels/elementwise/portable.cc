// Elementwise kernels, plain C++.
#include "kernels/elementwise/elementwise.h"
#include "kernels/portable_epilogue.h"

#define NAME(x) elementwise_portable_##x
namespace subbyte::elementwise {
#include "kernels/elementwise/loops.inc"
}
