// subbyte_kernel_bench [TEXT] [SECONDS]: the speed of every row of the kernel tables whose name holds TEXT, one thread,
// SECONDS (0.05) for each measurement.
#include <cstdlib>

#include "kernels/bench.h"

int main(int argc, char** argv) {
  subbyte::bench::Report report(argc > 1 ? argv[1] : "", argc > 2 ? std::atof(argv[2]) : 0.05);
#define SUBBYTE_FAMILY(name) subbyte::bench::bench_##name(report);
#include "kernels/families.inc"
}
