// Tiles of convolutions of EfficientNetV2-S: 1 x 1 layers that project and expand, and a 3 x 3 one of Fused-MBConv.
#include "kernels/bench.h"
#include "kernels/dot/dot.h"

namespace subbyte::bench {
namespace {

struct Layer {
  const char* name;
  int runs, groups;  // dot.h
};

constexpr Layer kLayers[] = {{"1 x 1 of 16 channels", 1, 4},
                             {"3 x 3 of 3 channels", 3, 3},
                             {"1 x 1 of 64 channels", 1, 16},
                             {"1 x 1 of 768 channels", 1, 192},
                             {"3 x 3 of 48 channels", 3, 36}};
// For kernels that chain: the largest weights and levels.
constexpr int kLargest[] = {4, 16, 21, 32};

// For kernels that skip: what expands in stages 5 and 6, what projects, a 3 x 3 layer; and zeros in per mille.
constexpr Layer kSparse[] = {{"1 x 1 of 160", 1, 40}, {"1 x 1 of 256", 1, 64}, {"1 x 1 of 960", 1, 240}, {"3 x 3 of 48", 3, 36}};
constexpr int kZeros[] = {0, 250, 500, 625, 750};

// Every group is kept whose number times the golden ratio has a fraction above the share of zeros: evenly, not periodically.
std::vector<std::int32_t> keep(const Layer& layer, int zeros, int& count) {
  std::vector<std::int32_t> kept;
  count = 0;
  for (int run = 0, i = 0; run < layer.runs; ++run) {
    for (int g = 0; g < layer.groups; ++g, ++i) {
      if (i * 618 % 1000 >= zeros) kept.push_back(4 * g), ++count;
    }
    kept.push_back(-1);
  }
  return kept;
}

// Multiplications are counted that are made. largest: of weights and levels; 0: as they come.
void run(Report& report, const dot::Kernel& k, const Layer& layer, int zeros, int largest = 0) {
  const int rows = k.max_rows;
  const std::size_t pixel = 4 * static_cast<std::size_t>(layer.groups);
  Memory in(pixel * static_cast<std::size_t>(layer.runs * rows)), levels(16), out(64 * static_cast<std::size_t>(rows));
  Memory weights(dot::panel_bytes(layer.runs, layer.groups, k.vectors(), k.weights));
  Memory bias(sizeof(std::int32_t) * 64);
  Reals multiplier(64);
  if (largest > 0) {
    Memory& values = k.weights.bits == 8 ? weights : levels;
    const std::size_t count = k.weights.bits == 8 ? dot::panel_bytes(layer.runs, layer.groups, k.vectors(), k.weights) : 16;
    for (std::size_t i = 0; i < count; ++i) values.data()[i] = static_cast<std::uint8_t>(values.data()[i] % (2 * largest + 1) - largest);
  }
  std::vector<const std::uint8_t*> operands;
  std::vector<std::uint8_t*> results;
  for (int i = 0; i < layer.runs * rows; ++i) operands.push_back(in.data() + pixel * static_cast<std::size_t>(i));
  for (int r = 0; r < rows; ++r) results.push_back(out.data() + 64 * r);
  const Epilogue epilogue;
  int groups = layer.runs * layer.groups;
  const std::vector<std::int32_t> kept = keep(layer, zeros, groups);
  const auto* book = reinterpret_cast<const std::int8_t*>(levels.data());
  dot::Tile tile{operands.data(), rows, layer.runs, layer.groups, weights.data(), book,
                 reinterpret_cast<const std::int32_t*>(bias.data()), multiplier.data(), results.data(), nullptr, 0,
                 k.outputs, &epilogue, kept.data()};
  if (k.has(dot::kChains)) {
    tile.chain = dot::chain_length(weights.data(), layer.runs, layer.groups, k.vectors(), k.weights, book);
  }
  char shape[64];
  if (k.has(dot::kSkips)) {
    std::snprintf(shape, sizeof(shape), "%s, %.1f %% zeros", layer.name, zeros / 10.0);
  } else {
    std::snprintf(shape, sizeof(shape), largest > 0 ? "%s, to %d" : "%s", layer.name, largest);
  }
  report.measure(k.isa, k.name, shape, 4.0 * groups * k.outputs * rows, "MAC", [&] { k.run(tile, rows); });
}

}  // namespace

void bench_dot(Report& report) {
  report.rows(dot::table(), dot::table_size(), [&](const dot::Kernel& k) {
    if (k.has(dot::kSkips)) {
      for (const Layer& layer : kSparse) {
        for (const int zeros : kZeros) run(report, k, layer, zeros);
      }
    } else {
      for (const Layer& layer : kLayers) {
        run(report, k, layer, 0);
        if (!k.has(dot::kChains)) continue;
        for (const int largest : kLargest) run(report, k, layer, 0, largest);
      }
    }
  });
}

}  // namespace subbyte::bench
