// Every function on a row of pixels: 38 of 192 channels.
#include "kernels/bench.h"
#include "kernels/elementwise/elementwise.h"

namespace subbyte::bench {

void bench_elementwise(Report& report) {
  constexpr int kPixels = 38, kChannels = 192, kCount = kPixels * kChannels;
  Memory a(kCount), b(kCount), out(kCount), table(256), factors(2 * kChannels + 128), sums(4 * kChannels);
  Reals real(kCount), scales(kChannels);
  auto* const q15 = reinterpret_cast<std::int16_t*>(factors.data());
  auto* const totals = reinterpret_cast<std::uint32_t*>(sums.data());
  report.rows(elementwise::table(), elementwise::table_size(), [&](const elementwise::Kernel& k) {
    const auto measure = [&](const char* function, int elements, const auto& work) {
      report.measure(k.isa, k.name, function, elements, "elements", work);
    };
    measure("quantize", kCount, [&] {
      k.quantize(real.data(), kPixels, kChannels, 50, -128, 127, 128, out.data(), kChannels);
    });
    measure("dequantize", kCount, [&] { k.dequantize(a.data(), kCount, 128, 0.02f, real.data()); });
    measure("look_up", kCount, [&] { k.look_up(table.data(), a.data(), kCount, out.data()); });
    measure("add", kCount, [&] { k.add({128, 128, 128, 255, 0.5f, 0.5f}, a.data(), b.data(), kCount, out.data()); });
    measure("gate", kCount, [&] { k.gate({128, 128, 255}, q15, a.data(), kChannels, kPixels, kChannels, out.data(), kChannels); });
    measure("prelu", kCount, [&] {
      k.prelu({128, 128, 255, 1.0f}, scales.data(), a.data(), kChannels, kPixels, kChannels, out.data(), kChannels);
    });
    measure("factors", kChannels, [&] { k.factors(a.data(), kChannels, 0, scales.data(), q15); });
    measure("sum", kCount, [&] { k.sum(a.data(), kChannels, kPixels, kChannels, totals); });
    measure("average", kChannels, [&] { k.average(totals, kChannels, 0, 1e-3f, 0, 255, out.data()); });
    measure("maximum", kCount, [&] { k.maximum(a.data(), kCount, out.data()); });
  });
}

}  // namespace subbyte::bench
