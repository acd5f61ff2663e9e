#include "artifact/pattern.h"

#include <algorithm>
#include <bit>

namespace subbyte {
namespace {

constexpr int kMaxGroup = 64, kMaxBlock = 256;

[[noreturn]] void fail() { throw PatternError("its weights do not lie as their pattern says"); }

std::size_t parts(std::size_t count, std::size_t size) { return (count + size - 1) / size; }

// A number of 1 .. most without leading zeros, cut from the front of `text`; 0 if there is none.
int number(std::string_view& text, int most) {
  int value = 0;
  while (!text.empty() && text[0] >= '0' && text[0] <= '9' && value <= most) {
    if (value == 0 && text[0] == '0') return 0;
    value = 10 * value + (text[0] - '0');
    text.remove_prefix(1);
  }
  return value <= most ? value : 0;
}

bool cut(std::string_view& text, char c) {
  if (text.empty() || text[0] != c) return false;
  text.remove_prefix(1);
  return true;
}

std::vector<std::uint8_t> groups(const Pattern& p, std::size_t inputs, std::size_t count, const PatternSource& source) {
  const std::size_t n = static_cast<std::size_t>(p.kept), m = static_cast<std::size_t>(p.group);
  const std::size_t each = inputs / m * n + std::min(n, inputs % m), stored = count / inputs * each;
  const std::vector<std::uint8_t> values = source.codes(stored);
  const std::vector<std::uint8_t> places = source.plane(stored, std::bit_width(m - 1));
  std::vector<std::uint8_t> codes(count);
  std::size_t at = 0;
  for (std::size_t row = 0; row < count; row += inputs) {
    for (std::size_t begin = 0; begin < inputs; begin += m) {
      const std::size_t length = std::min(m, inputs - begin), kept = std::min(n, length);
      for (std::size_t i = 0; i < kept; ++i, ++at) {
        const std::size_t place = places[at];
        // ascending, within the group; a zero is stored only if all before it are
        if (place >= length || (i > 0 && place <= places[at - 1]) || (values[at] == 0 && place != i)) fail();
        codes[row + begin + place] = values[at];
      }
    }
  }
  return codes;
}

std::vector<std::uint8_t> blocks(const Pattern& p, const std::vector<std::int64_t>& shape, std::size_t count,
                                 const PatternSource& source) {
  const std::size_t outputs = static_cast<std::size_t>(shape[0]), inputs = static_cast<std::size_t>(shape.back());
  const std::size_t taps = count / outputs / inputs;
  const std::size_t high = std::min(static_cast<std::size_t>(p.outputs), outputs);
  const std::size_t wide = std::min(static_cast<std::size_t>(p.inputs), inputs);
  const std::size_t across = parts(inputs, wide), every = parts(outputs, high) * taps * across;
  const std::size_t kept = parts(every * static_cast<std::size_t>(p.percent), 100), size = high * wide;
  const std::vector<std::uint8_t> values = source.codes(kept * size);
  const std::vector<std::uint8_t> stored = source.plane(every, 1);
  if (static_cast<std::size_t>(std::count(stored.begin(), stored.end(), 1)) != kept) fail();
  std::vector<std::uint8_t> codes(count);
  for (std::size_t block = 0, k = 0; block < every; ++block) {
    if (stored[block] == 0) continue;
    const std::size_t output = block / across / taps * high, tap = block / across % taps, input = block % across * wide;
    bool zero = true;
    for (std::size_t i = 0; i < size; ++i) {
      const std::uint8_t value = values[k * size + i];
      if (value == 0) continue;
      zero = false;
      const std::size_t o = output + i / wide, c = input + i % wide;
      if (o >= outputs || c >= inputs) fail();  // behind the channels
      codes[(o * taps + tap) * inputs + c] = value;
    }
    if (zero && block != k) fail();  // one of zeros is stored only if all before it are
    ++k;
  }
  return codes;
}

}  // namespace

std::optional<Pattern> pattern_named(std::string_view name) {
  Pattern p;
  std::string_view text = name;
  p.kept = number(text, kMaxGroup);
  if (p.kept > 0 && cut(text, ':')) {
    p.group = number(text, kMaxGroup);
    return text.empty() && p.kept < p.group ? std::optional(p) : std::nullopt;
  }
  p = {}, text = name;
  p.inputs = number(text, kMaxBlock);
  if (p.inputs == 0 || !cut(text, 'x')) return std::nullopt;
  p.outputs = number(text, kMaxBlock);
  if (p.outputs == 0 || !cut(text, ':')) return std::nullopt;
  p.percent = number(text, 100);
  return p.percent > 0 && text.empty() ? std::optional(p) : std::nullopt;
}

std::vector<std::uint8_t> unpack_pattern(const Pattern& pattern, const std::vector<std::int64_t>& shape,
                                         std::size_t count, const PatternSource& source) {
  if (pattern.group > 0) return groups(pattern, static_cast<std::size_t>(shape.back()), count, source);
  return blocks(pattern, shape, count, source);
}

}  // namespace subbyte
