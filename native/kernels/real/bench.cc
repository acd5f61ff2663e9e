// float32 layers as they stand at the ends of a network: a stem's tile, a classifier's, and elementwise work.
#include "kernels/bench.h"
#include "kernels/real/real.h"

namespace subbyte::bench {
namespace {

void convolve(Report& report, const real::Kernel& k, const char* name, int taps, int in_channels, Activation a = {}) {
  const std::size_t rows = static_cast<std::size_t>(k.rows), panel = static_cast<std::size_t>(k.outputs);
  const std::size_t terms = static_cast<std::size_t>(taps * in_channels);
  Reals in(rows * terms), out(rows * panel), bias(panel), weights(terms * panel);
  std::vector<const float*> operands;
  std::vector<float*> results;
  for (std::size_t t = 0; t < static_cast<std::size_t>(taps); ++t) {
    for (std::size_t r = 0; r < rows; ++r) {
      operands.push_back(in.data() + (r * static_cast<std::size_t>(taps) + t) * static_cast<std::size_t>(in_channels));
    }
  }
  for (std::size_t r = 0; r < rows; ++r) results.push_back(out.data() + r * panel);
  const real::Tile tile{operands.data(), k.rows,    taps,           in_channels, weights.data(), bias.data(),
                        k.outputs,       k.outputs, results.data(), nullptr,     0,              a};
  const double macs = static_cast<double>(terms * panel * rows);
  report.measure(k.isa, k.name, name, macs, "float MAC", [&] { k.conv(tile, k.rows); });
}

void depthwise(Report& report, const real::Kernel& k) {
  constexpr std::size_t kSide = 3, kChannels = 192;
  const std::size_t rows = static_cast<std::size_t>(k.rows);
  Reals in(kSide * (rows + 2) * kChannels), weights(kSide * kSide * kChannels), bias(kChannels), out(rows * kChannels);
  std::vector<const float*> operands;
  std::vector<float*> results;
  for (std::size_t t = 0; t < kSide * kSide; ++t) {
    for (std::size_t r = 0; r < rows; ++r) {
      operands.push_back(in.data() + (t / kSide * (rows + 2) + t % kSide + r) * kChannels);
    }
  }
  for (std::size_t r = 0; r < rows; ++r) results.push_back(out.data() + r * kChannels);
  const real::Depthwise d{operands.data(), k.rows, kSide * kSide, kChannels, weights.data(), bias.data(), results.data(),
                          nullptr,         {}};
  report.measure(k.isa, k.name, "depthwise 3 x 3, 192 channels", static_cast<double>(kSide * kSide * kChannels * rows),
                 "float MAC", [&] { k.depthwise(d, k.rows); });
}

// A square of 64 channels before the products of Winograd's way, and of a panel behind them.
void winograd(Report& report, const real::Kernel& k) {
  constexpr std::size_t kChannels = 64, kElements = 16;
  const std::size_t panel = static_cast<std::size_t>(k.outputs);
  Reals in(kElements * kChannels), spread(kElements * kChannels), sums(kElements * panel), bias(panel), out(4 * panel);
  std::vector<const float*> inputs;
  for (std::size_t i = 0; i < kElements; ++i) inputs.push_back(in.data() + i * kChannels);
  report.measure(k.isa, k.name, "spread, 64 channels", 4.0 * kChannels, "inputs",
                 [&] { k.spread(inputs.data(), kChannels, spread.data(), kChannels); });
  float* const outputs[] = {out.data(), out.data() + panel, out.data() + 2 * panel, out.data() + 3 * panel};
  const real::Square s{sums.data(), k.outputs, bias.data(), k.outputs, k.outputs, outputs, nullptr, 0, {Act::kRelu}};
  report.measure(k.isa, k.name, "collect, relu", 4.0 * k.outputs, "outputs", [&] { k.collect(s); });
}

}  // namespace

void bench_real(Report& report) {
  constexpr int kPixels = 38, kChannels = 192, kCount = kPixels * kChannels;
  Reals a(kCount), b(kCount), out(kCount);
  std::vector<double> sums(kChannels);
  report.rows(real::table(), real::table_size(), [&](const real::Kernel& k) {
    convolve(report, k, "3 x 3 of 3 channels", 9, 3);
    convolve(report, k, "3 x 3 of 32 channels", 9, 32);
    convolve(report, k, "1 x 1 of 192 channels", 1, 192);
    convolve(report, k, "1 x 1 of 192 channels, silu", 1, 192, {Act::kSilu});
    convolve(report, k, "1 x 1 of 1280 channels", 1, 1280);
    depthwise(report, k);
    winograd(report, k);
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
