// Dense convolution and matrix product as dot products of u8 activations with s8 weights.
//
// A tile is `rows` output pixels x `16 * vectors` output channels. For each output pixel the operand
// is `runs` contiguous runs of `groups` 4-byte groups: a k x k convolution over NHWC reads k runs
// of k * C bytes (a row of taps is contiguous), a 1 x 1 one reads one run of C bytes. Nothing is copied.
//
// Packed weights of a panel (16 * vectors output channels):
//   [run][pack][vector][64 bytes], byte 4*o + i of a vector = output o of 16, input i of the group of 4.
// At 8 bits a pack is one group and the byte is the weight. At 4 (2) bits a pack is 2 (4) groups: bits
// b*j .. b*j+b-1 of the byte are the code of group j; a run whose group count is not a multiple ends in
// a partly used pack. Codes index `levels`, 16 int8 entries (the code book, repeated to fill 16).
//
// A narrow kernel takes panels of two vectors with 17 to 24 outputs: the upper half of the second vector repeats its
// lower half (weights, biases and multipliers alike), and serves the second of two pixels.
//
// A kernel may read up to 3 bytes past a run's last group and 64 past a residual; it writes exactly
// `channels` outputs per pixel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"
#include "subbyte/isa.h"

namespace subbyte::dot {

inline constexpr int kMaxVectors = 4;
inline constexpr int kMaxRows = 104;  // of any kernel

struct Tile {
  const std::uint8_t* const* in;  // in[run * in_stride + row]
  std::ptrdiff_t in_stride;
  int runs, groups;
  const std::uint8_t* weights;
  const std::int8_t* levels;      // [16], 64-byte aligned; 4- and 2-bit weights only
  const std::int32_t* bias;       // [16 * vectors]
  const float* multiplier;        // [16 * vectors]
  std::uint8_t* const* out;       // out[row] + offset: first output byte (float32 for Finish::kReal)
  const std::uint8_t* const* residual;  // residual[row] + offset
  std::ptrdiff_t offset;          // in elements of the output
  int channels;                   // valid outputs, 1 .. 16 * vectors
  const Epilogue* epilogue;

  // Long sums in pieces (one run only; see `splits`): `skip` bytes of the run come before `weights`' first pack,
  // `resume` holds the accumulators that an earlier piece left (null: start from the bias), and `suspend`, if not
  // null, takes them instead of the epilogue. [rows][16 * vectors] each, 64-byte aligned.
  std::ptrdiff_t skip = 0;
  const std::int32_t* resume = nullptr;
  std::int32_t* suspend = nullptr;

  // Memory to fetch into the second-level cache meanwhile (see `fetches`).
  const std::uint8_t* ahead = nullptr;
  std::size_t ahead_bytes = 0;
};

// Whether the kernels of an instruction set honour skip, resume and suspend.
constexpr bool splits(Isa isa) { return isa == Isa::kAvx512Vnni; }

// Whether the kernels of an instruction set fetch what lies `ahead`, except narrow ones.
constexpr bool fetches(Isa isa) { return isa == Isa::kAvx512Vnni; }
inline void fetch(const std::uint8_t* p, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}
// What to fetch with each of `parts`, in whole cache lines.
constexpr std::size_t fetch_slice(std::size_t bytes, int parts) {
  return (bytes / static_cast<std::size_t>(parts) + 63) / 64 * 64;
}

// Whether the kernels of 2 and 3 vectors work in small tiles that finish each other, if sums are `kLongEnough` groups
// of all runs or more: then panels of 2 are the better ones. Decoding narrow weights for few rows eats up the gain.
inline constexpr int kLongEnough = 16;
constexpr bool small_tiles(Isa isa, int bits) { return isa == Isa::kAvx512Vnni && bits == 8; }

using Function = void (*)(const Tile& tile, int rows);

struct Kernel {
  Isa isa;
  int bits, vectors;
  int max_rows;  // rows may be 1 .. max_rows
  Function run;
  const char* name;
  bool narrow = false;
};

// The row of the table for this ISA; never null for bits 8, 4, 2 and vectors 1 .. 4.
const Kernel* find(Isa isa, int bits, int vectors);
// The row for 24 outputs, or null: not every instruction set has one. It does not honour skip, resume and suspend.
const Kernel* find_narrow(Isa isa, int bits);
const Kernel* table();
int table_size();

// Bytes of a packed panel, and the packing itself. `value(o, run, k)` is the code (int8 at 8 bits) of
// output o of the panel at byte k of the run; 0 is written where o >= channels or k >= run_bytes.
constexpr int groups_per_pack(int bits) { return 8 / bits; }
constexpr std::size_t panel_bytes(int runs, int groups, int vectors, int bits) {
  return static_cast<std::size_t>(runs) * ((groups + groups_per_pack(bits) - 1) / groups_per_pack(bits)) *
         vectors * 64;
}

}  // namespace subbyte::dot
