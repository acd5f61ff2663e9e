// Sparsity patterns of weights in a file: docs/spec/artifact.md, as subbyte/quant/sparsity.py has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace subbyte {

// "N:M": of each `group` consecutive input channels `kept` are stored. "RxC:P": of blocks of `inputs` x `outputs`
// channels `percent` are (group is 0).
struct Pattern {
  int kept = 0, group = 0;
  int inputs = 0, outputs = 0, percent = 0;
};

// Nothing for what is no name of a pattern.
std::optional<Pattern> pattern_named(std::string_view name);

// Reads what a file has next: `count` codes of a width, or numbers of a plane of `width` bits. Both throw
// std::invalid_argument if the file has fewer, or if bits behind them are not zero.
struct PatternSource {
  std::function<std::vector<std::uint8_t>(std::size_t count)> codes;
  std::function<std::vector<std::uint8_t>(std::size_t count, int width)> plane;
};

struct PatternError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

// The codes of a weight [O, ..., I] of `count` elements, 0 where none is stored. Throws PatternError for what no
// writer makes.
std::vector<std::uint8_t> unpack_pattern(const Pattern& pattern, const std::vector<std::int64_t>& shape,
                                         std::size_t count, const PatternSource& source);

}  // namespace subbyte
