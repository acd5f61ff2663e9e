// CPU detection and the peak that measurements are compared with.
#include "subbyte/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/dot/dot.h"
#include "kernels/real/real.h"
#include "subbyte/engine.h"

namespace subbyte {

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvxVnni: return "avxvnni";
    case Isa::kAvx512Vnni: return "avx512vnni";
    case Isa::kNeonDotprod: return "neondotprod";
    case Isa::kNeonI8mm: return "neoni8mm";
  }
  return "unknown";
}

#if defined(__x86_64__)
namespace {

// Implies that the operating system keeps ymm registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

// CPUID 7.1 EAX bit 4; GCC 12's __builtin_cpu_supports has no name for it.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 4)) != 0;
}

}  // namespace
#elif defined(__aarch64__)
namespace {

// Known when compiling (a baseline that has it), or from the kernel's capability words.
bool has_dotprod() {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP) & (1ul << 20)) != 0;  // HWCAP_ASIMDDP
#else
  return false;
#endif
}

bool has_i8mm() {
#if defined(__ARM_FEATURE_MATMUL_INT8)
  return true;
#elif defined(__linux__)
  return (getauxval(AT_HWCAP2) & (1ul << 13)) != 0;  // HWCAP2_I8MM
#else
  return false;
#endif
}

}  // namespace
#endif

bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::kAvx2) return has_avx2();
  if (isa == Isa::kAvxVnni) return has_avx2() && has_avx_vnni();
  if (isa == Isa::kAvx512Vnni) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  }
#elif defined(__aarch64__)
  if (isa == Isa::kNeonDotprod) return has_dotprod();
  if (isa == Isa::kNeonI8mm) return has_dotprod() && has_i8mm();
#endif
  return isa == Isa::kPortable;
}

Isa best_isa() {
  for (int i = kIsaCount - 1; i > 0; --i) {
    if (isa_supported(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  return Isa::kPortable;
}

namespace {

// Calls a second, the most of many batches.
template <typename Work>
double fastest(double seconds, const Work& work) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    constexpr int kRepeats = 100;
    const auto start = Clock::now();
    for (int i = 0; i < kRepeats; ++i) work();
    best = std::max(best, kRepeats / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

// A full tile whose operands stay in the first-level cache: K = 384, the widest panel.
double peak_dot_macs(Isa isa, double seconds) {
  constexpr int kGroups = 96, kMaxRows = dot::kMaxRows;
  const dot::Kernel* kernel = dot::find(isa, kInt8, 16 * dot::kMaxVectors);
  const int outputs = kernel->outputs;
  alignas(64) static thread_local std::uint8_t weights[kGroups * dot::kMaxVectors * 64];
  alignas(64) static thread_local std::uint8_t x[4 * kGroups + 64], y[kMaxRows][64];
  alignas(64) static thread_local std::int32_t bias[64];
  alignas(64) static thread_local float multiplier[64];
  const std::uint8_t* in[kMaxRows];
  std::uint8_t* out[kMaxRows];
  for (int r = 0; r < kMaxRows; ++r) in[r] = x, out[r] = y[r];
  const Epilogue epilogue;
  const dot::Tile tile{in, kMaxRows, 1, kGroups, weights, nullptr, bias, multiplier, out, nullptr, 0, outputs, &epilogue};
  return 4.0 * kGroups * outputs * kernel->max_rows * fastest(seconds, [&] { kernel->run(tile, kernel->max_rows); });
}

// The same for float32, K = 1024: weights come from the second-level cache, in order.
double peak_real_macs(Isa isa, double seconds) {
  constexpr int kTerms = 1024, kMost = 64;
  const real::Kernel* kernel = real::find(isa);
  const std::vector<float> weights(static_cast<std::size_t>(kTerms) * kernel->outputs), x(kTerms), bias(kMost);
  std::vector<float> y(kMost * kMost);
  const float* in[kMost];
  float* out[kMost];
  for (int r = 0; r < kMost; ++r) in[r] = x.data(), out[r] = y.data() + r * kMost;
  const real::Tile tile{in, kMost, 1, kTerms, weights.data(), bias.data(), kernel->outputs, kernel->outputs, out, nullptr, 0, {}};
  return 1.0 * kTerms * kernel->outputs * kernel->rows * fastest(seconds, [&] { kernel->conv(tile, kernel->rows); });
}

}  // namespace subbyte
