// Halos and spacing, fusion of gates, lifetimes, and one step per remaining node.
#include "plan/plan.h"

#include <algorithm>
#include <numeric>

#include "kernels/depthwise/depthwise.h"
#include "kernels/sanitizer.h"
#include "ops/ops.h"

namespace subbyte {
namespace {

std::vector<std::vector<int>> readers(std::size_t values, const std::vector<NodeDesc>& nodes) {
  std::vector<std::vector<int>> result(values);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (const int v : nodes[i].inputs) result[v].push_back(static_cast<int>(i));
  }
  return result;
}

std::vector<char> marked(std::size_t values, const std::vector<int>& some) {
  std::vector<char> result(values, 0);
  for (const int v : some) result[v] = 1;
  return result;
}

// gated[i] = the `mul` whose result conv i alone reads, through a 1 x 1 window: applied while loading.
std::vector<int> find_gates(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes,
                            const std::vector<int>& outputs) {
  const auto read_by = readers(values.size(), nodes);
  const std::vector<char> is_output = marked(values.size(), outputs);
  std::vector<int> gated(nodes.size(), -1);
  for (std::size_t m = 0; m < nodes.size(); ++m) {
    const NodeDesc& mul = nodes[m];
    if (mul.op != Op::kMul || !values[mul.output].quantized || read_by[mul.output].size() != 1) continue;
    if (is_output[mul.output]) continue;
    const int reader = read_by[mul.output][0];
    const NodeDesc& conv = nodes[reader];
    const bool pointwise = conv.op == Op::kConv2d && conv.inputs[0] == mul.output && conv.groups == 1 &&
                           conv.kernel_h == 1 && conv.kernel_w == 1 && conv.stride_h == 1 && conv.stride_w == 1;
    if (pointwise) gated[reader] = static_cast<int>(m);
  }
  return gated;
}

void add_halos(const std::vector<NodeDesc>& nodes, const std::vector<ValueDesc>& values, std::vector<Buffer>& b) {
  for (const NodeDesc& n : nodes) {
    if (!info_of(n.op).is(kWeighted) || !values[n.inputs[0]].quantized) continue;
    Buffer& x = b[n.inputs[0]];
    x.top = std::max(x.top, n.pad_top), x.bottom = std::max(x.bottom, n.pad_bottom);
    x.left = std::max(x.left, n.pad_left), x.right = std::max(x.right, n.pad_right);
  }
}

Buffer make_buffer(const ValueDesc& v) {
  Buffer b;
  b.height = v.height, b.width = v.width, b.channels = v.channels;
  b.quantized = v.quantized;
  b.zero_point = v.zero_point;
  b.element = v.quantized ? 1 : 4;
  b.pixel = v.quantized ? (v.channels + 3) / 4 * 4 : 4 * static_cast<std::ptrdiff_t>(v.channels);
  return b;
}

// What a convolution makes and only depthwise layers read starts every pixel at a cache line, and not at multiples of
// 256 bytes: vectors of channels that lie across two lines, or pixels that share their sets of the first-level cache,
// cost such a layer a tenth to a quarter of its time. A vector of fewer channels is filled with two pixels' anyway.
void spread_pixels(const std::vector<NodeDesc>& nodes, const std::vector<ValueDesc>& values,
                   const std::vector<int>& outputs, std::vector<Buffer>& b) {
  constexpr std::ptrdiff_t kLine = 64, kFewest = 32;
  const auto read_by = readers(values.size(), nodes);
  const std::vector<char> is_output = marked(values.size(), outputs);
  for (const NodeDesc& maker : nodes) {
    const int v = maker.output;
    if (!info_of(maker.op).is(kWeighted) || !values[v].quantized || b[v].pixel <= kFewest || read_by[v].empty()) continue;
    if (is_output[v]) continue;
    const bool depthwise = std::all_of(read_by[v].begin(), read_by[v].end(), [&](int reader) {
      const NodeDesc& n = nodes[reader];
      return info_of(n.op).is(kWeighted) && is_depthwise(n, values[v], values[n.output]);
    });
    if (!depthwise) continue;
    b[v].pixel = (b[v].pixel + kLine - 1) / kLine * kLine;
    if (b[v].pixel % (4 * kLine) == 0) b[v].pixel += kLine;
  }
}

// All of a step's row that its family does not say.
void describe(const NodeDesc& n, const std::vector<ValueDesc>& values, const Buffer& y, const Options& o, StepInfo& i) {
  const ValueDesc& x = values[n.inputs[0]];
  const ValueDesc& out = values[n.output];
  i.name = n.name;
  i.op = info_of(n.op).name;
  i.isa = o.isa;
  const bool levels = x.level_bits > 0;
  i.requested_activations =
      format_text(x.quantized ? Format{Kind::kUint, levels ? x.level_bits : x.bits, levels} : kFp32);
  i.executed_activations = format_text(x.quantized ? kUint8 : kFp32);  // codes are bytes whatever their width
  if (info_of(n.op).is(kWeighted)) {
    i.requested_weights = n.weight_format;
    i.macs = static_cast<std::int64_t>(out.height) * out.width * out.channels * n.kernel_h * n.kernel_w *
             (x.channels / n.groups);
  }
  i.buffer_offset = y.offset;
  i.buffer_bytes = static_cast<std::int64_t>(y.bytes);
  i.height = out.height, i.width = out.width, i.channels = out.channels;
}

// Everything about the graph that a step's construction looks at.
struct Builder {
  const std::vector<NodeDesc>& nodes;
  const std::vector<int>& gated;
  const Options& options;
  const Plan& plan;
  const std::vector<std::int64_t>& live;  // per node: bytes of the buffers that exist while it runs

