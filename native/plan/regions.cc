// Which steps run depth-first, band by band, and the rows that each of them makes in each band.
//
// The cost model: a tensor larger than Options::depth_first_above does not stay in a core's second-level cache beside its producer's
// and consumer's weights, so it is written to and read back from further away; a region that keeps a few rows of
// it instead costs only the re-reading of its weights once per band. A region starts at the first such tensor
// and ends at the first value, read by nobody before, that is small again. Long regions keep many rows: one is cut
// in two wherever that lowers the memory that exists at a time.
#include <algorithm>

#include "plan/plan.h"

namespace subbyte {
namespace {

constexpr std::size_t kMaxSteps = 32;
constexpr int kRampBands = 256;  // enough for any receptive field of kMaxSteps steps; empty ones cost nothing
constexpr int kUnmade = 1 << 30, kOutside = 1 << 30;
// Rows further above the picture reach nothing (windows are at most 256 rows high), and a stride of up to 65536
// times this many still is a number.
constexpr int kFarthest = 4096;
constexpr Range kNothing{1 << 30, -(1 << 30)};
constexpr int kBandPixels = 72;  // per thread, of the region's output: full tiles and few passes over the weights

struct Finder {
  const std::vector<ValueDesc>& values;
  const std::vector<NodeDesc>& nodes;
  const std::vector<Buffer>& buffers;
  const std::vector<int>& order;  // the nodes that make a step
  const std::vector<int>& gated;
  const std::vector<int>& outputs;
  const Options& options;
  std::vector<int> last_reader;  // per value: a position in `order`, or kOutside
  std::vector<int> made_at;      // per value: a position in `order`, or -1

  // A value is read outside of every region where it is an output, or an operand of a fused gate.
  void find_readers() {
    std::vector<int> position(nodes.size(), kOutside);
    for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<int>(i);
    last_reader.assign(values.size(), -1);
    made_at.assign(values.size(), -1);
    for (const int i : order) made_at[nodes[i].output] = position[i];
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      for (const int v : nodes[j].inputs) last_reader[v] = std::max(last_reader[v], position[j]);
    }
    for (const int v : outputs) last_reader[v] = kOutside;
  }

  bool by_rows(int node) const {
    const NodeDesc& n = nodes[node];
    if (!values[n.output].quantized || gated[node] >= 0) return false;
    if (uses_winograd(n, values[n.inputs[0]], values[n.output], options.isa)) return false;
    return n.op == Op::kConv2d || n.op == Op::kAdd || n.op == Op::kActivation || n.op == Op::kQuantize;
  }

  bool large(int node) const { return static_cast<std::int64_t>(buffers[nodes[node].output].bytes) > options.depth_first_above; }

  // Whether all that order[begin .. end - 1] make is read within order[begin .. end] only.
  bool closed(std::size_t begin, std::size_t end) const {
    for (std::size_t i = begin; i < end; ++i) {
      if (last_reader[nodes[order[i]].output] > static_cast<int>(end)) return false;
    }
    return true;
  }

  // The last step of a region that starts at `begin`, or `begin` if there is none.
  std::size_t end_of(std::size_t begin) const {
    std::size_t best = begin;
    for (std::size_t i = begin + 1; i < order.size() && i - begin < kMaxSteps && by_rows(order[i]); ++i) {
      if (!closed(begin, i)) continue;
      best = i;
      if (!large(order[i])) break;
    }
    return best;
  }

  RegionPlan make(std::size_t begin, std::size_t end) const {
    RegionPlan region;
    for (std::size_t i = begin; i <= end; ++i) region.nodes.push_back(order[i]);
    const std::size_t count = region.nodes.size();
    const Buffer& last = buffers[nodes[region.nodes.back()].output];
    const int height = std::max(1, (kBandPixels * options.threads + last.width - 1) / last.width);
    const int bands = (last.height + height - 1) / height;
    region.rows.assign(count, {});
    std::vector<std::vector<Range>> needed;
    std::vector<int> done(count, kUnmade);
    // Bands of rows above the picture come first: they make the earlier steps' first rows little by little.
    for (int y = -kRampBands * height; y < 0; y += height) make_band(region, {y, y + height}, done, needed);
    for (int band = 0; band < bands; ++band) make_band(region, share(last.height, band, bands), done, needed);
    for (std::size_t i = 0; i < count; ++i) region.rings.push_back(ring_of(region.rows[i], needed, i));
    region.rings.back() = 0;  // the region's result is a whole tensor
    return region;
  }

