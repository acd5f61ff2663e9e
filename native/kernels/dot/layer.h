// From a convolution to the panels that dot kernels work on: select.cc chooses their kernels, pack.cc fills them.
#pragma once

#include <vector>

#include "kernels/dot/dot.h"
#include "kernels/weights.h"

namespace subbyte::dot {

// A dense or grouped convolution as this family sees it; `parts` are the groups of its channels.
struct Layer {
  int parts, in_channels, out_channels;  // channels of one part
  int taps;                              // positions of the window
  int runs, groups;                      // of an operand: dot.h
  int taps_per_run, tap_bytes;           // tap_bytes: from one to the next within a run
  int pixels;                            // of the output
  Format weights;                        // as they are packed; `select` may widen them
};

struct Panel {
  const Kernel* kernel;
  std::size_t weights, channel_data;  // where it lies: bytes of the weights, entries of biases and multipliers
  std::size_t bytes, list_bytes;      // of the weights, and of the list of what is kept that lies before them, if there is one
  std::ptrdiff_t in_offset;           // first input channel of the part
  int first, channels;                // output channels
  std::vector<std::int32_t> kept = {};  // dot.h; kernels that skip only
  int chain = 0;                        // dot.h
};

// The panels of a layer, one after the other, kGap behind each. Either all of their kernels skip, or none does.
struct Panels {
  std::vector<Panel> all;
  Format weights;         // as they are packed
  int block_outputs = 0;  // kernels that skip: the outputs of their panels,
  std::int64_t blocks = 0, kept = 0;  // blocks of 4 inputs and so many outputs, and those that are kept
  bool sparse() const { return block_outputs > 0; }
};

// Sums of more than three pieces are worked through piece by piece: groups that stay in the first-level cache beside the
// accumulators of a block of pixels.
constexpr int piece(Format weights) { return 64 * groups_per_pack(weights.bits); }
// Whether that may be worth it.
bool long_sums(const Layer& l, Isa isa);

// Pixels of a tile of the kernels that skip: blocks of pixels had better be multiples of it.
constexpr int kSparseTile = 12;
// The panels that are expected to be the fastest. Those that skip, of weights with enough zero blocks, take no more memory
// than the others; narrow weights may be packed at 8 bits then, if that takes at most `most_expanded` of it.
constexpr std::size_t most_expanded(std::size_t bytes) { return bytes + bytes / 8; }
Panels select(const Layer& l, const LayerWeights& w, Isa isa);

// Whether any weight is not zero among inputs 4 * group .. 4 * group + 3 of a run, of `count` outputs of all parts.
bool any(const Layer& l, const LayerWeights& w, int output, int count, int run, int group);

// Padding inputs must meet weight zero: a code book without it is expanded where there is padding.
Format packed_format(const Layer& l, const LayerWeights& w);
void pack(const Layer& l, const Panel& p, const LayerWeights& w, std::uint8_t* weights, std::int32_t* bias,
          float* multiplier);

}  // namespace subbyte::dot
