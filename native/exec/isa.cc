// CPU detection and the peak that measurements are compared with.
#include "subbyte/isa.h"

#include <chrono>
#include <cstdint>

#include "kernels/dot/dot.h"
#include "subbyte/engine.h"

namespace subbyte {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512Vnni: return "avx512vnni";
  }
  return "unknown";
}

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::kAvx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == Isa::kAvx512Vnni) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  }
#endif
  return isa == Isa::kPortable;
}

Isa best_isa() {
  for (int i = kIsaCount - 1; i > 0; --i) {
    if (isa_supported(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::kPortable;
}

// A full tile whose operands stay in the first-level cache: K = 384, the widest panel.
double peak_dot_macs(Isa isa, double seconds) {
  constexpr int kGroups = 96, kMaxRows = 12;
  const dot::Kernel* kernel = dot::find(isa, 8, dot::kMaxVectors);
  const int outputs = 16 * kernel->vectors;
  alignas(64) static thread_local std::uint8_t weights[kGroups * dot::kMaxVectors * 64];
  alignas(64) static thread_local std::uint8_t x[4 * kGroups + 64], y[kMaxRows][64];
  alignas(64) static thread_local std::int32_t bias[64];
  alignas(64) static thread_local float multiplier[64];
  const std::uint8_t* in[kMaxRows];
  std::uint8_t* out[kMaxRows];
  for (int r = 0; r < kMaxRows; ++r) in[r] = x, out[r] = y[r];
  const Epilogue epilogue;
  const dot::Tile tile{in, kMaxRows, 1, kGroups, weights, nullptr, bias, multiplier, out, nullptr, 0, outputs, &epilogue};
  using Clock = std::chrono::steady_clock;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    constexpr int kRepeats = 2000;
    const auto start = Clock::now();
    for (int i = 0; i < kRepeats; ++i) kernel->run(tile, kernel->max_rows);
    const double t = std::chrono::duration<double>(Clock::now() - start).count();
    const double rate = 4.0 * kGroups * outputs * kernel->max_rows * kRepeats / t;
    best = rate > best ? rate : best;
  }
  return best;
}

}  // namespace subbyte