  // Bytes of all buffers that exist while order[begin .. end] run as a region, or as one step.
  std::int64_t live_bytes(std::size_t begin, std::size_t end) const {
    std::int64_t bytes = 0;
    for (std::size_t v = 0; v < values.size(); ++v) {
      const bool before = made_at[v] >= 0 && made_at[v] < static_cast<int>(begin);
      if (before && last_reader[v] >= static_cast<int>(begin)) bytes += static_cast<std::int64_t>(buffers[v].bytes);
    }
    const std::vector<int> rings = begin == end ? std::vector<int>{0} : make(begin, end).rings;
    for (std::size_t i = begin; i <= end; ++i) {
      Buffer b = buffers[nodes[order[i]].output];
      b.ring = rings[i - begin];
      set_size(b);
      bytes += static_cast<std::int64_t>(b.bytes);
    }
    return bytes;
  }

  // order[begin .. end] as one region or several, with single steps between them.
  void cut(std::size_t begin, std::size_t end, std::vector<RegionPlan>& regions) const {
    if (begin == end) return;
    std::int64_t least = live_bytes(begin, end);
    std::size_t best = end;
    for (std::size_t i = begin; i < end; ++i) {
      if (!closed(begin, i)) continue;
      const std::int64_t most = std::max(live_bytes(begin, i), live_bytes(i + 1, end));
      if (most < least) least = most, best = i;
    }
    if (best == end) {
      regions.push_back(make(begin, end));
    } else {
      cut(begin, best, regions);
      cut(best + 1, end, regions);
    }
  }

  // One band: from the last step back to the first, the rows that are read of each step's output, and of those
  // the ones that no earlier band has made. Rows beyond the picture and its padding are nobody's work.
  void make_band(RegionPlan& region, Range last, std::vector<int>& done, std::vector<std::vector<Range>>& bands) const {
    std::vector<Range> needed(region.nodes.size(), kNothing);
    needed.back() = last;
    bool any = false;
    std::vector<Range> made(region.nodes.size());
    for (std::size_t i = region.nodes.size(); i-- > 0;) {
      const NodeDesc& n = nodes[region.nodes[i]];
      const Buffer& y = buffers[n.output];
      const Range rows{done[i] == kUnmade ? needed[i].begin : done[i], needed[i].end};
      const bool whole = i + 1 == region.nodes.size();
      made[i] = {std::max(rows.begin, whole ? 0 : -y.top), std::min(rows.end, y.height + (whole ? 0 : y.bottom))};
      needed[i].begin = std::max(needed[i].begin, -y.top);
      if (rows.begin >= rows.end) continue;
      done[i] = rows.end;
      any = any || made[i].begin < made[i].end;
      for (std::size_t k = 0; k < n.inputs.size(); ++k) {
        const bool window = n.op == Op::kConv2d && k == 0;
        const Range inside{std::max(rows.begin, -kFarthest), std::min(rows.end, y.height)};
        if (inside.begin >= inside.end) continue;
        const Range r = window ? window_rows(inside, n.stride_h, n.kernel_h, n.pad_top) : inside;
        for (std::size_t j = 0; j < i; ++j) {
          if (nodes[region.nodes[j]].output != n.inputs[k]) continue;
          needed[j] = {std::min(needed[j].begin, r.begin), std::max(needed[j].end, r.end)};
        }
      }
    }
    if (!any) return;
    bands.push_back(needed);
    for (std::size_t i = 0; i < made.size(); ++i) {
      region.rows[i].push_back(made[i].begin < made[i].end ? made[i] : Range{0, 0});
    }
  }

  // How many rows must exist at a time: from the oldest that this or a later band reads to the newest made.
  // Rows that nobody reads any more by the time they would be made (strides larger than windows) are left out.
  static int ring_of(std::vector<Range>& rows, const std::vector<std::vector<Range>>& needed, std::size_t i) {
    int ring = 1, oldest = 1 << 30, newest = -(1 << 30);
    std::vector<int> newest_after;
    for (const Range& r : rows) newest_after.push_back(newest = r.begin < r.end ? std::max(newest, r.end) : newest);
    for (std::size_t band = rows.size(); band-- > 0;) {
      if (needed[band][i].begin < needed[band][i].end) oldest = std::min(oldest, needed[band][i].begin);
      if (oldest < 1 << 30) ring = std::max(ring, newest_after[band] - oldest);
    }
    for (Range& r : rows) r.begin = r.begin < r.end ? std::max(r.begin, r.end - ring) : r.begin;
    return ring;
  }
};

}  // namespace

std::vector<RegionPlan> find_regions(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes,
                                     const std::vector<Buffer>& buffers, const std::vector<int>& order,
                                     const std::vector<int>& gated, const std::vector<int>& outputs,
                                     const Options& options) {
  Finder finder{values, nodes, buffers, order, gated, outputs, options, {}, {}};
  finder.find_readers();
  std::vector<RegionPlan> regions;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!finder.by_rows(order[i]) || !finder.large(order[i])) continue;
    const std::size_t end = finder.end_of(i);
    if (end == i) continue;
    finder.cut(i, end, regions);
    i = end;
  }
  return regions;
}

}  // namespace subbyte
