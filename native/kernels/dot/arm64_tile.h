// What the dot kernels for 64-bit ARM share: a tall tile's sums in memory, narrow weights to int8, sums to stored
// outputs.
#pragma once

#include <arm_neon.h>

#include "kernels/arm64_epilogue.h"
#include "kernels/dot/dot.h"
#include "kernels/dot/slices.h"

namespace subbyte::dot {
namespace {

#define NOINLINE __attribute__((noinline, noclone))

constexpr int kTileRows = 48;

using Sums = std::int32_t[kMaxVectors][kTileRows][16];

inline void start_sums(const Tile& t, int vectors, int rows, Sums& sums) {
  for (int v = 0; v < vectors; ++v) {
    for (int r = 0; r < rows; ++r) __builtin_memcpy(sums[v][r], t.bias + 16 * v, sizeof(sums[v][r]));
  }
}

// Packed weights of `groups` groups of 16 outputs, `stride` bytes between packs; a partly used pack is decoded whole.
template <int kBits>
void decode(std::int8_t (*out)[64], const std::uint8_t* packed, std::ptrdiff_t stride, const std::int8_t* book,
            int groups) {
  const int8x16_t levels = vld1q_s8(book);
  const uint8x16_t mask = vdupq_n_u8((1 << kBits) - 1);
  for (int g = 0; g < groups; g += groups_per_pack(kBits), packed += stride) {
    for (int q = 0; q < 4; ++q) {
      uint8x16_t codes = vld1q_u8(packed + 16 * q);
      for (int j = 0; j < groups_per_pack(kBits); ++j) {
        vst1q_s8(out[g + j] + 16 * q, vqtbl1q_s8(levels, vandq_u8(codes, mask)));
        codes = vshrq_n_u8(codes, kBits);
      }
    }
  }
}

template <Finish kFinish>
NOINLINE void finish_as(const Tile& t, int vectors, int rows, const Sums& sums) {
  const Epilogue& e = *t.epilogue;
  Table table{};
  if constexpr (kFinish == Finish::kTable) table = load_table(e.table);
  for (int v = 0; v < vectors && 16 * v < t.channels; ++v) {
    const int left = t.channels - 16 * v, channels = left < 16 ? left : 16;
    for (int r = 0; r < rows; ++r) {
      const std::int32_t* p = sums[v][r];
      const int32x4_t sum[4] = {vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)};
      const std::uint8_t* residual = kFinish == Finish::kResidual ? t.residual[r] : nullptr;
      finish16<kFinish>(e, table, sum, t.multiplier + 16 * v, t.out[r], residual, t.offset + 16 * v, channels);
    }
  }
}

inline void finish_tile(const Tile& t, int vectors, int rows, const Sums& sums) {
  switch (t.epilogue->finish) {
    case Finish::kClamp: return finish_as<Finish::kClamp>(t, vectors, rows, sums);
    case Finish::kTable: return finish_as<Finish::kTable>(t, vectors, rows, sums);
    case Finish::kResidual: return finish_as<Finish::kResidual>(t, vectors, rows, sums);
    case Finish::kReal: return finish_as<Finish::kReal>(t, vectors, rows, sums);
  }
}

}  // namespace
}  // namespace subbyte::dot
