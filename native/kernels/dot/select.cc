// The dot family's table, its look-up, and how the outputs of a layer are cut into panels.
#include <algorithm>

#include "kernels/dot/layer.h"
#include "kernels/sanitizer.h"

namespace subbyte::dot {

#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) void function(const Tile&, int);
#include "kernels/dot/kernels.inc"

namespace {
constexpr Kernel kTable[] = {
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  {Isa::isa, format, outputs, rows, traits, function, #function},
#include "kernels/dot/kernels.inc"
};
}  // namespace

const Kernel* table() { return kTable; }
int table_size() { return static_cast<int>(sizeof(kTable) / sizeof(kTable[0])); }

const Kernel* find(Isa isa, Format weights, int outputs, unsigned traits) {
  const Kernel* best = nullptr;
  for (const Kernel& k : kTable) {
    if (k.isa != isa || k.weights != weights || k.outputs < outputs || !k.has(traits)) continue;
    if (k.has(kSkips) && (traits & kSkips) == 0) continue;
    if (!best || k.outputs < best->outputs) best = &k;
  }
  return best;
}

bool long_sums(const Layer& l, Isa isa) {
  return l.runs == 1 && l.groups > 3 * piece(l.weights) && find(isa, l.weights, 1, kSplits) != nullptr;
}

std::vector<Panel> select(const Layer& l, Isa isa) {
  const int vectors = (l.out_channels + 15) / 16;
  const bool small = find(isa, l.weights, 1, kSmallTiles) && l.pixels >= 6 && l.runs * l.groups >= kLongEnough;
  const int count = small ? std::max(1, vectors / 2) : (vectors + kMaxVectors - 1) / kMaxVectors;
  const unsigned traits = long_sums(l, isa) ? kSplits : kPlain;
  std::vector<Panel> panels;
  std::size_t bytes = 0, entries = 0;
  for (int part = 0; part < l.parts * count; ++part) {
    const int begin = 16 * (part % count * vectors / count), end = 16 * ((part % count + 1) * vectors / count);
    const int part_first = part / count * l.out_channels, channels = std::min(l.out_channels, end) - begin;
    const Kernel* kernel = find(isa, l.weights, channels, traits);
    panels.push_back({kernel, bytes, entries, static_cast<std::ptrdiff_t>(part / count) * l.in_channels,
                      part_first + begin, channels});
    bytes += panel_bytes(l.runs, l.groups, kernel->vectors(), l.weights) + kGap;
    entries += 16 * static_cast<std::size_t>(kernel->vectors()) + kGap / 4;
  }
  return panels;
}

}  // namespace subbyte::dot
