// A network's dump: a flat little-endian file of the engine's descriptors and input images, in the order that `load`
// reads them (tests/arm/dump.py writes it).
#pragma once

#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "subbyte/engine.h"

namespace subbyte::tools {

class Reader {
 public:
  explicit Reader(const char* path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(std::string("cannot read ") + path);
    bytes_.assign(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }

  int integer() { return scalar<int>(); }
  float real() { return scalar<float>(); }

  // A count, then the elements.
  template <typename T>
  std::vector<T> array() {
    const int count = integer();
    if (count < 0 || static_cast<std::size_t>(count) > (bytes_.size() - at_) / sizeof(T)) fail();
    std::vector<T> values(static_cast<std::size_t>(count));
    if (count > 0) std::memcpy(values.data(), bytes_.data() + at_, values.size() * sizeof(T));
    at_ += values.size() * sizeof(T);
    return values;
  }

  std::string text() {
    const std::vector<char> letters = array<char>();
    return {letters.begin(), letters.end()};
  }

  bool at_end() const { return at_ == bytes_.size(); }

 private:
  [[noreturn]] static void fail() { throw std::runtime_error("the network's file ends early or is damaged"); }

  template <typename T>
  T scalar() {
    if (bytes_.size() - at_ < sizeof(T)) fail();
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::vector<char> bytes_;
  std::size_t at_ = 0;
};

inline ValueDesc value(Reader& r) {
  ValueDesc v;
  v.name = r.text();
  v.height = r.integer(), v.width = r.integer(), v.channels = r.integer();
  v.quantized = r.integer() != 0;
  v.scale = r.real();
  v.zero_point = r.integer(), v.bits = r.integer();
  return v;
}

inline NodeDesc node(Reader& r) {
  NodeDesc n;
  n.name = r.text();
  n.op = static_cast<Op>(r.integer());
  n.inputs = r.array<int>();
  n.output = r.integer();
  n.act = static_cast<Act>(r.integer());
  n.kernel_h = r.integer(), n.kernel_w = r.integer(), n.stride_h = r.integer(), n.stride_w = r.integer();
  n.pad_top = r.integer(), n.pad_bottom = r.integer(), n.pad_left = r.integer(), n.pad_right = r.integer();
  n.groups = r.integer();
  n.weight_bits = r.integer();
  n.weight_packed = r.array<std::uint8_t>();
  n.levels = r.array<std::int8_t>();
  n.bias = r.array<std::int32_t>();
  n.multiplier = r.array<float>();
  n.clamp_low = r.integer(), n.clamp_high = r.integer();
  n.has_table = r.integer() != 0;
  n.pre_zero = r.integer();
  n.table = r.array<std::uint8_t>();
  n.weight_real = r.array<float>(), n.bias_real = r.array<float>();
  n.half_precision = r.integer() != 0;
  n.factor_a = r.real(), n.factor_b = r.real();
  return n;
}

struct Dump {
  std::vector<ValueDesc> values;
  std::vector<NodeDesc> nodes;
  int input = 0, images = 0;
  std::vector<int> outputs;
  std::vector<float> x;  // [images, H, W, C]

  // Floats of one image of a value.
  std::size_t elements(int index) const {
    const ValueDesc& v = values[static_cast<std::size_t>(index)];
    return static_cast<std::size_t>(v.height) * static_cast<std::size_t>(v.width) * static_cast<std::size_t>(v.channels);
  }
};

inline Dump load(const char* path) {
  Reader r(path);
  if (r.text() != "subbyte dump 1") throw std::runtime_error("not a network's dump");
  Dump d;
  d.values.resize(static_cast<std::size_t>(r.integer()));
  for (ValueDesc& v : d.values) v = value(r);
  d.nodes.resize(static_cast<std::size_t>(r.integer()));
  for (NodeDesc& n : d.nodes) n = node(r);
  d.input = r.integer();
  d.outputs = r.array<int>();
  d.images = r.integer();
  d.x = r.array<float>();
  if (!r.at_end()) throw std::runtime_error("the network's file is longer than its contents");
  return d;
}

inline Isa isa_of(const std::string& name) {
  for (int i = 0; i < kIsaCount; ++i) {
    if (name == isa_name(static_cast<Isa>(i))) return static_cast<Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'");
}

// The outputs of all images, one vector each. The model is the dump's.
inline std::vector<std::vector<float>> run(Model& model, const Dump& d) {
  if (d.images < 0 || d.x.size() != static_cast<std::size_t>(d.images) * d.elements(d.input)) {
    throw std::runtime_error("the images do not fit the network");
  }
  std::vector<std::vector<float>> results;
  for (const int o : d.outputs) results.emplace_back(static_cast<std::size_t>(d.images) * d.elements(o));
  std::vector<float*> pointers;
  for (std::vector<float>& y : results) pointers.push_back(y.data());
  model.run(d.x.data(), d.images, pointers.data());
  return results;
}

}  // namespace subbyte::tools
