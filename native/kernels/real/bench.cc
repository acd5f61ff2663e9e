// float32 layers as they stand at the ends of a network: a stem's tile, a classifier's, and elementwise work.
#include "kernels/bench.h"
#include "kernels/real/real.h"

namespace subbyte::bench {
namespace {

void convolve(Report& report, const real::Kernel& k, const char* name, int taps, int in_channels) {
  Reals in(static_cast<std::size_t>(taps * in_channels)), out(real::kRows * real::kPanel), bias(real::kPanel);
  Reals weights(static_cast<std::size_t>(taps * in_channels * real::kPanel));
  const std::vector<const float*> operands(static_cast<std::size_t>(taps * real::kRows), in.data());
  std::vector<float*> results;
  for (int r = 0; r < real::kRows; ++r) results.push_back(out.data() + r * real::kPanel);
  const real::Tile tile{operands.data(), real::kRows, taps, in_channels, weights.data(), bias.data(), real::kPanel,
                        results.data(), nullptr, 0, {}};
  const double macs = static_cast<double>(taps) * in_channels * real::kPanel * real::kRows;
  report.measure(k.isa, k.name, name, macs, "MAC", [&] { k.conv(tile, real::kRows); });
}

void depthwise(Report& report, const real::Kernel& k) {
  constexpr int kTaps = 9, kChannels = 192;
  Reals in(kChannels), weights(kTaps * kChannels), bias(kChannels), out(kChannels);
  const std::vector<const float*> operands(kTaps, in.data());
  const real::Depthwise d{operands.data(), kTaps, kChannels, weights.data(), bias.data(), out.data(), nullptr, {}};
  report.measure(k.isa, k.name, "depthwise 3 x 3, 192 channels", kTaps * kChannels, "MAC", [&] { k.depthwise(d); });
}

}  // namespace

void bench_real(Report& report) {
  constexpr int kPixels = 38, kChannels = 192, kCount = kPixels * kChannels;
  Reals a(kCount), b(kCount), out(kCount);
  std::vector<double> sums(kChannels);
  report.rows(real::table(), real::table_size(), [&](const real::Kernel& k) {
    convolve(report, k, "3 x 3 of 3 channels", 9, 3);
    convolve(report, k, "1 x 1 of 1280 channels", 1, 1280);
    depthwise(report, k);
    const auto measure = [&](const char* function, const auto& work) {
      report.measure(k.isa, k.name, function, kCount, "elements", work);
    };
    measure("activate, silu", [&] { k.activate({Act::kSilu}, a.data(), kCount, out.data()); });
    measure("add", [&] { k.add(a.data(), b.data(), kCount, out.data()); });
    measure("gate", [&] { k.gate(a.data(), b.data(), kPixels, kChannels, out.data()); });
    measure("sum", [&] { k.sum(a.data(), kPixels, kChannels, sums.data()); });
    measure("maximum", [&] { k.maximum(a.data(), kCount, out.data()); });
  });
}

}  // namespace subbyte::bench
