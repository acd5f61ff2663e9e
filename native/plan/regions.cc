// Which steps run depth-first, row tile by row tile, and the rows that each of them makes in each row tile.
//
// The cost model: a tensor larger than Options::depth_first_above does not stay in a core's second-level cache beside its producer's
// and consumer's weights, so it is written to and read back from further away; a region that keeps a few rows of
// it instead costs only the re-reading of its weights once per row tile. A region starts at the first such tensor
// and ends at the first value, read by nobody before, that is small again. Long regions keep many rows: one is cut
// in two wherever that lowers the memory that exists at a time.
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace subbyte {
namespace {

constexpr std::size_t kMaxSteps = 32;
constexpr int kRampTiles = 256;  // enough for any receptive field of kMaxSteps steps; empty ones cost nothing
constexpr int kUnmade = 1 << 30, kOutside = 1 << 30;
// Rows further above the image reach nothing (windows are at most 256 rows high), and a stride of up to 65536
// times this many still is a number.
constexpr int kFarthest = 4096;
constexpr Range kNothing{1 << 30, -(1 << 30)};
constexpr std::int64_t kMostRealWeights = 256 << 10;  // bytes of a float32 layer
constexpr int kTilePixels = 72;  // per thread, of the region's output: full tiles and few passes over the weights
// Steps times row tiles that are worked out in all, and that are kept: many times what a network of use comes to. What
// a graph has beyond that runs layer by layer, with the same integers.
constexpr std::int64_t kMostWork = 1 << 24, kMostRows = 1 << 21;

struct Finder {
  const std::vector<ValueDesc>& values;
  const std::vector<NodeDesc>& nodes;
  const std::vector<Buffer>& buffers;
  const std::vector<int>& order;  // the nodes that make a step
  const std::vector<int>& gated;
  const std::vector<int>& outputs;
  const Options& options;
  std::vector<int> last_reader = {};  // per value: a position in `order`, or kOutside
  std::vector<int> made_at = {};      // per value: a position in `order`, or -1
  std::vector<std::int64_t> before = {};  // per position: bytes made before it, and read at it or later

  std::int64_t work = 0, rows_kept = 0;

  // Of the row tiles that were run last, [tile * steps + step]:
  std::size_t first = 0, steps = 0;  // the position of the first step, and how many there are
  std::vector<Range> made = {};
  std::vector<int> oldest_read = {};
  std::vector<Range> needed = {};    // of one row tile
  std::vector<int> done = {}, newest_after = {};

  std::size_t region_begin = 0;      // of the region that is being cut
  std::vector<std::vector<std::int64_t>> line_buffer_bytes = {};  // per end: sum_line_buffers

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
    before.assign(order.size() + 1, 0);
    for (std::size_t v = 0; v < values.size(); ++v) {
      if (made_at[v] < 0 || last_reader[v] <= made_at[v]) continue;
      before[made_at[v] + 1] += static_cast<std::int64_t>(buffers[v].bytes);
      if (last_reader[v] < static_cast<int>(order.size())) {
        before[last_reader[v] + 1] -= static_cast<std::int64_t>(buffers[v].bytes);
      }
    }
    std::partial_sum(before.begin(), before.end(), before.begin());
  }

  bool by_rows(int node) const {
    const NodeDesc& n = nodes[node];
    if (gated[node] >= 0) return false;
    if (!values[n.output].quantized) return real_by_rows(n);
    if (uses_winograd(n, values[n.inputs[0]], values[n.output], options.isa)) return false;
    return info_of(n.op).is(kByRows);
  }

  // float32 convolutions with weights that stay in the second-level cache beside the rows.
  bool real_by_rows(const NodeDesc& n) const {
    return info_of(n.op).is(kByRows) && info_of(n.op).is(kWeighted) && !values[n.inputs[0]].quantized &&
           !uses_real_winograd(n, values[n.inputs[0]], values[n.output]) &&
           static_cast<std::int64_t>(n.weight_real.size() * sizeof(float)) <= kMostRealWeights;
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
    const bool quantized = values[nodes[order[begin]].output].quantized;
    for (std::size_t i = begin + 1; i < order.size() && i - begin < kMaxSteps && by_rows(order[i]); ++i) {
      if (values[nodes[order[i]].output].quantized != quantized) break;
      if (!closed(begin, i)) continue;
      best = i;
      if (!large(order[i])) break;
    }
    return best;
  }

  // The rows of order[begin .. end] in each row tile, from the last step back to the first: what is read of each step's
  // output, and what no earlier row tile has made of that. It depends on later steps only, so one run serves every
  // region with this end. False if there is not enough left to pay for it.
  bool run_tiles(std::size_t begin, std::size_t end) {
    const Buffer& last = buffers[nodes[order[end]].output];
    const int height = std::max(1, (kTilePixels * options.threads + last.width - 1) / last.width);
    const int tiles = (last.height + height - 1) / height;
    first = begin, steps = end - begin + 1;
    const std::int64_t cost = static_cast<std::int64_t>(kRampTiles + tiles) * static_cast<std::int64_t>(steps);
    if (work + cost > kMostWork) return false;
    work += cost;
    made.clear(), oldest_read.clear();
    done.assign(steps, kUnmade);
    // Row tiles above the image come first: they make the earlier steps' first rows little by little.
    for (int y = -kRampTiles * height; y < 0; y += height) run_tile({y, y + height});
    for (int tile = 0; tile < tiles; ++tile) run_tile(share(last.height, tile, tiles));
    return true;
  }

  // Rows beyond the image and its padding are nobody's work.
  void run_tile(Range last) {
    needed.assign(steps, kNothing);
    needed.back() = last;
    bool any = false;
    const std::size_t at = made.size();
    made.resize(at + steps), oldest_read.resize(at + steps);
    for (std::size_t i = steps; i-- > 0;) {
      const NodeDesc& n = nodes[order[first + i]];
      const Buffer& y = buffers[n.output];
      const Range rows{done[i] == kUnmade ? needed[i].begin : done[i], needed[i].end};
      const bool whole = i + 1 == steps;
      Range& m = made[at + i];
      m = {std::max(rows.begin, whole ? 0 : -y.top), std::min(rows.end, y.height + (whole ? 0 : y.bottom))};
      if (m.begin >= m.end) m = {0, 0};
      needed[i].begin = std::max(needed[i].begin, -y.top);
      oldest_read[at + i] = needed[i].begin < needed[i].end ? needed[i].begin : kUnmade;
      if (rows.begin >= rows.end) continue;
      done[i] = rows.end;
      any = any || m.end > m.begin;
      for (std::size_t k = 0; k < n.inputs.size(); ++k) {
        const int j = made_at[n.inputs[k]];
        if (j < static_cast<int>(first)) continue;
        const bool window = info_of(n.op).is(kWeighted) && k == 0;
        const Range inside{std::max(rows.begin, -kFarthest), std::min(rows.end, y.height)};
        if (inside.begin >= inside.end) continue;
        const Range r = window ? window_rows(inside, n.stride_h, n.reach_h(), n.pad_top) : inside;
        Range& read = needed[static_cast<std::size_t>(j) - first];
        read = {std::min(read.begin, r.begin), std::max(read.end, r.end)};
      }
    }
    if (!any) made.resize(at), oldest_read.resize(at);
  }

  // How many rows of step i must exist at a time: from the oldest that this or a later row tile reads to the newest made.
  int lines_of(std::size_t i) {
    const std::size_t tiles = made.size() / steps;
    newest_after.clear();
    int newest = -(1 << 30);
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      const Range& r = made[tile * steps + i];
      newest_after.push_back(newest = r.begin < r.end ? std::max(newest, r.end) : newest);
    }
    int lines = 1, oldest = kUnmade;
    for (std::size_t tile = tiles; tile-- > 0;) {
      oldest = std::min(oldest, oldest_read[tile * steps + i]);
      if (oldest < kUnmade) lines = std::max(lines, newest_after[tile] - oldest);
    }
    return lines;
  }

  // Bytes of all buffers that exist while order[begin .. end] run as a region, or as one step. -1: too much work.
  std::int64_t live_bytes(std::size_t begin, std::size_t end) {
    const NodeDesc& n = nodes[order[end]];
    if (begin == end) return before[begin] + static_cast<std::int64_t>(buffers[n.output].bytes);
    std::vector<std::int64_t>& known = line_buffer_bytes[end - region_begin];
    if (known.empty() && !sum_line_buffers(end, known)) return -1;
    return before[begin] + known[begin - region_begin];
  }

  // sums[i]: bytes of what the steps from region_begin + i to `end` make, the last of them whole.
  bool sum_line_buffers(std::size_t end, std::vector<std::int64_t>& sums) {
    if (!run_tiles(region_begin, end)) return false;
    sums.assign(steps, 0);
    std::int64_t total = 0;
    for (std::size_t i = steps; i-- > 0; sums[i] = total) {
      Buffer b = buffers[nodes[order[first + i]].output];
      b.lines = i + 1 == steps ? 0 : lines_of(i);
      set_size(b);
      total += static_cast<std::int64_t>(b.bytes);
    }
    return true;
  }

  // Appends order[begin .. end] as one region or several, with single steps between them. False: too much work.
  bool cut(std::size_t begin, std::size_t end, std::vector<RegionPlan>& regions) {
    if (begin == end) return true;
    std::int64_t least = live_bytes(begin, end);
    std::size_t best = end;
    for (std::size_t i = begin; i < end && least >= 0; ++i) {
      if (!closed(begin, i)) continue;
      const std::int64_t head = live_bytes(begin, i), tail = live_bytes(i + 1, end);
      if (head < 0 || tail < 0) return false;
      if (std::max(head, tail) < least) least = std::max(head, tail), best = i;
    }
    if (least < 0) return false;
    if (best == end) return make(begin, end, regions);
    return cut(begin, best, regions) && cut(best + 1, end, regions);
  }

  bool make(std::size_t begin, std::size_t end, std::vector<RegionPlan>& regions) {
    if (!run_tiles(begin, end)) return false;
    const auto rows = static_cast<std::int64_t>(made.size());
    if (rows_kept + rows > kMostRows) return false;
    rows_kept += rows;
    RegionPlan region;
    region.rows.resize(steps);
    for (std::size_t i = 0; i < steps; ++i) {
      const int lines = lines_of(i);
      for (std::size_t at = i; at < made.size(); at += steps) {
        // Rows that nobody reads any more by the time they would be made (strides larger than windows) are left out.
        Range& r = made[at];
        r.begin = r.begin < r.end ? std::max(r.begin, r.end - lines) : r.begin;
        region.rows[i].push_back(r);
      }
      region.nodes.push_back(order[begin + i]);
      region.lines.push_back(i + 1 == steps ? 0 : lines);  // the region's result is a whole tensor
    }
    regions.push_back(std::move(region));
    return true;
  }
};

}  // namespace

std::vector<RegionPlan> find_regions(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes,
                                     const std::vector<Buffer>& buffers, const std::vector<int>& order,
                                     const std::vector<int>& gated, const std::vector<int>& outputs,
                                     const Options& options, std::int64_t& work) {
  Finder finder{values, nodes, buffers, order, gated, outputs, options};
  finder.find_readers();
  std::vector<RegionPlan> regions;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (!finder.by_rows(order[i]) || !finder.large(order[i])) continue;
    const std::size_t end = finder.end_of(i), before = regions.size();
    if (end == i) continue;
    finder.region_begin = i;
    finder.line_buffer_bytes.assign(kMaxSteps, {});
    if (!finder.cut(i, end, regions)) {
      regions.resize(before);
      break;
    }
    i = end;
  }
  work = finder.work;
  return regions;
}

}  // namespace subbyte
