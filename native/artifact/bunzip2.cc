// The format as written down in Joe Tsai, "BZIP2: Format Specification" (2016). Every count and index that the
// data names is checked before it is used; checksums of blocks and of the stream are, too.
#include "artifact/bunzip2.h"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>
#include <vector>

namespace subbyte {
namespace {

constexpr int kMaxCodeLength = 20, kGroupSize = 50, kMaxSelectors = 18002, kMaxTables = 6;
constexpr std::uint64_t kBlockMagic = 0x314159265359, kEndMagic = 0x177245385090;

[[noreturn]] void fail() { throw std::invalid_argument("its graph cannot be decompressed"); }

class Bits {
 public:
  Bits(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  // The next `count` <= 48 bits, the first one highest.
  std::uint64_t take(int count) {
    std::uint64_t value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (at_ / 8 >= size_) fail();
      value = value << 1 | (data_[at_ / 8] >> (7 - at_ % 8) & 1);
    }
    return value;
  }
  bool at_last_byte() const { return (at_ + 7) / 8 == size_; }

 private:
  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;  // at_ in bits
};

std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i << 24;
    for (int bit = 0; bit < 8; ++bit) value = value << 1 ^ (value >> 31 ? 0x04c11db7u : 0u);
    table[i] = value;
  }
  return table;
}

// A canonical Huffman code: lengths of all symbols to a decoder that reads a bit at a time.
class Huffman {
 public:
  explicit Huffman(const std::vector<int>& lengths) : symbols_(lengths.size()) {
    for (const int length : lengths) ++count_[length];
    std::array<int, kMaxCodeLength + 2> next{};
    for (int length = 1; length <= kMaxCodeLength; ++length) next[length + 1] = next[length] + count_[length];
    for (std::size_t s = 0; s < lengths.size(); ++s) symbols_[next[lengths[s]]++] = static_cast<std::uint16_t>(s);
  }

  int decode(Bits& bits) const {
    int code = 0, first = 0, index = 0;
    for (int length = 1; length <= kMaxCodeLength; ++length) {
      code |= static_cast<int>(bits.take(1));
      if (code - first < count_[length]) return symbols_[index + code - first];
      index += count_[length];
      first = (first + count_[length]) << 1;
      code <<= 1;
    }
    fail();
  }

 private:
  std::array<int, kMaxCodeLength + 1> count_{};
  std::vector<std::uint16_t> symbols_;
};

template <typename List>
void to_front(List& order, int place) {
  std::rotate(order.begin(), order.begin() + place, order.begin() + place + 1);
}

std::vector<std::uint8_t> used_bytes(Bits& bits) {
  std::vector<std::uint8_t> used;
  const auto ranges = bits.take(16);
  for (int i = 0; i < 16; ++i) {
    if (!(ranges >> (15 - i) & 1)) continue;
    const auto map = bits.take(16);
    for (int j = 0; j < 16; ++j) {
      if (map >> (15 - j) & 1) used.push_back(static_cast<std::uint8_t>(16 * i + j));
    }
  }
  if (used.empty()) fail();
  return used;
}

std::vector<std::uint8_t> read_selectors(Bits& bits, int tables) {
  const int count = static_cast<int>(bits.take(15));
  if (count < 1 || count > kMaxSelectors) fail();
  std::vector<std::uint8_t> selectors;
  std::array<std::uint8_t, kMaxTables> order{0, 1, 2, 3, 4, 5};
  for (int i = 0; i < count; ++i) {
    int place = 0;
    while (bits.take(1)) {
      if (++place == tables) fail();
    }
    to_front(order, place);
    selectors.push_back(order[0]);
  }
  return selectors;
}

Huffman read_code(Bits& bits, std::size_t symbols) {
  std::vector<int> lengths;
  int length = static_cast<int>(bits.take(5));
  for (std::size_t s = 0; s < symbols; ++s) {
    for (;;) {
      if (length < 1 || length > kMaxCodeLength) fail();
      if (!bits.take(1)) break;
      length += bits.take(1) ? -1 : 1;
    }
    lengths.push_back(length);
  }
  return Huffman(lengths);
}

