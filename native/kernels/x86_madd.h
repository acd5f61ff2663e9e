// Products of 16-bit pairs for AVX2, shared by the families that multiply widened numbers.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/x86_avx2_epilogue.h"

namespace subbyte {
namespace {

using Group = const std::uint32_t __attribute__((may_alias, aligned(1)));

// acc0, acc1 += x * w0, x * w1, where x is one pair of 16-bit numbers in memory, broadcast. Inline assembly: left to
// itself, GCC loads all operands first and spills the sums.
SUBBYTE_INLINE void madd_broadcast(__m256i& acc0, __m256i& acc1, const void* x, __m256i w0, __m256i w1) {
  __m256i a, b;
  asm("vpbroadcastd %4, %2\n\t"
      "vpmaddwd %5, %2, %3\n\tvpmaddwd %6, %2, %2\n\t"
      "vpaddd %3, %0, %0\n\tvpaddd %2, %1, %1"
      : "+x"(acc0), "+x"(acc1), "=&x"(a), "=&x"(b)
      : "m"(*static_cast<Group*>(x)), "x"(w0), "x"(w1));
}

// acc += x * w, w: 16 numbers in memory. Inline assembly: GCC would add the products of an unrolled loop to each other
// first, and keep them in memory until then.
SUBBYTE_INLINE void madd(__m256i& acc, __m256i x, const void* w) {
  struct Numbers {
    std::int16_t n[16];
  } __attribute__((may_alias));
  __m256i product;
  asm("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
      : "+x"(acc), "=&x"(product)
      : "m"(*static_cast<const Numbers*>(w)), "x"(x));
}

}  // namespace
}  // namespace subbyte
