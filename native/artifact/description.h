// The description of a graph as it stands in a file: names, shapes, attributes; no arrays yet.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "subbyte/format.h"

namespace subbyte {

struct Grid {
  float scale = 1;
  int zero_point = 0, bits = 8;
  std::vector<std::int64_t> levels;  // none, or the 2^bits codes that occur
  int highest() const { return levels.empty() ? (1 << bits) - 1 : 255; }
  bool operator==(const Grid&) const = default;
};

struct ValueText {
  std::string name;
  std::vector<std::int64_t> shape;  // [H, W, C] or [C]
  std::optional<Grid> grid;
};

struct Plain {
  std::string dtype;
  std::vector<std::int64_t> shape;
};

struct Packed {
  Format format{};
  std::string pattern;  // none: dense
  std::vector<std::int64_t> shape;
};

struct NodeText {
  std::string name, op;
  std::vector<std::string> inputs;
  ValueText output;
  std::map<std::string, std::vector<std::int64_t>> integers;  // attributes
  std::map<std::string, double> reals;
  std::map<std::string, std::string> texts;
  std::map<std::string, Plain> plain;  // parameters by role
  std::map<std::string, Packed> packed;
};

struct GraphText {
  ValueText input;
  std::vector<std::string> outputs;
  std::vector<NodeText> nodes;
  std::vector<std::vector<std::int64_t>> tables;  // of a compact file, and how many numbers it has of each dtype
  std::vector<std::int64_t> rest;
};

// Throws std::invalid_argument for anything but such a description; lengths are bounded, meanings not yet checked.
GraphText parse_description(std::string_view text);

}  // namespace subbyte
