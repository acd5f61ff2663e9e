// Rows of the depthwise layers of EfficientNetV2.
#include "kernels/bench.h"
#include "kernels/depthwise/depthwise.h"

namespace subbyte::bench {
namespace {

struct Layer {
  const char* name;
  depthwise::Shape shape;
  int width;
};

constexpr Layer kLayers[] = {{"3 x 3, 256 channels, 19 pixels", {3, 3, 1, 256}, 19},
                             {"3 x 3 / 2, 960 channels, 10 pixels", {3, 3, 2, 960}, 10},
                             {"5 x 5, 96 channels, 28 pixels", {5, 5, 1, 96}, 28}};

void run(Report& report, const depthwise::Kernel& k, const Layer& layer) {
  const depthwise::Shape& s = layer.shape;
  const std::size_t channels = static_cast<std::size_t>(s.channels), taps = static_cast<std::size_t>(s.kernel_h * s.kernel_w);
  const int pixels = (layer.width - 1) * s.stride + s.kernel_w + depthwise::kReadAhead;
  Memory in(channels * static_cast<std::size_t>(pixels)), out(channels * static_cast<std::size_t>(layer.width));
  Memory values(taps * channels), bias(4 * channels), packed(k.packed_bytes(s));
  Reals multiplier(channels);
  k.pack(s, {reinterpret_cast<const std::int8_t*>(values.data()), reinterpret_cast<const std::int32_t*>(bias.data()),
             multiplier.data()}, packed.data());
  const std::vector<const std::uint8_t*> rows(static_cast<std::size_t>(s.kernel_h), in.data());
  const Epilogue epilogue;
  const depthwise::Row row{rows.data(), s.channels, layer.width, out.data(), s.channels, &epilogue};
  const double macs = static_cast<double>(taps * channels) * layer.width;
  report.measure(k.isa, k.name, layer.name, macs, "MAC", [&] { k.run(s, packed.data(), row); });
}

}  // namespace

void bench_depthwise(Report& report) {
  report.rows(depthwise::table(), depthwise::table_size(), [&](const depthwise::Kernel& k) {
    for (const Layer& layer : kLayers) run(report, k, layer);
  });
}

}  // namespace subbyte::bench
