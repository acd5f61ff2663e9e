// From a graph to steps over an arena.
#pragma once

#include <vector>

#include "exec/step.h"

namespace subbyte {

struct Plan {
  std::vector<ValueDesc> values;
  std::vector<Buffer> buffers;  // per value
  std::vector<StepPtr> steps;
  std::size_t arena_bytes = 0, scratch_bytes = 0;
  std::int64_t weight_bytes = 0;
};

// Throws std::invalid_argument naming the node where the graph is inconsistent.
Plan make_plan(std::vector<ValueDesc> values, const std::vector<NodeDesc>& nodes, int input,
               const std::vector<int>& outputs, const Options& options);

// plan/check.cc: sizes, indices, shapes and finite factors of everything a step will read.
void check_graph(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes, int input,
                 const std::vector<int>& outputs, const Options& options);

// plan/regions.cc: consecutive nodes to run depth-first. Per node: its output rows in each band, and how many
// rows of its output are kept (0 for the last one: all).
struct RegionPlan {
  std::vector<int> nodes;
  std::vector<std::vector<Range>> rows;
  std::vector<int> rings;
};
std::vector<RegionPlan> find_regions(const std::vector<ValueDesc>& values, const std::vector<NodeDesc>& nodes,
                                     const std::vector<Buffer>& buffers, const std::vector<int>& order,
                                     const std::vector<int>& gated, const std::vector<int>& outputs,
                                     const Options& options);

// A buffer's `row` and `bytes` from its shape, halo, pixels and ring.
void set_size(Buffer& b);

// plan/memory.cc: buffers live from step `first` to step `last`; assigns offsets, returns the arena's size.
struct Lifetime {
  int value, first, last;
};
std::size_t assign_offsets(std::vector<Buffer>& buffers, const std::vector<Lifetime>& lifetimes);

// Tells AddressSanitizer that nothing but these buffers may be touched in an arena.
void guard_arena(const std::vector<Buffer>& buffers, const std::uint8_t* arena, std::size_t bytes);

}  // namespace subbyte
