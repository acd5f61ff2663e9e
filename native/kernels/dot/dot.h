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
// A kernel that skips (kSkips) finds only the groups that are kept, in the same packing, one run after the other; `kept`
// says where each of them begins in its run: in bytes, upwards, with -1 behind the last one of every run. What is not
// kept costs nothing. A pack holds groups of one run, as above.
//
// A kernel of 24 outputs takes panels of two vectors with 17 to 24 outputs: the upper half of the second vector repeats
// its lower half (weights, biases and multipliers alike), and serves the second of two pixels.
//
// A kernel may read up to 3 bytes past a run's last group and 64 past a residual; it writes exactly
// `channels` outputs per pixel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/epilogue.h"
#include "subbyte/format.h"
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

  const std::int32_t* kept = nullptr;  // kSkips
  int chain = 0;                       // kChains: chain_length of the weights, or less

  // Long sums in pieces (one run only; kSplits): `skip` bytes of the run come before `weights`' first pack,
  // `resume` holds the accumulators that an earlier piece left (null: start from the bias), and `suspend`, if not
  // null, takes them instead of the epilogue. [rows][16 * vectors] each, 64-byte aligned.
  std::ptrdiff_t skip = 0;
  const std::int32_t* resume = nullptr;
  std::int32_t* suspend = nullptr;

  // Memory to fetch into the second-level cache meanwhile (kFetches).
  const std::uint8_t* ahead = nullptr;
  std::size_t ahead_bytes = 0;
};

inline void fetch(const std::uint8_t* p, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i, 0, 2);
}
// What to fetch with each of `parts`, in whole cache lines.
constexpr std::size_t fetch_slice(std::size_t bytes, int parts) {
  return (bytes / static_cast<std::size_t>(parts) + 63) / 64 * 64;
}

using Function = void (*)(const Tile& tile, int rows);

// Of all runs: fewer do not pay for small tiles.
inline constexpr int kLongEnough = 16;

enum Trait : unsigned {
  kPlain = 0,
  kSplits = 1,      // honours skip, resume and suspend
  kFetches = 2,     // fetches what lies `ahead`
  kSmallTiles = 4,  // 2 and 3 vectors in small tiles that finish each other, for sums of kLongEnough groups or more: then
                    // panels of 2 are the better ones. Decoding narrow weights for few rows eats up the gain.
  kSkips = 8,       // multiplies by what is kept of sparse weights; any other kernel by all of them
  kLoads = 16,      // skips, and loads single groups where the dense kernels of its instruction set load several at once
  kParts = 32,      // skips, and takes groups apart for every panel, where the dense kernels do so once for all of theirs
  kDecodes = 64,    // skips, and decodes narrow weights anew for every few pixels
  kChains = 128,    // sums products in 16 bits for as many groups as the weights allow
};

struct Kernel {
  Isa isa;
  Format weights;  // codes narrower than 8 bits are read through `levels`, with a code book or without
  int outputs;     // of a panel at most: 16 for each of its vectors, or 24
  int max_rows;    // rows may be 1 .. max_rows
  unsigned traits;
  Function run;
  const char* name;
  constexpr int vectors() const { return (outputs + 15) / 16; }
  constexpr bool has(unsigned wanted) const { return (traits & wanted) == wanted; }
};

// The row with the smallest panels that hold so many outputs and have the traits, or null; never null for kInt8, kInt4,
// kInt2, 1 .. 64 outputs and kPlain. Rows that skip are only found with kSkips.
const Kernel* find(Isa isa, Format weights, int outputs, unsigned traits = kPlain);
const Kernel* table();
int table_size();

// Bytes of a packed panel.
constexpr int groups_per_pack(int bits) { return 8 / bits; }
constexpr std::size_t panel_bytes(int runs, int groups, int vectors, Format weights) {
  const int pack = groups_per_pack(weights.bits);
  return static_cast<std::size_t>(runs) * ((groups + pack - 1) / pack) * vectors * 64;
}

// How many groups in turn, up to kMostChained, a packed panel's weights are so small that, whatever the activations, the
// products of the first two inputs of the groups, and those of the last two, sum up in 16 bits for every output. 0 if not
// even two. `levels` as in Tile.
inline constexpr int kMostChained = 32;
int chain_length(const std::uint8_t* packed, int runs, int groups, int vectors, Format weights, const std::int8_t* levels);

}  // namespace subbyte::dot