  StepPtr make(std::size_t index) const {
    const NodeDesc& n = nodes[index];
    const Buffer& y = plan.buffers[n.output];
    Operation o{n, options, {}, plan.values[n.output], {}, &y};
    for (const int i : n.inputs) o.in.push_back(&plan.values[i]), o.x.push_back(&plan.buffers[i]);
    GateSource gate{};
    Buffer ungated;
    if (gated[index] >= 0) {
      const NodeDesc& mul = nodes[gated[index]];
      const ValueDesc& product = plan.values[mul.output];
      gate = {&plan.buffers[mul.inputs[1]], plan.values[mul.inputs[0]].zero_point, plan.values[mul.inputs[1]].zero_point,
              product.zero_point, (1 << product.bits) - 1, &mul.multiplier};
      // The operand is the ungated tensor; its zero point, for the bias, is that of the gated one.
      ungated = plan.buffers[mul.inputs[0]];
      ungated.zero_point = product.zero_point;
      o.x[0] = &ungated, o.gate = &gate;
    }
    StepPtr step = functions_of(n.op).make(o);
    describe(n, plan.values, y, options, step->info);
    step->info.weight_bytes = step->weight_bytes();
    step->info.live_bytes = live[index];
    if (gated[index] >= 0) step->info.kernel += " + gate";
    return step;
  }

  StepPtr make_region_step(const RegionPlan& r, int index) const {
    std::vector<RegionStep> steps;
    for (std::size_t i = 0; i < r.nodes.size(); ++i) {
      StepPtr step = make(static_cast<std::size_t>(r.nodes[i]));
      step->info.region = index;
      step->info.line_buffer_rows = r.lines[i];
      step->info.row_tiles = static_cast<int>(r.rows[i].size());
      for (const Range& rows : r.rows[i]) step->info.tile_rows = std::max(step->info.tile_rows, rows.end - rows.begin);
      steps.push_back({std::move(step), plan.buffers[nodes[r.nodes[i]].output], r.rows[i]});
    }
    return make_region(std::move(steps));
  }
};

// When each node runs: all of a region at the time of its last node.
std::vector<int> times_of(std::size_t nodes, const std::vector<RegionPlan>& regions) {
  std::vector<int> time(nodes);
  std::iota(time.begin(), time.end(), 0);
  for (const RegionPlan& r : regions) {
    for (const int i : r.nodes) time[i] = r.nodes.back();
  }
  return time;
}

// A value lives from the node that makes it to the last that reads it; a fused gate's operands live until the
// convolution that applies it.
std::vector<Lifetime> lifetimes_of(std::size_t values, const std::vector<NodeDesc>& nodes, const std::vector<int>& gated,
                                   const std::vector<int>& order, const std::vector<int>& time,
                                   const std::vector<int>& outputs) {
  std::vector<int> first(values, -1), last(values, -1);
  for (const int i : order) {
    first[nodes[i].output] = last[nodes[i].output] = time[i];
    for (const int v : nodes[i].inputs) last[v] = time[i];
    if (gated[i] < 0) continue;
    for (const int v : nodes[gated[i]].inputs) last[v] = time[i];
  }
  for (const int o : outputs) last[o] = static_cast<int>(nodes.size());
  std::vector<Lifetime> lifetimes;
  for (std::size_t v = 0; v < values; ++v) {
    if (first[v] >= 0) lifetimes.push_back({static_cast<int>(v), first[v], last[v]});
  }
  return lifetimes;
}

std::vector<std::int64_t> live_bytes(const std::vector<int>& time, const std::vector<Lifetime>& lifetimes,
                                     const std::vector<Buffer>& buffers) {
  std::vector<std::int64_t> changes(time.size() + 2, 0), live(time.size());
  for (const Lifetime& l : lifetimes) {
    changes[static_cast<std::size_t>(l.first)] += static_cast<std::int64_t>(buffers[l.value].bytes);
    changes[static_cast<std::size_t>(l.last) + 1] -= static_cast<std::int64_t>(buffers[l.value].bytes);
  }
  std::partial_sum(changes.begin(), changes.end(), changes.begin());
  for (std::size_t i = 0; i < time.size(); ++i) live[i] = changes[static_cast<std::size_t>(time[i])];
  return live;
}

void set_ahead(const std::vector<StepPtr>& steps, std::size_t i) {
  if (!steps[i]->hides_prefetch()) return;
  for (std::size_t j = i + 1; j < steps.size(); ++j) {
    const Span weights = steps[j]->first_weights();
    if (weights.size > 0) steps[i]->ahead.push_back(weights);
    if (steps[j]->hides_prefetch()) return;
  }
}

}  // namespace

