// Strips of the 3 x 3 layers of Fused-MBConv. Multiply-accumulates are those of direct convolution.
#include "kernels/bench.h"
#include "kernels/winograd/winograd.h"

namespace subbyte::bench {
namespace {

void run(Report& report, const winograd::Kernel& k, const char* name, const winograd::Shape& s) {
  constexpr int kTiles = winograd::kMaxTiles;
  const std::size_t channels = static_cast<std::size_t>(s.channels), outputs = static_cast<std::size_t>(s.outputs);
  Memory in((2 * kTiles + 3) * channels), out(2 * kTiles * outputs), values(9 * channels * outputs), bias(4 * outputs);
  Memory packed(k.packed_bytes(s)), scratch(k.scratch_bytes(s));
  Reals multiplier(outputs);
  k.pack(s, {reinterpret_cast<const std::int8_t*>(values.data()), reinterpret_cast<const std::int32_t*>(bias.data()),
             multiplier.data()}, packed.data());
  const Epilogue epilogue;
  winograd::Strip strip{};
  for (const std::uint8_t*& row : strip.in) row = in.data();
  for (std::uint8_t*& row : strip.out) row = out.data();
  strip.in_pixel = s.channels, strip.out_pixel = s.outputs;
  strip.tiles = kTiles, strip.width = 2 * kTiles, strip.height = 2;
  strip.epilogue = &epilogue, strip.scratch = scratch.data();
  const double macs = 9.0 * s.channels * s.outputs * 4 * kTiles;
  report.measure(k.isa, k.name, name, macs, "MAC", [&] { k.run(s, packed.data(), strip); });
}

}  // namespace

void bench_winograd(Report& report) {
  report.rows(winograd::table(), winograd::table_size(), [&](const winograd::Kernel& k) {
    run(report, k, "24 to 24 channels", {24, 24});
    run(report, k, "48 to 192 channels", {48, 192});
  });
}

}  // namespace subbyte::bench
