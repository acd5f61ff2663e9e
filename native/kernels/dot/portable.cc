// The dot kernels in plain C++.
#include "kernels/dot/dot.h"
#include "kernels/portable_epilogue.h"

namespace subbyte::dot {
namespace {

// Adds x * weights of one group of 4 inputs to the 16 * vectors accumulators of a row. Unsigned, since
// intermediate sums may wrap; the final one fits (the artifact's verifier proves it).
template <int kBits, int kVectors>
void accumulate(std::uint32_t* acc, const std::uint8_t* x, const std::uint8_t* packed, int j,
                const std::int8_t* levels) {
  constexpr unsigned kMask = (1u << kBits) - 1;
  for (int o = 0; o < 16 * kVectors; ++o) {
    std::uint32_t sum = 0;
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t byte = packed[4 * o + i];
      const std::int32_t w = kBits == 8 ? static_cast<std::int8_t>(byte) : levels[(byte >> (kBits * j)) & kMask];
      sum += static_cast<std::uint32_t>(w * x[i]);
    }
    acc[o] += sum;
  }
}

template <int kBits, int kVectors, bool kSparse>
void run(const Tile& t, int rows) {
  constexpr int kPack = 8 / kBits;
  for (int r = 0; r < rows; ++r) {
    std::uint32_t acc[16 * kVectors];
    for (int o = 0; o < 16 * kVectors; ++o) acc[o] = static_cast<std::uint32_t>(t.bias[o]);
    const std::uint8_t* w = t.weights;
    const std::int32_t* kept = t.kept;
    for (int run = 0; run < t.runs; ++run) {
      const std::uint8_t* x = t.in[run * t.in_stride + r];
      if (kSparse) {
        int count = 0;
        for (; *kept >= 0; ++kept, ++count) {
          accumulate<kBits, kVectors>(acc, x + *kept, w, count % kPack, t.levels);
          if (count % kPack == kPack - 1 || kept[1] < 0) w += 64 * kVectors;
        }
        ++kept;
        continue;
      }
      for (int g = 0; g < t.groups; ++g) {
        accumulate<kBits, kVectors>(acc, x + 4 * g, w, g % kPack, t.levels);
        if (g % kPack == kPack - 1 || g == t.groups - 1) w += 64 * kVectors;
      }
    }
    const std::uint8_t* residual = t.residual ? t.residual[r] : nullptr;
    for (int o = 0; o < t.channels; ++o) {
      finish_one(*t.epilogue, static_cast<std::int32_t>(acc[o]), t.multiplier[o], t.out[r], residual, t.offset + o);
    }
  }
}

}  // namespace

#define SUBBYTE_ONLY_PORTABLE
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { run<format.bits, outputs / 16, ((traits) & kSkips) != 0>(t, r); }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