void set_size(Buffer& b) {
  b.row = (b.left + b.width + b.right) * b.pixel;
  // Kernels read ahead: a window of pixels for depthwise, a vector for the rest.
  const std::ptrdiff_t slack = (b.quantized ? depthwise::kReadAhead * b.pixel : 0) + 256;
  const std::ptrdiff_t rows = b.lines > 0 ? b.lines : b.top + b.height + b.bottom;
  const std::ptrdiff_t bytes = rows * b.row + slack;
  b.bytes = static_cast<std::size_t>((bytes + 63) / 64 * 64);
}

Plan make_plan(std::vector<ValueDesc> values, const std::vector<NodeDesc>& nodes, int input,
               const std::vector<int>& outputs, const Options& options) {
  check_graph(values, nodes, input, outputs, options);
  const Budget budget = make_budget(values, nodes, input, outputs, options);
  Plan plan;
  plan.values = std::move(values);
  for (const ValueDesc& v : plan.values) plan.buffers.push_back(make_buffer(v));
  add_halos(nodes, plan.values, plan.buffers);
  spread_pixels(nodes, plan.values, outputs, plan.buffers);
  for (Buffer& b : plan.buffers) set_size(b);

  const std::vector<int> gated = find_gates(plan.values, nodes, outputs);
  std::vector<char> fused(nodes.size(), 0);
  for (const int m : gated) {
    if (m >= 0) fused[m] = 1;
  }
  std::vector<int> order;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (!fused[i]) order.push_back(static_cast<int>(i));
  }
  std::vector<RegionPlan> regions;
  if (options.depth_first_above >= 0) {
    regions = find_regions(plan.values, nodes, plan.buffers, order, gated, outputs, options, plan.region_work);
  }
  for (const RegionPlan& r : regions) {
    for (std::size_t i = 0; i < r.nodes.size(); ++i) {
      Buffer& b = plan.buffers[nodes[r.nodes[i]].output];
      b.lines = r.lines[i];
      set_size(b);
    }
  }
  const std::vector<int> time = times_of(nodes.size(), regions);
  const std::vector<Lifetime> lifetimes = lifetimes_of(plan.values.size(), nodes, gated, order, time, outputs);
  plan.arena_bytes = assign_offsets(plan.buffers, lifetimes);
  const auto arena_bytes = static_cast<std::int64_t>(plan.arena_bytes);
  budget.check(arena_bytes, 0, packed_bytes(plan.values, nodes, plan.buffers, options.isa));

  const std::vector<std::int64_t> live = live_bytes(time, lifetimes, plan.buffers);
  const Builder builder{nodes, gated, options, plan, live};
  std::size_t next_region = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (next_region < regions.size() && regions[next_region].nodes[0] == order[i]) {
      const RegionPlan& r = regions[next_region];
      plan.steps.push_back(builder.make_region_step(r, static_cast<int>(next_region)));
      i += r.nodes.size() - 1;
      ++next_region;
    } else {
      plan.steps.push_back(builder.make(static_cast<std::size_t>(order[i])));
    }
    plan.scratch_bytes = std::max(plan.scratch_bytes, plan.steps.back()->scratch_bytes());
    plan.weight_bytes += plan.steps.back()->weight_bytes();
  }
  for (std::size_t i = 0; i < plan.steps.size(); ++i) set_ahead(plan.steps, i);
  if (kAddressSanitizer) plan.scratch_bytes += kRedZone;  // between the threads
  plan.scratch_bytes = (plan.scratch_bytes + 4095) / 4096 * 4096;
  budget.check(arena_bytes, static_cast<std::int64_t>(plan.scratch_bytes), plan.weight_bytes);
  return plan;
}

}  // namespace subbyte
