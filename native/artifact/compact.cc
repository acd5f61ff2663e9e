#include "artifact/compact.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "artifact/bunzip2.h"

namespace subbyte {
namespace {

constexpr int kPrecision = 12;
constexpr std::uint32_t kTotal = 1 << kPrecision, kLowest = 1 << 16;
constexpr std::int64_t kSymbols = 256;
constexpr std::size_t kMaxRest = 64 << 20, kMaxCodes = std::size_t{1} << 28;
constexpr std::size_t kMostLanes = 1024, kLeastCodes = 8192, kFreeCodes = 1 << 16, kMostCodesPerByte = 64;
constexpr struct {
  const char* dtype;
  std::size_t width;
} kOrder[] = {{"F16", 2}, {"F32", 4}, {"I32", 4}, {"I8", 1}, {"U8", 1}};

[[noreturn]] void fail(const char* text) { throw std::invalid_argument(text); }

struct Coded {
  std::size_t channels, each;
  int bits;
};

std::vector<Coded> coded_weights(const GraphText& graph, std::size_t& channels, std::size_t& codes) {
  std::vector<Coded> result;
  for (const NodeText& n : graph.nodes) {
    for (const auto& [role, p] : n.packed) {
      if (!is_coded(p)) continue;
      std::size_t count = 1;
      for (const std::int64_t extent : p.shape) {  // each at least 1, at most 2^28
        count *= static_cast<std::size_t>(extent);
        if (count > kMaxCodes) fail("it has too many parameters");
      }
      if (p.format.bits < 2 || p.format.bits > 8) fail("a coded weight has a format that this version does not know");
      const std::size_t outputs = static_cast<std::size_t>(p.shape[0]);
      result.push_back({outputs, count / outputs, p.format.bits});
      channels += outputs, codes += count;
      if (codes > kMaxCodes) fail("it has too many parameters");
    }
  }
  return result;
}

// What the low bits of a state say, for each table one after the other: a symbol, its frequency, how far behind the
// symbol's first slot they are.
struct Entry {
  std::uint16_t frequency, behind;
  std::uint8_t symbol;
};

std::vector<Entry> entries(const std::vector<std::vector<std::int64_t>>& tables) {
  std::vector<Entry> result;
  for (const std::vector<std::int64_t>& row : tables) {
    const auto bad = [](std::int64_t f) { return f < 0 || f > static_cast<std::int64_t>(kTotal); };
    const bool fits = row.size() > 1 && row[0] >= 0 && row[0] + static_cast<std::int64_t>(row.size()) - 1 <= kSymbols;
    if (!fits || std::any_of(row.begin() + 1, row.end(), bad) || row[1] == 0 || row.back() == 0) {
      fail("it has a table of frequencies that no writer makes");
    }
    std::int64_t sum = 0;
    for (std::size_t i = 1; i < row.size(); ++i) {
      sum += row[i];
      if (sum > static_cast<std::int64_t>(kTotal)) break;
      for (std::int64_t slot = 0; slot < row[i]; ++slot) {
        result.push_back({static_cast<std::uint16_t>(row[i]), static_cast<std::uint16_t>(slot),
                          static_cast<std::uint8_t>(row[0] + static_cast<std::int64_t>(i) - 1)});
      }
    }
    if (sum != static_cast<std::int64_t>(kTotal)) fail("it has a table of frequencies that no writer makes");
  }
  return result;
}

std::vector<std::uint8_t> decoded(const Tensor& stream, const std::vector<Coded>& weights, const std::uint8_t* of,
                                  const std::vector<Entry>& found, std::size_t count) {
  const std::size_t lanes = std::clamp(count / kLeastCodes, std::size_t{1}, kMostLanes);
  if (stream.bytes < 4 * lanes || stream.bytes % 2 != 0 || count > kFreeCodes + kMostCodesPerByte * stream.bytes) {
    fail("its coded weights are truncated");
  }
  std::vector<std::uint32_t> states(lanes);
  std::memcpy(states.data(), stream.data, 4 * lanes);
  const std::uint8_t *next = stream.data + 4 * lanes, *end = stream.data + stream.bytes;
  std::vector<std::uint8_t> codes(count);
  std::size_t place = 0, lane = 0;
  for (const Coded& w : weights) {
    const std::uint8_t flip = static_cast<std::uint8_t>(1 << (w.bits - 1));
    const int most = (1 << w.bits) - 1;
    for (std::size_t channel = 0; channel < w.channels; ++channel) {
      const std::size_t table = *of++;
      if (table >= found.size() / kTotal) fail("its coded weights name a table that it has not");
      const Entry* entry_of = found.data() + table * kTotal;
      for (std::size_t i = 0; i < w.each; ++i) {
        std::uint32_t x = states[lane];
        const Entry e = entry_of[x & (kTotal - 1)];
        if (e.symbol > most) fail("a coded weight does not fit in its bits");
        codes[place++] = e.symbol ^ flip;
        x = e.frequency * (x >> kPrecision) + e.behind;
        if (x < kLowest) {
          if (next == end) fail("its coded weights are truncated");
          std::uint16_t word;
          std::memcpy(&word, next, 2);
          next += 2;
          x = x << 16 | word;
        }
        states[lane] = x;
        lane = lane + 1 == lanes ? 0 : lane + 1;
      }
    }
  }
  if (next != end || std::any_of(states.begin(), states.end(), [](std::uint32_t x) { return x != kLowest; })) {
    fail("its coded weights are damaged");
  }
  return codes;
}

}  // namespace

Compact expand(const GraphText& graph, const Tensor& coded, const Tensor& rest) {
  std::size_t channels = 0, count = 0;
  const std::vector<Coded> weights = coded_weights(graph, channels, count);
  if (weights.empty()) fail("it has tables of frequencies, but no weight whose codes are coded");
  std::size_t wanted = channels;
  if (graph.rest.size() != std::size(kOrder)) fail("it does not say how many numbers it has beside coded weights");
  for (std::size_t i = 0; i < std::size(kOrder); ++i) {
    if (graph.rest[i] < 0 || graph.rest[i] > static_cast<std::int64_t>(kMaxRest)) fail("it has too many numbers");
    wanted += kOrder[i].width * static_cast<std::size_t>(graph.rest[i]);
  }
  if (wanted > kMaxRest) fail("it has too much beside coded weights");
  const std::string raw = bunzip2(rest.data, rest.bytes, wanted);
  if (raw.size() != wanted) fail("its numbers are truncated, or more than its graph needs");
  Compact result;
  result.bytes.resize(wanted - channels);
  const auto* from = reinterpret_cast<const std::uint8_t*>(raw.data());
  std::uint8_t* to = result.bytes.data();
  for (std::size_t i = 0; i < std::size(kOrder); ++i) {
    const auto& [dtype, width] = kOrder[i];
    const std::size_t numbers = static_cast<std::size_t>(graph.rest[i]);
    if (numbers == 0) continue;
    for (std::size_t byte = 0; byte < width; ++byte) {
      for (std::size_t n = 0; n < numbers; ++n) to[n * width + byte] = *from++;
    }
    result.tensors[dtype] = {to, numbers, numbers * width};
    to += numbers * width;
  }
  result.codes = decoded(coded, weights, from, entries(graph.tables), count);
  return result;
}

}  // namespace subbyte
