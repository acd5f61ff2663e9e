// Arena planning: largest first, at the lowest offset that is free over the buffer's lifetime
// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, greedy by size).
#include <algorithm>

#include "plan/plan.h"

namespace subbyte {

std::size_t assign_offsets(std::vector<Buffer>& buffers, const std::vector<Lifetime>& lifetimes) {
  std::vector<Lifetime> order = lifetimes;
  std::stable_sort(order.begin(), order.end(), [&](const Lifetime& a, const Lifetime& b) {
    return buffers[a.value].bytes > buffers[b.value].bytes;
  });
  std::size_t total = 0;
  std::vector<Lifetime> placed;  // by offset
  const auto offset_of = [&](const Lifetime& l) { return buffers[l.value].offset; };
  for (const Lifetime& l : order) {
    const auto bytes = static_cast<std::ptrdiff_t>(buffers[l.value].bytes);
    std::ptrdiff_t at = 0;
    for (const Lifetime& p : placed) {
      if (p.first > l.last || l.first > p.last) continue;
      if (offset_of(p) >= at + bytes) break;
      at = std::max(at, offset_of(p) + static_cast<std::ptrdiff_t>(buffers[p.value].bytes));
    }
    buffers[l.value].offset = at;
    total = std::max(total, static_cast<std::size_t>(at + bytes));
    const auto above = std::upper_bound(placed.begin(), placed.end(), at, [&](std::ptrdiff_t offset, const Lifetime& p) {
      return offset < offset_of(p);
    });
    placed.insert(above, l);
  }
  return total;
}

}  // namespace subbyte
