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
#include "subbyte/isa.h"

namespace subbyte {

enum class Op {
#define SUBBYTE_OP(enumerator, name, fewest, most) enumerator,
#include "subbyte/ops.inc"
#undef SUBBYTE_OP
};

struct OpInfo {
  Op op;
  const char* name;
  std::size_t fewest_inputs, most_inputs;
};

inline constexpr OpInfo kOps[] = {  // indexed by Op
#define SUBBYTE_OP(enumerator, name, fewest, most) {Op::enumerator, #name, fewest, most},
#include "subbyte/ops.inc"
#undef SUBBYTE_OP
};

struct ValueDesc {
  std::string name;
  int height = 1, width = 1, channels = 1;
  bool quantized = false;
  float scale = 1;  // quantized only
  int zero_point = 0;
  int bits = 8;
};

struct NodeDesc {
  std::string name;
  Op op = Op::kQuantize;
  std::vector<int> inputs;  // indices into the values
  int output = 0;
  Activation activation;

  // conv2d and max_pool2d
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  int groups = 1;

  // conv2d, quantized: codes of `code_bits(weight_bits)` bits in the packed order of docs/spec/artifact.md, OHWI
  int weight_bits = 8;
  std::vector<std::uint8_t> weight_packed;
  std::vector<std::int8_t> levels;  // [2^code bits]
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;  // [O]: numerics.md, m[o]
  int clamp_low = 0, clamp_high = 255;
  bool has_table = false;
  int pre_zero = 0;                 // zero point of the pre-activation grid
  std::vector<std::uint8_t> table;  // [256]

  // conv2d, float32: OHWI
  std::vector<float> weight_real, bias_real;
  bool half_precision = false;  // the file stores float16; reported, computed in float32

  // add, residual, gate, pool: fl(s_in / s_out), and numerics.md's M for mul and m for the pool
  float factor_a = 0, factor_b = 0;
};

// Width of the codes that the engine is given: it has no kernels for three bits, which travel as four, with the
// upper half of the code book unused.
constexpr int code_bits(int weight_bits) { return weight_bits == 3 ? 4 : weight_bits; }

struct Options {
  Isa isa = Isa::kPortable;
  int threads = 1;
  // Tensors of more bytes than this are not kept whole where that can be avoided: the steps around them run
  // band by band of rows (plan/regions.cc). Negative: never.
  std::int64_t depth_first_above = 160 * 1024;
  int streams = 1;  // how many runs may be under way at once; each has its own arena and threads
  // Bytes of packed weights, arenas and scratch together. 0: in proportion to the graph's shapes and weights
  // (docs/spec/artifact.md, "Running"). More is refused before it is allocated.
  std::int64_t memory_limit = 0;
};

struct StepInfo {
  std::string name, op, kernel;
  Isa isa = Isa::kPortable;
  int requested_weight_bits = 0;  // 32 and 16 for float layers, 0 where there are no weights
  int resident_weight_bits = 0;   // how the weights lie in memory
  int requested_activation_bits = 0;  // of the grid that the step reads; 32: float32
  int resident_activation_bits = 0;   // codes lie in memory, and are multiplied, as bytes whatever their width
  std::int64_t macs = 0, weight_bytes = 0;
  std::int64_t buffer_offset = 0, buffer_bytes = 0;  // of the output, in the arena
  int height = 0, width = 0, channels = 0;           // of the output
  std::int64_t live_bytes = 0;  // of all buffers that exist while it runs
  int region = -1;              // steps of one region run band by band
  int bands = 0, band_rows = 0;  // of a region: how many bands, and the most rows that this step makes in one
  int ring_rows = 0;             // rows of the output that exist at a time; 0: all
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
  std::int64_t region_work() const;    // what planning looked at to find regions, in steps times bands
  const ValueDesc& value(int index) const;
  int input() const;
  const std::vector<int>& outputs() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Peak of this machine's 8-bit dot product kernel instruction, in multiply-accumulates per second, one core.
double peak_dot_macs(Isa isa, double seconds);

}  // namespace subbyte
