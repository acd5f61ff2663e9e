// Arena planning: largest first, at the lowest offset that is free over the buffer's lifetime
// (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020, greedy by size).
//
// Under AddressSanitizer no memory is used again, and between buffers lies memory that nobody may touch.
#include <algorithm>

#include "kernels/sanitizer.h"
#include "plan/plan.h"

namespace subbyte {
namespace {

// Behind each buffer as much again and a zone: no stride within it leads past that.
std::size_t spread_out(std::vector<Buffer>& buffers, const std::vector<Lifetime>& lifetimes) {
  std::size_t at = kRedZone;
  for (const Lifetime& l : lifetimes) {
    Buffer& b = buffers[l.value];
    b.offset = static_cast<std::ptrdiff_t>(at);
    at += 2 * b.bytes + kRedZone;
  }
  return at;
}

}  // namespace

std::size_t assign_offsets(std::vector<Buffer>& buffers, const std::vector<Lifetime>& lifetimes) {
  if (kAddressSanitizer) return spread_out(buffers, lifetimes);
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

void guard_arena(const std::vector<Buffer>& buffers, const std::uint8_t* arena, std::size_t bytes) {
  if (!kAddressSanitizer) return;
  poison(arena, bytes);
  for (const Buffer& b : buffers) {
    if (b.offset >= 0) unpoison(arena + b.offset, b.bytes);
  }
}

}  // namespace subbyte
