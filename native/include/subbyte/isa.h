// Instruction sets that kernels are written for, and what this CPU has.
#pragma once

namespace subbyte {

// In order of preference: a later one is faster where it is supported.
enum class Isa { kPortable = 0, kAvx2 = 1, kAvxVnni = 2, kAvx512Vnni = 3, kNeonDotprod = 4, kNeonI8mm = 5 };
inline constexpr int kIsaCount = 6;

const char* isa_name(Isa isa);

// Whether this CPU and operating system can run kernels of `isa`.
bool isa_supported(Isa isa);

// The best supported one.
Isa best_isa();

}  // namespace subbyte
