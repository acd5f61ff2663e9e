// subbyte_run_dump NETWORK OUTPUT ISA THREADS: runs a network without Python, for machines (and emulators) that
// only have the engine. NETWORK is a flat little-endian file of the engine's descriptors and input images, in the
// order that `network` and `main` read them (tests/arm/dump.py writes it); OUTPUT gets the float32 outputs.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "subbyte/engine.h"

namespace {

using subbyte::NodeDesc;
using subbyte::ValueDesc;

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

ValueDesc value(Reader& r) {
  ValueDesc v;
  v.name = r.text();
  v.height = r.integer(), v.width = r.integer(), v.channels = r.integer();
  v.quantized = r.integer() != 0;
  v.scale = r.real();
  v.zero_point = r.integer(), v.bits = r.integer();
  return v;
}

NodeDesc node(Reader& r) {
  NodeDesc n;
  n.name = r.text();
  n.op = static_cast<subbyte::Op>(r.integer());
  n.inputs = r.array<int>();
  n.output = r.integer();
  n.activation.act = static_cast<subbyte::Act>(r.integer());
  for (float& p : n.activation.parameters) p = r.real();
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

subbyte::Isa isa_of(const std::string& name) {
  for (int i = 0; i < subbyte::kIsaCount; ++i) {
    if (name == subbyte::isa_name(static_cast<subbyte::Isa>(i))) return static_cast<subbyte::Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'");
}

void run(const char* network, const char* output, const char* isa, const char* threads) {
  Reader r(network);
  if (r.text() != "subbyte dump 1") throw std::runtime_error("not a network's dump");
  std::vector<ValueDesc> values(static_cast<std::size_t>(r.integer()));
  for (ValueDesc& v : values) v = value(r);
  std::vector<NodeDesc> nodes(static_cast<std::size_t>(r.integer()));
  for (NodeDesc& n : nodes) n = node(r);
  const int input = r.integer();
  const std::vector<int> outputs = r.array<int>();
  const int images = r.integer();
  const std::vector<float> x = r.array<float>();
  if (!r.at_end()) throw std::runtime_error("the network's file is longer than its contents");

  subbyte::Options options;
  options.isa = isa_of(isa);
  options.threads = std::atoi(threads);
  subbyte::Model model(std::move(values), std::move(nodes), input, outputs, options);
  const ValueDesc& in = model.value(input);
  if (x.size() != static_cast<std::size_t>(images) * in.height * in.width * in.channels) {
    throw std::runtime_error("the images do not fit the network");
  }
  std::vector<std::vector<float>> results;
  std::vector<float*> pointers;
  for (const int o : outputs) {
    const ValueDesc& v = model.value(o);
    results.emplace_back(static_cast<std::size_t>(images) * v.height * v.width * v.channels);
  }
  for (std::vector<float>& y : results) pointers.push_back(y.data());
  model.run(x.data(), images, pointers.data());
  std::ofstream file(output, std::ios::binary);
  for (const std::vector<float>& y : results) {
    file.write(reinterpret_cast<const char*>(y.data()), static_cast<std::streamsize>(y.size() * sizeof(float)));
  }
  if (!file.flush()) throw std::runtime_error(std::string("cannot write ") + output);
  for (const subbyte::StepInfo& s : model.steps()) std::printf("%s %s\n", s.name.c_str(), s.kernel.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string(argv[1]) == "--isas") {  // those that this CPU can run, slowest first
    for (int i = 0; i < subbyte::kIsaCount; ++i) {
      if (subbyte::isa_supported(static_cast<subbyte::Isa>(i))) std::puts(subbyte::isa_name(static_cast<subbyte::Isa>(i)));
    }
    return 0;
  }
  if (argc != 5) {
    std::fprintf(stderr, "usage: subbyte_run_dump NETWORK OUTPUT ISA THREADS | --isas\n");
    return 2;
  }
  try {
    run(argv[1], argv[2], argv[3], argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
