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

namespace {

// Time of a panel for a pixel, in dot products of 16 outputs: so many for each vector of each group, and for each vector's
// way from sums to codes. Measured on a Zen 4 (subbyte_kernel_bench), where the least is kept groups + 3.0 (1 vector) and
// + 2.0 (2), against all groups + 1.5 to 1.9; on a Zen 5 12 broadcasts and a load of weights take the time of 13 dot
// products.
struct Cost {
  double group, finish;
};
constexpr Cost kDense{1, 1.5}, kSparse[] = {{1.1, 3.5}, {1.03, 2.5}};
constexpr double kLoading = 1.6;  // so many times that with kLoads: from the instructions of the loops, not measured
constexpr double kParting = 1.04, kDecoding = 1.04;  // and with kParts, kDecodes: measured on a Zen 4

std::vector<Panel> cut(const Layer& l, Isa isa, int count, unsigned traits) {
  const int vectors = (l.out_channels + 15) / 16;
  std::vector<Panel> panels;
  for (int part = 0; part < l.parts * count; ++part) {
    const int begin = 16 * (part % count * vectors / count), end = 16 * ((part % count + 1) * vectors / count);
    const int part_first = part / count * l.out_channels, channels = std::min(l.out_channels, end) - begin;
    const Kernel* kernel = find(isa, l.weights, channels, traits);
    panels.push_back({kernel, 0, 0, panel_bytes(l.runs, l.groups, kernel->vectors(), l.weights), 0,
                      static_cast<std::ptrdiff_t>(part / count) * l.in_channels, part_first + begin, channels});
  }
  return panels;
}

// Lays panels one after the other; how many bytes they take, gaps aside.
std::size_t place(std::vector<Panel>& panels) {
  std::size_t at = 0, entries = 0, bytes = 0;
  for (Panel& p : panels) {
    p.weights = at;
    p.channel_data = entries;
    at += p.bytes + kGap;
    entries += 16 * static_cast<std::size_t>(p.kernel->vectors()) + kGap / 4;
    bytes += p.bytes;
  }
  return bytes;
}

// Which groups of a panel are kept.
void keep(const Layer& l, const LayerWeights& w, Panel& p) {
  const int per_pack = groups_per_pack(l.weights.bits);
  std::size_t packs = 0;
  for (int run = 0; run < l.runs; ++run) {
    int count = 0;
    for (int g = 0; g < l.groups; ++g) {
      if (any(l, w, p.first, p.channels, run, g)) p.kept.push_back(4 * g), ++count;
    }
    p.kept.push_back(-1);
    packs += static_cast<std::size_t>((count + per_pack - 1) / per_pack);
  }
  p.list_bytes = (p.kept.size() * sizeof(p.kept[0]) + 63) / 64 * 64;
  p.bytes = p.list_bytes + packs * static_cast<std::size_t>(p.kernel->vectors()) * 64;
}

double cost_of(const std::vector<Panel>& panels, const Layer& l, const Cost& cost) {
  double sum = 0;
  for (const Panel& p : panels) {
    const auto groups = static_cast<double>(p.kept.empty() ? l.runs * l.groups : static_cast<int>(p.kept.size()) - l.runs);
    double group = cost.group;
    if (p.kernel->has(kLoads)) group *= kLoading;
    if (p.kernel->has(kParts)) group *= kParting;
    if (p.kernel->has(kDecodes)) group *= kDecoding;
    sum += p.kernel->outputs / 16.0 * (groups * group + cost.finish);
  }
  return sum;
}

// Makes panels of `wide` vectors that skip the best ones if they cost less than `least` and fit so many bytes.
void consider(const Layer& l, const LayerWeights& w, Isa isa, int wide, std::size_t most, double& least, Panels& best) {
  const int vectors = (l.out_channels + 15) / 16;
  std::vector<Panel> panels = cut(l, isa, (vectors + wide - 1) / wide, kSkips);
  std::int64_t blocks = 0, kept = 0;
  for (Panel& p : panels) {
    keep(l, w, p);
    kept += static_cast<std::int64_t>(p.kept.size()) - l.runs;
    blocks += l.runs * l.groups;
  }
  // Loops that end like the last ones are predicted.
  std::stable_sort(panels.begin(), panels.end(), [](const Panel& a, const Panel& b) { return a.kept.size() < b.kept.size(); });
  const double cost = cost_of(panels, l, kSparse[wide - 1]);
  if (place(panels) > most || cost >= least) return;
  least = cost;
  best = {std::move(panels), l.weights, 16 * wide, blocks, kept};
}

}  // namespace

Panels select(const Layer& l, const LayerWeights& w, Isa isa) {
  const int vectors = (l.out_channels + 15) / 16;
  const bool small = find(isa, l.weights, 1, kSmallTiles) && l.pixels >= 6 && l.runs * l.groups >= kLongEnough;
  const int count = small ? std::max(1, vectors / 2) : (vectors + kMaxVectors - 1) / kMaxVectors;
  Panels best{cut(l, isa, count, long_sums(l, isa) ? kSplits : kPlain), l.weights};
  const std::size_t bytes = place(best.all);
  if (l.pixels < kSparseTile || w.zero_code() < 0) return best;
  double least = cost_of(best.all, l, kDense);
  Layer expanded = l;
  expanded.weights = kInt8;
  for (int wide = 1; wide <= 2; ++wide) {
    const Kernel* kernel = find(isa, l.weights, 16 * wide, kSkips);
    if (!kernel) continue;
    consider(l, w, isa, wide, bytes, least, best);
    if (kernel->has(kDecodes)) consider(expanded, w, isa, wide, most_expanded(bytes), least, best);
  }
  return best;
}

}  // namespace subbyte::dot
