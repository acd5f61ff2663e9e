#include "artifact/json.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace subbyte {
namespace {

constexpr int kMaxDepth = 32;
constexpr std::size_t kMaxDigits = 32, kMaxPunctuation = std::size_t{1} << 19;

void append_utf8(std::string& s, unsigned c) {
  if (c < 0x80) {
    s += static_cast<char>(c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  constexpr unsigned kLead[] = {0, 0xc0, 0xe0, 0xf0};
  s += static_cast<char>(kLead[more] | c >> (6 * more));
  for (int i = more - 1; i >= 0; --i) s += static_cast<char>(0x80 | (c >> (6 * i) & 0x3f));
}

// Well-formed sequences as in table 3-7 of the Unicode standard.
bool is_utf8(std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const auto lead = static_cast<unsigned char>(s[i]);
    const int more = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : (lead & 0xf0) == 0xe0 ? 2
                     : lead >= 0xf0 && lead < 0xf5 ? 3 : -1;
    if (more < 0 || static_cast<std::size_t>(more) >= s.size() - i) return false;
    unsigned code = more == 0 ? lead : lead & (0x3fu >> more);
    for (int j = 1; j <= more; ++j) {
      const auto next = static_cast<unsigned char>(s[i + static_cast<std::size_t>(j)]);
      if ((next & 0xc0) != 0x80) return false;
      code = code << 6 | (next & 0x3fu);
    }
    if (more == 2 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) return false;
    if (more == 3 && (code < 0x10000 || code > 0x10ffff)) return false;
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

}  // namespace

void Json::fail(const std::string& what) { throw std::invalid_argument("malformed JSON: " + what); }

Json::Json(std::string_view text) : text_(text) {
  if (!is_utf8(text)) fail("not UTF-8");
  const auto counts = [](char c) { return c == '[' || c == '{' || c == ','; };
  if (std::count_if(text.begin(), text.end(), counts) > static_cast<std::ptrdiff_t>(kMaxPunctuation)) {
    fail("it has too many values");
  }
}

char Json::peek() {
  while (at_ < text_.size() && std::string_view(" \t\n\r").find(text_[at_]) != std::string_view::npos) ++at_;
  if (at_ == text_.size()) fail("it ends early");
  return text_[at_];
}

void Json::expect(char c) {
  if (peek() != c) fail(std::string("expected '") + c + "' at byte " + std::to_string(at_));
  ++at_;
}

void Json::open(char c) {
  expect(c);
  if (++depth_ > kMaxDepth) fail("nested deeper than " + std::to_string(kMaxDepth));
}

bool Json::more(char close, bool first) {
  if (peek() == close) {
    ++at_, --depth_;
    return false;
  }
  if (!first) {
    expect(',');
    if (peek() == close) fail("a comma before the end");
  }
  return true;
}

bool Json::word(std::string_view wanted) {
  peek();
  if (text_.substr(at_, wanted.size()) != wanted) return false;
  at_ += wanted.size();
  return true;
}

unsigned Json::hex4() {
  if (text_.size() - at_ < 4) fail("a short escape");
  unsigned code = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
  if (error != std::errc() || end != text_.data() + at_ + 4) fail("a bad escape");
  at_ += 4;
  return code;
}

void Json::escape(std::string& result) {
  if (at_ == text_.size()) fail("it ends early");
  static constexpr std::string_view kLetters = "\"\\/bfnrt", kMeanings = "\"\\/\b\f\n\r\t";
  const char letter = text_[at_++];
  if (letter != 'u') {
    const std::size_t i = kLetters.find(letter);
    if (i == std::string_view::npos) fail("an unknown escape");
    result += kMeanings[i];
    return;
  }
  unsigned code = hex4();
  if (code >= 0xd800 && code < 0xdc00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    const unsigned low = hex4();
    if (low < 0xdc00 || low >= 0xe000) fail("a lone surrogate");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  } else if (code >= 0xd800 && code < 0xe000) {
    fail("a lone surrogate");
  }
  append_utf8(result, code);
}

std::string Json::string() {
  expect('"');
  std::string result;
  for (;;) {
    if (at_ == text_.size()) fail("it ends early");
    const char c = text_[at_++];
    if (c == '"') return result;
    if (static_cast<unsigned char>(c) < 0x20) fail("a control character in a text");
    if (c == '\\') {
      escape(result);
    } else {
      result += c;
    }
  }
}

// -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
std::string_view Json::digits() {
  peek();
  const std::size_t begin = at_;
  const auto accept = [&](std::string_view set) {
    const bool is = at_ < text_.size() && set.find(text_[at_]) != std::string_view::npos;
    at_ += is;
    return is;
  };
  const auto run = [&] {
    const std::size_t first = at_;
    while (accept("0123456789")) {
    }
    if (at_ == first) fail("expected a number at byte " + std::to_string(first));
    return first;
  };
  accept("-");
  const std::size_t whole = run();
  if (text_[whole] == '0' && at_ - whole > 1) fail("a number with leading zeros");
  const bool integral = at_ == text_.size() || std::string_view(".eE").find(text_[at_]) == std::string_view::npos;
  if (integral && at_ - begin > kMaxDigits) fail("a number has too many digits");
  if (accept(".")) run();
  if (accept("eE")) {
    accept("+-");
    run();
  }
  return text_.substr(begin, at_ - begin);
}

std::int64_t Json::integer() {
  const std::string_view text = digits();
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail("'" + std::string(text.substr(0, 32)) + "' is not an integer of 64 bits");
  }
  return value;
}

std::vector<std::int64_t> Json::integers(std::size_t most) {
  std::vector<std::int64_t> result;
  array([&] {
    if (result.size() == most) fail("a list of numbers is too long");
    result.push_back(integer());
  });
  return result;
}

double Json::number() {
  const std::string_view text = digits();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail("'" + std::string(text.substr(0, 32)) + "' is not a number within float64");
  }
  return value;
}

bool Json::boolean() {
  if (word("true")) return true;
  if (word("false")) return false;
  fail("expected true or false");
}

bool Json::null() { return word("null"); }

void Json::skip() {
  switch (peek()) {
    case '{': object([this](const std::string&) { skip(); }); return;
    case '[': array([this] { skip(); }); return;
    case '"': string(); return;
    case 't':
    case 'f': boolean(); return;
    case 'n':
      if (!null()) fail("expected null");
      return;
    default: number();
  }
}

void Json::end() {
  while (at_ < text_.size()) {
    if (std::string_view(" \t\n\r").find(text_[at_]) == std::string_view::npos) fail("something follows its end");
    ++at_;
  }
}

}  // namespace subbyte
