#include "artifact/description.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>
#include <utility>

#include "artifact/json.h"

namespace subbyte {
namespace {

constexpr std::size_t kMaxNodes = 10000, kMaxInputs = 64, kMaxName = 256, kMaxFields = 16, kMaxTables = 32;

[[noreturn]] void fail(const std::string& text) { throw std::invalid_argument("graph: " + text); }

std::string name(Json& json) {
  const std::string text = json.string();
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  // the limit is 256 characters; one takes up to four bytes
  if (text.empty() || text.size() > 4 * kMaxName || std::any_of(text.begin(), text.end(), control)) {
    fail("a name is not 1..256 printable characters");
  }
  return text;
}

std::vector<std::string> names(Json& json, std::size_t most) {
  std::vector<std::string> result;
  json.array([&] {
    if (result.size() == most) fail("a list of names is too long");
    result.push_back(name(json));
  });
  return result;
}

std::vector<std::int64_t> shape(Json& json) {
  std::vector<std::int64_t> result = json.integers(4);
  const auto bad = [](std::int64_t n) { return n < 1 || n > std::int64_t{1} << 28; };
  if (result.empty() || std::any_of(result.begin(), result.end(), bad)) fail("a shape is out of range");
  return result;
}

Grid grid(Json& json) {
  Grid g;
  int position = 0;
  json.array([&] {
    switch (position++) {
      case 0: {
        const double scale = json.number();
        g.scale = static_cast<float>(scale);
        const bool exact = static_cast<double>(g.scale) == scale;
        if (!exact || !std::isnormal(g.scale) || g.scale < 0) fail("a scale is no positive float32");
        return;
      }
      case 1: g.zero_point = static_cast<int>(std::clamp<std::int64_t>(json.integer(), -1, 256)); return;
      case 2: g.bits = static_cast<int>(std::clamp<std::int64_t>(json.integer(), -1, 9)); return;
      default: fail("a grid has three numbers");
    }
  });
  const bool known = g.bits == 2 || g.bits == 3 || g.bits == 4 || g.bits == 8;
  if (position != 3 || !known || g.zero_point < 0) fail("a grid is out of range");
  return g;
}

// 2^bits different bytes in ascending order, one of them the zero point.
void check_levels(const Grid& g) {
  const std::vector<std::int64_t>& l = g.levels;
  const bool ascending = std::adjacent_find(l.begin(), l.end(), std::greater_equal<>()) == l.end();
  if (g.bits == 8 || l.size() != std::size_t{1} << g.bits || !ascending || l.front() < 0 || l.back() > 255 ||
      !std::binary_search(l.begin(), l.end(), g.zero_point)) {
    fail("levels are not 2^bits ascending bytes with the zero point among them");
  }
}

ValueText value(Json& json) {
  ValueText v;
  std::vector<std::int64_t> levels;
  json.object([&](const std::string& key) {
    if (key == "name") {
      v.name = name(json);
    } else if (key == "shape") {
      v.shape = shape(json);
    } else if (key == "grid") {
      v.grid = grid(json);
    } else if (key == "levels") {
      levels = json.integers(16);
      if (levels.empty()) fail("a value has no levels");
    } else {
      fail("a value has an unknown field");
    }
  });
  if (v.name.empty() || (v.shape.size() != 1 && v.shape.size() != 3)) fail("a value needs a name and a shape");
  if (!levels.empty()) {
    if (!v.grid) fail("a value has levels but no grid");
    v.grid->levels = std::move(levels);
    check_levels(*v.grid);
  }
  if (v.grid && v.grid->zero_point > v.grid->highest()) fail("a grid is out of range");
  return v;
}

Plain plain(Json& json) {
  Plain p;
  json.object([&](const std::string& key) {
    if (key == "dtype") {
      p.dtype = json.string();
    } else if (key == "shape") {
      p.shape = shape(json);
    } else {
      fail("a parameter has an unknown field");
    }
  });
  if (p.shape.empty() || (p.dtype != "F16" && p.dtype != "F32" && p.dtype != "I32" && p.dtype != "U8")) {
    fail("a parameter needs a known dtype and a shape");
  }
  return p;
}

Packed packed(Json& json) {
  Packed p;
  bool bits = false;
  json.object([&](const std::string& key) {
    if (key == "bits") {
      const std::int64_t b = json.integer();
      if (b < 1 || b > 64) fail("a weight's bits are out of range");
      p.format.bits = static_cast<int>(b), bits = true;
    } else if (key == "shape") {
      p.shape = shape(json);
    } else if (key == "codebook") {
      p.format.book = json.boolean();
    } else if (key == "pattern") {
      p.pattern = json.string();
      if (p.pattern.empty()) fail("a weight has a pattern without a name");
    } else {
      fail("a weight is stored in a format that this version does not know; update subbyte");
    }
  });
  if (!bits || p.shape.size() < 2) fail("a weight needs bits and a shape");
  return p;
}

void attribute(Json& json, const std::string& key, NodeText& n) {
  if (key == "act" || key == "mode") {
    n.texts[key] = json.string();
  } else if (key == "eps" || key == "pre_scale") {
    n.reals[key] = json.number();
  } else if (key == "count_pad" || key == "groups" || key == "pre_zero") {
    n.integers[key] = {json.integer()};
  } else if (key == "kernel" || key == "pad" || key == "stride") {
    n.integers[key] = json.integers(4);
  } else if (key == "begin" || key == "dims" || key == "dilation" || key == "end" || key == "perm" || key == "size" || key == "step") {
    n.integers[key] = json.integers(8);
  } else {
    fail("a node has an unknown attribute");
  }
}

template <typename T, typename F>
void roles(Json& json, std::map<std::string, T>& result, F&& read) {
  json.object([&](const std::string& role) {
    if (result.size() == kMaxFields) fail("a node has too many parameters");
    result[role] = read(json);
  });
}

NodeText node(Json& json) {
  NodeText n;
  json.object([&](const std::string& key) {
    if (key == "name") {
      n.name = name(json);
    } else if (key == "op") {
      n.op = json.string();
    } else if (key == "inputs") {
      n.inputs = names(json, kMaxInputs);
    } else if (key == "output") {
      n.output = value(json);
    } else if (key == "attrs") {
      json.object([&](const std::string& attr) { attribute(json, attr, n); });
    } else if (key == "plain") {
      roles(json, n.plain, plain);
    } else if (key == "packed") {
      roles(json, n.packed, packed);
    } else {
      fail("a node has an unknown field");
    }
  });
  if (n.name.empty() || n.output.name.empty() || n.inputs.empty()) fail("a node needs a name, inputs and an output");
  return n;
}

}  // namespace

GraphText parse_description(std::string_view text) {
  GraphText g;
  Json json(text);
  json.object([&](const std::string& key) {
    if (key == "input") {
      g.input = value(json);
    } else if (key == "outputs") {
      g.outputs = names(json, kMaxNodes);
    } else if (key == "nodes") {
      json.array([&] {
        if (g.nodes.size() == kMaxNodes) fail("it has too many nodes");
        g.nodes.push_back(node(json));
      });
    } else if (key == "tables") {
      json.array([&] {
        if (g.tables.size() == kMaxTables) fail("it has too many tables");
        g.tables.push_back(json.integers(257));
      });
      if (g.tables.empty()) fail("it has no tables");
    } else if (key == "rest") {
      g.rest = json.integers(5);
      if (g.rest.empty()) fail("it has no numbers");
    } else {
      fail("it has an unknown field");
    }
  });
  json.end();
  if (g.input.name.empty() || g.outputs.empty()) fail("it needs an input and outputs");
  if (g.tables.empty() != g.rest.empty()) fail("it needs tables and rest, or neither");
  return g;
}

}  // namespace subbyte
