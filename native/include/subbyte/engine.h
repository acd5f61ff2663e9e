// The engine: a graph of quantized and float32 operations, planned once and run many times.
//
// Shapes are per image, channels last. Arithmetic is that of docs/spec/numerics.md. Everything the
// engine is given is checked by the constructor of Model, which throws std::invalid_argument; after
// that nothing allocates, throws or reads outside its buffers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "subbyte/activations.h"
#include "subbyte/format.h"
#include "subbyte/isa.h"

namespace subbyte {

enum class Op {
#define SUBBYTE_OP(enumerator, name, fewest, most, traits, attributes) enumerator,
#include "subbyte/ops.inc"
};

enum OpTrait : unsigned {
  kPlain = 0,
  kByRows = 1,        // it can make some rows of its output from some of its inputs': depth-first regions (regions.cc)
  kWeighted = 2,      // has weights, and a window that reads the halo of its first input
  kActs = 4,          // ends with an activation function
  kOfMaps = 8,        // its first input has rows and columns
  kSameGrid = 16,     // its output has the grid of its inputs
  kMakesVector = 32,  // its output has no rows and columns
  kScales = 64,       // may have a channel_scale
  kReshapes = 128,    // its output has rows and columns or not, as it says
  kSince3 = 256,      // of version 3 of the file format on
  kSlopes = 512,      // has a slope for each channel
  kReal = 1024,       // works on float32 values only
  kNorms = 2048 | kReal,  // and has a weight and a bias for each channel
};

struct OpInfo {
  Op op;
  const char* name;
  std::size_t fewest_inputs, most_inputs;
  unsigned traits;
  const char* attributes;  // separated by spaces
  constexpr bool is(OpTrait trait) const { return (traits & trait) == trait; }
};

inline constexpr OpInfo kOps[] = {  // indexed by Op
#define SUBBYTE_OP(enumerator, name, fewest, most, traits, attributes) \
  {Op::enumerator, #name, fewest, most, traits, attributes},
#include "subbyte/ops.inc"
};
constexpr const OpInfo& info_of(Op op) { return kOps[static_cast<int>(op)]; }

struct ValueDesc {
  std::string name;
  int height = 1, width = 1, channels = 1;
  bool quantized = false;
  float scale = 1;  // quantized only
  int zero_point = 0;
  int bits = 8;
  int level_bits = 0;  // if not 0: of its 256 codes only 2^level_bits occur, its levels; shown in the plan
};

struct NodeDesc {
  std::string name;
  Op op = Op::kQuantize;
  std::vector<int> inputs;  // indices into the values
  int output = 0;
  Activation activation;

  // slice: begin, end and step, each of rows, columns and channels. rearrange: extents, then the order of the axes.
  // avg_pool2d: count_pad. pad, resize: the place of their mode in subbyte/ir/{op_shapes,coordinates}.py.
  std::vector<int> numbers;

  // conv2d and pools; pad
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  int dilation_h = 1, dilation_w = 1;
  int groups = 1;
  // Rows and columns that a window reaches over.
  int reach_h() const { return (kernel_h - 1) * dilation_h + 1; }
  int reach_w() const { return (kernel_w - 1) * dilation_w + 1; }
  bool dilated() const { return dilation_h > 1 || dilation_w > 1; }

  double eps = 0;  // of a normalization

  // conv2d: the format that was asked for, as the plan shows it ("int4", "int3+book", "fp16")
  std::string weight_format;

  // conv2d, quantized: codes of 8, 4 or 2 bits in the packed order of docs/spec/artifact.md, OHWI. A format that the engine
  // has no kernels for is handed over in one of these: three bits as four, others as 8-bit values.
  std::vector<std::uint8_t> weight_packed;
  std::vector<std::int8_t> levels;  // [2^bits]: says how many bits a code has
  std::vector<std::int32_t> bias;
  // [O]: numerics.md, m[o]. Of mul [C]: M[c], or on float32 values channel_scale, empty without. Of prelu [C]: m[c], or on
  // float32 values the slopes.
  std::vector<float> multiplier;
  int clamp_low = 0, clamp_high = 255;
  bool has_table = false;
  int pre_zero = 0;                 // zero point of the pre-activation grid
  std::vector<std::uint8_t> table;  // [256]

  // conv2d, float32: OHWI. Of a normalization [C].
  std::vector<float> weight_real, bias_real;

  // add, residual, pool: fl(s_in / s_out), and numerics.md's m for the pool
  float factor_a = 0, factor_b = 0;
};

// As subbyte/quant/format.py writes it: "int4+book", "uint8", "fp16".
std::string format_text(const Format& format);

struct Options {
  Isa isa = Isa::kPortable;
  int threads = 1;
  // Tensors of more bytes than this are not kept whole where that can be avoided: the steps around them run
  // row tile by row tile (plan/regions.cc). Negative: never.
  std::int64_t depth_first_above = 160 * 1024;
  int streams = 1;  // how many runs may be under way at once; each has its own arena and threads
  // Bytes of packed weights, arenas and scratch together. 0: in proportion to the graph's shapes and weights
  // (docs/spec/artifact.md, "Running"). More is refused before it is allocated.
  std::int64_t memory_limit = 0;
};

struct StepInfo {
  std::string name, op, kernel;
  Isa isa = Isa::kPortable;
  // Formats as they were asked for and as they lie in memory and are multiplied; of weights empty where there are none,
  // of activations those of what the step reads.
  std::string requested_weights, executed_weights, requested_activations, executed_activations;
  std::int64_t macs = 0, weight_bytes = 0;
  std::int64_t buffer_offset = 0, buffer_bytes = 0;  // of the output, in the arena
  int height = 0, width = 0, channels = 0;           // of the output
  std::int64_t live_bytes = 0;  // of all buffers that exist while it runs
  int region = -1;              // steps of one region run row tile by row tile
  int row_tiles = 0, tile_rows = 0;  // of a region: how many row tiles, and the most rows that this step makes in one
  int line_buffer_rows = 0;          // rows of the output that exist at a time; 0: all
};

class Model {
 public:
  Model(std::vector<ValueDesc> values, std::vector<NodeDesc> nodes, int input, std::vector<int> outputs,
        const Options& options);
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // input: [images, H, W, C]; outputs[i]: [images, elements of output i], quantized ones dequantized.
  // Thread-safe; more than `streams` concurrent calls wait for each other.
  // seconds, if not null: [steps], incremented by each step's time.
  // A process that was forked off may run too; the first time there it starts threads of its own, and throws
  // std::system_error if it cannot.
  void run(const float* input, int images, float* const* outputs, double* seconds = nullptr);

  const std::vector<StepInfo>& steps() const;
  std::int64_t arena_bytes() const;    // of one stream
  std::int64_t scratch_bytes() const;  // of one stream, all its threads
  std::int64_t weight_bytes() const;
  std::int64_t region_work() const;    // what planning looked at to find regions, in steps times row tiles
  const ValueDesc& value(int index) const;
  int input() const;
  const std::vector<int>& outputs() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Peak of this machine's 8-bit dot product kernel instruction, in multiply-accumulates per second, one core.
double peak_dot_macs(Isa isa, double seconds);
// The same of its float32 kernel. Allocates.
double peak_real_macs(Isa isa, double seconds);

}  // namespace subbyte
