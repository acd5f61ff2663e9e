// The dot family's table and its look-up.
#include "kernels/dot/dot.h"

namespace subbyte::dot {

#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) void function(const Tile&, int);
#define SUBBYTE_NARROW_KERNEL(isa, bits, rows, function) void function(const Tile&, int);
#include "kernels/dot/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, bits, vectors, rows, function) {Isa::isa, bits, vectors, rows, function, #function},
#define SUBBYTE_NARROW_KERNEL(isa, bits, rows, function) {Isa::isa, bits, 2, rows, function, #function, true},
#include "kernels/dot/kernels.inc"
};
}  // namespace

const Kernel* table() { return kTable; }
int table_size() { return static_cast<int>(sizeof(kTable) / sizeof(kTable[0])); }

const Kernel* find(Isa isa, int bits, int vectors) {
  for (const Kernel& k : kTable) {
    if (k.isa == isa && k.bits == bits && k.vectors == vectors && !k.narrow) return &k;
  }
  return nullptr;
}

const Kernel* find_narrow(Isa isa, int bits) {
  for (const Kernel& k : kTable) {
    if (k.isa == isa && k.bits == bits && k.narrow) return &k;
  }
  return nullptr;
}

}  // namespace subbyte::dot
