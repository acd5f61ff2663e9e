// Tiles of convolutions of EfficientNetV2-S: 1 x 1 layers that project and expand, and a 3 x 3 one of Fused-MBConv.
#include "kernels/bench.h"
#include "kernels/dot/dot.h"

namespace subbyte::bench {
namespace {

struct Layer {
  const char* name;
  int runs, groups;  // dot.h
};

constexpr Layer kLayers[] = {{"1 x 1 of 64 channels", 1, 16}, {"1 x 1 of 768 channels", 1, 192}, {"3 x 3 of 48 channels", 3, 36}};

void run(Report& report, const dot::Kernel& k, const Layer& layer) {
  const int rows = k.max_rows;
  const std::size_t pixel = 4 * static_cast<std::size_t>(layer.groups);
  Memory in(pixel * static_cast<std::size_t>(layer.runs * rows)), levels(16), out(64 * static_cast<std::size_t>(rows));
  Memory weights(dot::panel_bytes(layer.runs, layer.groups, k.vectors(), k.weights));
  Memory bias(sizeof(std::int32_t) * 64);
  Reals multiplier(64);
  std::vector<const std::uint8_t*> operands;
  std::vector<std::uint8_t*> results;
  for (int i = 0; i < layer.runs * rows; ++i) operands.push_back(in.data() + pixel * static_cast<std::size_t>(i));
  for (int r = 0; r < rows; ++r) results.push_back(out.data() + 64 * r);
  const Epilogue epilogue;
  const dot::Tile tile{operands.data(), rows, layer.runs, layer.groups, weights.data(),
                       reinterpret_cast<const std::int8_t*>(levels.data()),
                       reinterpret_cast<const std::int32_t*>(bias.data()), multiplier.data(), results.data(), nullptr, 0,
                       k.outputs, &epilogue};
  const double macs = 4.0 * layer.runs * layer.groups * k.outputs * rows;
  report.measure(k.isa, k.name, layer.name, macs, "MAC", [&] { k.run(tile, rows); });
}

}  // namespace

void bench_dot(Report& report) {
  report.rows(dot::table(), dot::table_size(), [&](const dot::Kernel& k) {
    for (const Layer& layer : kLayers) run(report, k, layer);
  });
}

}  // namespace subbyte::bench