// The bytes of a block before the Burrows-Wheeler transform is undone: Huffman codes, runs and move-to-front.
std::vector<std::uint32_t> read_symbols(Bits& bits, std::size_t most) {
  std::vector<std::uint8_t> order = used_bytes(bits);
  const int tables = static_cast<int>(bits.take(3));
  if (tables < 2 || tables > kMaxTables) fail();
  const std::vector<std::uint8_t> selectors = read_selectors(bits, tables);
  const int end = static_cast<int>(order.size()) + 1;
  std::vector<Huffman> codes;
  for (int i = 0; i < tables; ++i) codes.push_back(read_code(bits, static_cast<std::size_t>(end) + 1));

  std::vector<std::uint32_t> bytes;
  std::size_t run = 0, weight = 1;
  for (const std::uint8_t selector : selectors) {
    for (int i = 0; i < kGroupSize; ++i) {
      const int symbol = codes[selector].decode(bits);
      if (symbol <= 1) {  // digits of a run's length, base 2 with the digits 1 and 2
        run += weight << symbol;
        weight <<= 1;
        if (run > most - bytes.size()) fail();
        continue;
      }
      bytes.insert(bytes.end(), run, order[0]);
      run = 0, weight = 1;
      if (symbol == end) return bytes;
      if (bytes.size() == most) fail();
      to_front(order, symbol - 1);
      bytes.push_back(order[0]);
    }
  }
  fail();
}

// Undoes the transform in place: the low byte of an entry is a byte, the rest the place of the next one.
void link(std::vector<std::uint32_t>& bytes) {
  std::array<std::uint32_t, 256> place{};
  for (const std::uint32_t b : bytes) ++place[b & 0xff];
  std::uint32_t sum = 0;
  for (std::uint32_t& p : place) sum += std::exchange(p, sum);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[place[bytes[i] & 0xff]++] |= static_cast<std::uint32_t>(i) << 8;
  }
}

class Decoder {
 public:
  Decoder(const std::uint8_t* data, std::size_t size, std::size_t most) : bits_(data, size), most_(most) {}

  std::string decode() {
    if (bits_.take(24) != 0x425a68) fail();  // "BZh"
    const auto level = bits_.take(8) - '0';
    if (level < 1 || level > 9) fail();
    std::uint32_t combined = 0;
    for (;;) {
      const std::uint64_t magic = bits_.take(48);
      const auto checksum = static_cast<std::uint32_t>(bits_.take(32));
      if (magic == kEndMagic) {
        if (checksum != combined || !bits_.at_last_byte()) fail();
        return std::move(text_);
      }
      if (magic != kBlockMagic || block(static_cast<std::size_t>(level) * 100000) != checksum) fail();
      combined = (combined << 1 | combined >> 31) ^ checksum;
    }
  }

 private:
  Bits bits_;
  std::size_t most_;
  std::string text_;
  std::array<std::uint32_t, 256> crc_ = crc_table();

  // Appends a block's text and returns its checksum.
  std::uint32_t block(std::size_t most) {
    if (bits_.take(1)) fail();  // randomised: no encoder of this century
    const std::size_t first = bits_.take(24);
    std::vector<std::uint32_t> bytes = read_symbols(bits_, most);
    if (first >= bytes.size()) fail();
    link(bytes);
    std::uint32_t crc = ~0u, at = bytes[first] >> 8;
    int repeats = 0, last = -1;
    for (std::size_t i = 0; i < bytes.size(); ++i, at = bytes[at] >> 8) {
      const int byte = static_cast<int>(bytes[at] & 0xff);
      std::size_t count = 1;
      if (repeats == 4) {  // four equal bytes: then comes how many more
        count = static_cast<std::size_t>(byte);
        repeats = 0;
      } else {
        repeats = byte == last ? repeats + 1 : 1;
        last = byte;
      }
      if (count > most_ - text_.size()) fail();
      text_.append(count, static_cast<char>(last));
      for (; count > 0; --count) crc = crc << 8 ^ crc_[crc >> 24 ^ static_cast<std::uint32_t>(last)];
    }
    return ~crc;
  }
};

}  // namespace

std::string bunzip2(const std::uint8_t* data, std::size_t size, std::size_t most) {
  return Decoder(data, size, most).decode();
}

}  // namespace subbyte
