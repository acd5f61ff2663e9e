// From a file's bytes to the engine's descriptors: the arrays cut from the tensors of their dtypes, names turned to
// indices, grids to multipliers (numerics.md). What would make an integer overflow is refused here, as by
// subbyte.ir.verify; that nothing lies out of bounds is checked by Model.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>

#include "artifact/bunzip2.h"
#include "artifact/compact.h"
#include "artifact/container.h"
#include "artifact/description.h"
#include "artifact/json.h"
#include "artifact/pattern.h"
#include "subbyte/artifact.h"

namespace subbyte {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's numbers are used as they lie");

constexpr std::size_t kMaxText = 4 << 20, kMaxFile = std::size_t{2} << 30;
constexpr std::int64_t kMaxParameters = std::int64_t{1} << 28;
constexpr double kMaxCode = 1 << 30, kMaxRatio = 1 << 20;
constexpr float kMaxChannelScale = 1 << 16, kMaxProduct = 1 << 14, kMaxSlope = 1 << 22;

[[noreturn]] void fail(const std::string& text) { throw std::invalid_argument(text); }

[[noreturn]] void fail(const NodeText& n, const std::string& text) { fail("node '" + n.name + "': " + text); }

void need(bool condition, const NodeText& n, const char* text) {
  if (!condition) fail(n, text);
}

// The arrays of the nodes, cut in their order from one long vector of each dtype.
class Arrays {
 public:
  // codes: of all dense weights, where they were coded; else null.
  explicit Arrays(const std::map<std::string, Tensor>& tensors, const std::vector<std::uint8_t>* codes)
      : left_(tensors), codes_(codes) {
    left_.erase("graph");
  }

  bool coded() const { return codes_ != nullptr; }

  std::vector<std::uint8_t> take_codes(std::size_t count) {
    if (count > codes_->size() - place_) fail("it has fewer codes than its graph needs");
    const auto begin = codes_->begin() + static_cast<std::ptrdiff_t>(place_);
    place_ += count;
    return {begin, begin + static_cast<std::ptrdiff_t>(count)};
  }

  template <typename T>
  std::vector<T> take(const std::string& dtype, std::size_t count) {
    Tensor& t = left_[dtype];
    if (count > t.count) fail("it has fewer " + dtype + " numbers than its graph needs");
    std::vector<T> result(count);
    std::memcpy(result.data(), t.data, count * sizeof(T));
    t.data += count * sizeof(T);
    t.count -= count;
    return result;
  }

  void end() const {
    for (const auto& [dtype, t] : left_) {
      if (t.count != 0) fail("it has more " + dtype + " numbers than its graph needs");
    }
    if (codes_ && place_ != codes_->size()) fail("it has more codes than its graph needs");
  }

 private:
  std::map<std::string, Tensor> left_;
  const std::vector<std::uint8_t>* codes_;
  std::size_t place_ = 0;
};

std::size_t elements(const NodeText& n, const std::vector<std::int64_t>& shape, std::int64_t& parameters) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    if (extent > kMaxParameters / count) fail(n, "has too many parameters");
    count *= extent;
  }
  parameters += count;
  if (parameters > kMaxParameters) fail("it has too many parameters");
  return static_cast<std::size_t>(count);
}

// IEEE half precision to float32, exactly; NaN for NaN and infinity.
float widen(std::uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent == 31) return std::numeric_limits<float>::quiet_NaN();
  const float magnitude = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                        : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

// The scalar multipliers of numerics.md, "add", "mul" and so on: a row for each operation that has some.
using Inputs = std::vector<const ValueText*>;

float ratio(const NodeText& n, const ValueText& v, const Grid& y) {
  need(v.grid.has_value(), n, "mixes float32 and quantized values");
  const float r = v.grid->scale / y.scale;
  need(r < kMaxRatio, n, "an input's grid is far coarser than its output's");
  return r;
}

void residual_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  if (x.size() == 2) d.factor_a = ratio(n, *x[1], y);
}

void add_factors(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  d.factor_a = ratio(n, *x[0], y), d.factor_b = ratio(n, *x[1], y);
}

void pool_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  const std::int64_t positions = x[0]->shape[0] * x[0]->shape[1];
  need(positions * 255 < std::int64_t{1} << 31, n, "its sum can leave 31 bits");
  d.factor_a = ratio(n, *x[0], y) / static_cast<float>(positions);
}

void gate_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  need(x[0]->grid && x[1]->grid, n, "mixes float32 and quantized values");
  const Grid& gate = *x[1]->grid;
  const float m = x[0]->grid->scale * gate.scale / y.scale * 256.0f;
  const int largest = std::max(gate.zero_point, gate.highest() - gate.zero_point);
  if (d.multiplier.empty()) d.multiplier.assign(static_cast<std::size_t>(x[0]->shape.back()), 1.0f);
  for (float& of_channel : d.multiplier) {  // channel_scale so far
    of_channel = m * of_channel;
    need(static_cast<double>(of_channel) * largest < 32767, n, "its gate factor does not fit 16 bits");
  }
}

// Averages over windows, which are divided by how many positions they have.
void average_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) { d.factor_a = ratio(n, *x[0], y); }

void interpolation_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  d.factor_a = ratio(n, *x[0], y) / 4194304.0f;  // what the weights add up to
}

void product_factor(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  need(x[0]->grid && x[1]->grid, n, "mixes float32 and quantized values");
  d.factor_a = x[0]->grid->scale * x[1]->grid->scale / y.scale;
  need(d.factor_a < kMaxProduct, n, "its product leads far outside its output's grid");
}

void slope_factors(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  d.factor_a = ratio(n, *x[0], y);
  for (float& m : d.multiplier) {  // the slopes so far
    m = d.factor_a * m;
    need(std::fabs(m) < kMaxSlope, n, "a slope leads far outside its output's grid");
  }
}

constexpr struct {
  Op op;
  void (*set)(const NodeText&, NodeDesc&, const Inputs&, const Grid& y);
} kFactors[] = {{Op::kConv2d, residual_factor},
                {Op::kAdd, add_factors},
                {Op::kGlobalAvgPool, pool_factor},
                {Op::kMul, gate_factor},
                {Op::kAvgPool2d, average_factor},
                {Op::kAdaptiveAvgPool2d, average_factor},
                {Op::kMultiply, product_factor},
                {Op::kSubtract, add_factors},
                {Op::kPrelu, slope_factors},
                {Op::kResizeBilinear, interpolation_factor}};

// What an attribute `mode` may say, in the order of the numbers that the engine is given.
constexpr struct {
  Op op;
  const char* names[3];
} kModes[] = {{Op::kPad, {"zero", "edge", "reflect"}},
              {Op::kResizeNearest, {"asymmetric", "half_pixel", "align_corners"}},
              {Op::kResizeBilinear, {"asymmetric", "half_pixel", "align_corners"}}};

void set_factors(const NodeText& n, NodeDesc& d, const Inputs& x, const Grid& y) {
  for (const auto& row : kFactors) {
    if (row.op == d.op) row.set(n, d, x, y);
  }
}

class Reader {
 public:
  Reader(const GraphText& graph, const std::map<std::string, Tensor>& tensors, const std::vector<std::uint8_t>* codes,
         int version)
      : graph_(graph), arrays_(tensors, codes), version_(version) {}

  void read(Artifact& a) {
    a.input = add(graph_.input, a);
    std::set<std::string> node_names;
    for (const NodeText& n : graph_.nodes) {
      if (!node_names.insert(n.name).second) fail(n, "is named twice");
      a.nodes.push_back(node(n, a));
    }
    arrays_.end();
    std::set<int> outputs;
    for (const std::string& name : graph_.outputs) {
      a.outputs.push_back(index(name));
      if (!outputs.insert(a.outputs.back()).second) fail("an output is named twice");
    }
  }

 private:
  const GraphText& graph_;
  Arrays arrays_;
  int version_;
  std::map<std::string, int> indices_;
  std::vector<const ValueText*> texts_;  // of the values, by index
  std::int64_t parameters_ = 0;

  int index(const std::string& name) const {
    const auto found = indices_.find(name);
    if (found == indices_.end()) fail("'" + name + "' is made by no earlier node");
    return found->second;
  }

  int add(const ValueText& text, Artifact& a) {
    const int number = static_cast<int>(a.values.size());
    if (!indices_.emplace(text.name, number).second) fail("two of its values are called '" + text.name + "'");
    ValueDesc v;
    v.name = text.name;
    for (const std::int64_t extent : text.shape) {
      if (extent > 65536) fail("value '" + text.name + "': shape out of range");
    }
    v.channels = static_cast<int>(text.shape.back());
    if (text.shape.size() == 3) v.height = static_cast<int>(text.shape[0]), v.width = static_cast<int>(text.shape[1]);
    if (text.grid) {
      v.quantized = true;
      const bool levels = !text.grid->levels.empty();
      v.scale = text.grid->scale, v.zero_point = text.grid->zero_point;
      v.bits = levels ? 8 : text.grid->bits, v.level_bits = levels ? text.grid->bits : 0;
    }
    a.values.push_back(v);
    texts_.push_back(&text);
    return number;
  }

  NodeDesc node(const NodeText& n, Artifact& a) {
    NodeDesc d;
    d.name = n.name;
    const std::string op = n.op == "linear" ? "conv2d" : n.op;
    const auto* row = std::find_if(std::begin(kOps), std::end(kOps), [&](const OpInfo& o) { return op == o.name; });
    if (row == std::end(kOps)) fail(n, "the engine has no operation '" + n.op.substr(0, 80) + "'");
    d.op = row->op;
    for (const std::string& name : n.inputs) d.inputs.push_back(index(name));
    need(d.inputs.size() >= row->fewest_inputs && d.inputs.size() <= (n.op == "linear" ? 1 : row->most_inputs), n,
         "wrong number of inputs");
    check_fields(n, *row);
    d.activation = activation(n);
    std::vector<const ValueText*> x;
    for (const int i : d.inputs) x.push_back(texts_[i]);
    d.output = add(n.output, a);
    check_ranks(n, *row, x);
    if (n.plain.count("table")) read_table(n, d);
    if (n.plain.count("channel_scale")) read_channel_scale(n, d, x[0]->shape.back());
    if (row->is(kWeighted)) read_weighted(n, d, x);
    if (n.integers.count("kernel")) window(n, d, attribute(n, "kernel", 2));
    read_numbers(n, d);
    if (row->is(kSlopes)) read_slopes(n, d, x[0]->shape.back());
    if (row->is(kReal)) need(!x[0]->grid && !n.output.grid, n, "works on float32 values");
    if (row->is(kNorms)) read_norm(n, d, x[0]->shape.back());
    need(version_ > 2 || !(row->is(kSince3) || n.integers.count("dilation")), n, "is an operation that its version of the format has not");
    check_table(n, d, x);
    need(!has_levels(n) || row->is(kSameGrid) || (d.has_table && x.size() == 1), n,
         "cannot make levels, which need a table behind it");
    need(!has_levels(n) || version_ > 1, n, "makes levels, which version 1 of the format has not");
    if (n.output.grid) set_factors(n, d, x, *n.output.grid);
    for (const ValueText* v : x) {
      need(!row->is(kSameGrid) || v->grid == n.output.grid, n, "must keep the grid of its inputs");
    }
    return d;
  }

  static bool has_levels(const NodeText& n) { return n.output.grid && !n.output.grid->levels.empty(); }

  // Attributes and parameters are those of the operation, neither more nor fewer.
  static void check_fields(const NodeText& n, const OpInfo& op) {
    std::set<std::string> have, wanted, optional;
    for (const auto& [key, value] : n.integers) have.insert(key);
    for (const auto& [key, value] : n.reals) have.insert(key);
    for (const auto& [key, value] : n.texts) have.insert(key);
    for (const auto& [key, value] : n.plain) have.insert(key);
    for (const auto& [key, value] : n.packed) need(have.insert(key).second, n, "a parameter is plain and packed");
    if (n.op != "linear") {
      std::istringstream attributes(op.attributes);
      wanted.insert(std::istream_iterator<std::string>(attributes), {});
    }
    if (op.is(kWeighted)) wanted.insert({"bias", "weight"}), optional.insert({"pre_scale", "pre_zero"});
    if (op.is(kActs)) wanted.insert("act"), optional.insert("table");
    if (op.is(kScales)) optional.insert("channel_scale");
    if (op.is(kSlopes)) wanted.insert("slope");
    if (op.is(kNorms)) wanted.insert({"bias", "weight"});
    if (n.op == "conv2d") optional.insert("dilation");
    for (const std::string& key : wanted) need(have.erase(key) == 1, n, "an attribute or parameter is missing");
    for (const std::string& key : optional) have.erase(key);
    need(have.empty(), n, "has an attribute or parameter that nothing reads");
  }

  static void check_ranks(const NodeText& n, const OpInfo& op, const Inputs& x) {
    const std::size_t rank = x[0]->shape.size(), made = n.output.shape.size();
    const bool linear = n.op == "linear";
    need(linear || !op.is(kOfMaps) || rank == 3, n, "needs a map");
    need(!linear || rank == 1, n, "needs a vector");
    need(op.is(kReshapes) || made == (op.is(kMakesVector) ? 1 : rank), n, "makes another shape than its output says");
  }

  // "name", or "name:parameter:..." with all of them.
  static Activation activation(const NodeText& n) {
    const auto found = n.texts.find("act");
    if (found == n.texts.end()) return {};
    const std::string_view text = found->second, name = text.substr(0, text.find(':'));
    for (int i = 0; i < kActivationCount; ++i) {
      if (name != kActivations[i].name) continue;
      Activation result{static_cast<Act>(i)};
      set_parameters(n, result, text.substr(name.size()));
      return result;
    }
    fail(n, "the engine has no activation '" + std::string(text.substr(0, 80)) + "'");
  }

  static void set_parameters(const NodeText& n, Activation& a, std::string_view text) {
    const ActivationInfo& row = kActivations[static_cast<int>(a.act)];
    for (int i = 0; i < row.parameters; ++i) {
      double value = row.defaults[i];
      if (!text.empty()) {
        const auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), value);
        need(text[0] == ':' && error == std::errc(), n, "an activation's parameter is no number");
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        need(!text.empty() || i + 1 == row.parameters, n, "an activation has all of its parameters, or none");
      }
      // numerics.md: what multiplies is within 2^16, rate and beta are positive
      const double most = a.act == Act::kClip ? std::numeric_limits<float>::max() : 65536.0;
      const bool positive = a.act == Act::kSoftplus || (a.act == Act::kElu && i == 2);
      need(value <= most && value >= (positive ? 1 / most : -most), n, "an activation's parameter is out of range");
      a.parameters[i] = static_cast<float>(value);
    }
    need(text.empty(), n, "an activation has too many parameters");
  }

  static std::vector<int> attribute(const NodeText& n, const char* name, std::size_t count) {
    const std::vector<std::int64_t>& values = n.integers.at(name);
    need(values.size() == count, n, "an attribute has the wrong length");
    std::vector<int> result;
    for (const std::int64_t v : values) {
      need(v >= 0 && v <= 65536, n, "an attribute is out of range");
      result.push_back(static_cast<int>(v));
    }
    return result;
  }

  // The attributes of operations that move or pool elements.
  static void read_numbers(const NodeText& n, NodeDesc& d) {
    for (const char* name : {"begin", "end", "step"}) {
      if (!n.integers.count(name)) continue;
      for (const int v : attribute(n, name, 3)) d.numbers.push_back(v);
    }
    for (const char* name : {"dims", "perm"}) {
      if (!n.integers.count(name)) continue;
      for (const std::int64_t v : n.integers.at(name)) {
        need(v >= 0 && v <= kMaxParameters, n, "an attribute is out of range");
        d.numbers.push_back(static_cast<int>(v));
      }
    }
    if (const auto size = n.integers.find("size"); size != n.integers.end()) {
      const std::vector<std::int64_t>&made = n.output.shape, &said = size->second;
      const bool repeats = info_of(d.op).is(kSameGrid) && !n.texts.count("mode");  // up to all three extents
      const std::size_t length = info_of(d.op).is(kReshapes) ? made.size() : repeats ? 3 : 2;
      need(said.size() == length && length <= made.size() && std::equal(said.begin(), said.end(), made.begin()), n,
           "makes another shape than its output says");
    }
    if (n.integers.count("count_pad")) d.numbers.push_back(attribute(n, "count_pad", 1)[0]);
    if (n.integers.count("pad") && !n.integers.count("stride")) {
      const std::vector<int> pad = attribute(n, "pad", 4);
      d.pad_top = pad[0], d.pad_bottom = pad[1], d.pad_left = pad[2], d.pad_right = pad[3];
    }
    for (const auto& row : kModes) {
      if (row.op != d.op) continue;
      const auto* found = std::find(std::begin(row.names), std::end(row.names), n.texts.at("mode"));
      need(found != std::end(row.names), n, "has a mode that this version does not know");
      d.numbers.push_back(static_cast<int>(found - row.names));
    }
  }

  static void window(const NodeText& n, NodeDesc& d, const std::vector<int>& kernel) {
    const std::vector<int> stride = attribute(n, "stride", 2), pad = attribute(n, "pad", 4);
    d.kernel_h = kernel[0], d.kernel_w = kernel[1], d.stride_h = stride[0], d.stride_w = stride[1];
    d.pad_top = pad[0], d.pad_bottom = pad[1], d.pad_left = pad[2], d.pad_right = pad[3];
  }

  // conv2d and linear. In a file, the arrays of a node are its plain ones by name, then its packed ones.
  void read_weighted(const NodeText& n, NodeDesc& d, const Inputs& x) {
    const bool quantized = n.packed.count("weight") != 0;
    need(n.plain.count("bias") && (quantized || n.plain.count("weight")), n, "a parameter is an attribute, or packed");
    const std::vector<std::int64_t>& shape = quantized ? n.packed.at("weight").shape : n.plain.at("weight").shape;
    need(shape.size() == (n.op == "linear" ? 2 : 4), n, "its weight has the wrong rank");
    need(n.plain.at("bias").shape == std::vector<std::int64_t>{shape[0]}, n, "its bias has the wrong shape");
    need(quantized == x[0]->grid.has_value(), n, "has weights of another kind than its input");
    need(shape.back() <= 65536 && shape[0] <= 65536, n, "its weight is out of range");
    if (n.op == "conv2d") {
      need(shape[1] <= 256 && shape[2] <= 256, n, "its kernel is too large");
      window(n, d, {static_cast<int>(shape[1]), static_cast<int>(shape[2])});
      d.groups = attribute(n, "groups", 1)[0];
      if (n.integers.count("dilation")) {
        const std::vector<int> dilation = attribute(n, "dilation", 2);
        d.dilation_h = dilation[0], d.dilation_w = dilation[1];
        need(d.dilated(), n, "has a dilation that says what its absence would say");
      }
    }
    need(shape[0] == n.output.shape.back() && shape.back() * d.groups == x[0]->shape.back(), n,
         "its weight does not fit its input and output");
    const std::size_t outputs = elements(n, {shape[0]}, parameters_), count = elements(n, shape, parameters_);
    if (quantized) {
      need(n.plain.at("bias").dtype == "I32", n, "its bias must be I32");
      d.bias = arrays_.take<std::int32_t>("I32", outputs);
      read_codes(n, d, n.packed.at("weight"), count, outputs, *x[0]->grid);
      return;
    }
    const std::string& dtype = n.plain.at("weight").dtype;
    need(n.plain.at("bias").dtype == "F32" && (dtype == "F32" || dtype == "F16"), n, "its weights must be floats");
    need(!n.output.grid, n, "float32 inputs cannot make a quantized output");
    d.bias_real = arrays_.take<float>("F32", outputs);
    d.weight_format = format_text(dtype == "F16" ? kFp16 : kFp32);
    if (dtype == "F16") {
      for (const std::uint16_t h : arrays_.take<std::uint16_t>("F16", count)) d.weight_real.push_back(widen(h));
    } else {
      d.weight_real = arrays_.take<float>("F32", count);
    }
    const auto finite = [](float v) { return std::isfinite(v); };
    need(std::all_of(d.weight_real.begin(), d.weight_real.end(), finite) &&
             std::all_of(d.bias_real.begin(), d.bias_real.end(), finite), n, "its weights hold NaN or infinity");
  }

  void read_table(const NodeText& n, NodeDesc& d) {
    const Plain& p = n.plain.at("table");
    need(p.dtype == "U8" && p.shape == std::vector<std::int64_t>{256}, n, "its table must be U8 [256]");
    elements(n, p.shape, parameters_);
    d.table = arrays_.take<std::uint8_t>("U8", 256);
    d.has_table = true;
  }

  // Of mul: what multiplies each channel beside the gate.
  void read_channel_scale(const NodeText& n, NodeDesc& d, std::int64_t channels) {
    need(version_ > 1, n, "has a channel_scale, which version 1 of the format has not");
    const Plain& p = n.plain.at("channel_scale");
    need(p.dtype == "F32" && p.shape == std::vector<std::int64_t>{channels}, n, "its channel_scale must be F32 [C]");
    d.multiplier = arrays_.take<float>("F32", elements(n, p.shape, parameters_));
    for (const float s : d.multiplier) {
      need(s >= 1 / kMaxChannelScale && s <= kMaxChannelScale, n, "its channel_scale is not within 2^-16..2^16");
    }
  }

  // A parameter with a float32 number for each channel.
  std::vector<float> channel_numbers(const NodeText& n, const char* role, std::int64_t channels) {
    need(n.plain.count(role) != 0, n, "a parameter is an attribute, or packed");
    const Plain& p = n.plain.at(role);
    need(p.dtype == "F32" && p.shape == std::vector<std::int64_t>{channels}, n, "a parameter must be F32 [C]");
    std::vector<float> result = arrays_.take<float>("F32", elements(n, p.shape, parameters_));
    for (const float v : result) need(std::isfinite(v), n, "a parameter holds NaN or infinity");
    return result;
  }

  void read_slopes(const NodeText& n, NodeDesc& d, std::int64_t channels) {
    d.multiplier = channel_numbers(n, "slope", channels);
    for (const float s : d.multiplier) need(std::fabs(s) <= kMaxChannelScale, n, "a slope is not within 2^16");
  }

  void read_norm(const NodeText& n, NodeDesc& d, std::int64_t channels) {
    d.bias_real = channel_numbers(n, "bias", channels);
    d.weight_real = channel_numbers(n, "weight", channels);
    need(n.reals.count("eps") != 0, n, "an attribute has the wrong type");
    d.eps = n.reals.at("eps");
    if (n.integers.count("groups")) d.groups = attribute(n, "groups", 1)[0];
  }

  void read_codes(const NodeText& n, NodeDesc& d, const Packed& p, std::size_t count, std::size_t outputs,
                  const Grid& x) {
    const int bits = p.format.bits, code_bits = engine_bits(n, p.format);
    const std::vector<std::uint8_t> codes = !is_coded(p)      ? unpack(n, p, count)
                                            : arrays_.coded() ? arrays_.take_codes(count)
                                                              : unpack(n, bits, count);
    const std::vector<float> scale = arrays_.take<float>("F32", outputs);
    for (const float s : scale) need(std::isfinite(s) && s > 0, n, "a weight's scale is not positive and finite");
    d.weight_format = format_text(p.format) + (p.pattern.empty() ? "" : "+" + p.pattern);
    d.levels.assign(std::size_t{1} << code_bits, 0);
    const int half = 1 << (bits - 1);
    for (int code = 0; code < 2 * half; ++code) {
      d.levels[code] = static_cast<std::int8_t>(code < half ? code : code - 2 * half);
    }
    if (p.format.book) {
      const std::vector<std::int8_t> levels = arrays_.take<std::int8_t>("I8", std::size_t{1} << bits);
      need(!std::equal(levels.begin(), levels.end(), d.levels.begin()), n, "a code book says what its absence would say");
      std::copy(levels.begin(), levels.end(), d.levels.begin());
    }
    const Grid* target = n.output.grid ? &*n.output.grid : nullptr;
    Grid pre;
    if (d.has_table) {
      need(n.reals.count("pre_scale") && n.integers.count("pre_zero"), n, "needs pre_scale and pre_zero");
      pre.scale = static_cast<float>(n.reals.at("pre_scale"));
      need(std::isnormal(pre.scale) && pre.scale > 0 && pre.scale == n.reals.at("pre_scale"), n, "bad pre_scale");
      pre.zero_point = d.pre_zero = attribute(n, "pre_zero", 1)[0];
      need(pre.zero_point <= 255, n, "bad pre_zero");
      target = &pre;
    }
    for (const float s : scale) {
      const float product = x.scale * s;
      d.multiplier.push_back(target ? product / target->scale : product);
    }
    check_accumulators(n, d, codes, count / outputs, target != nullptr);
    if (!d.has_table && n.output.grid) set_clamp(n, d, *n.output.grid);
    pack(d, codes, code_bits);
  }

  // The width of code that the engine is given for a format: three bits become four.
  static int engine_bits(const NodeText& n, Format format) {
    for (const auto& [known, bits] : {std::pair{kInt8, 8}, {kInt4, 4}, {kInt3, 4}, {kInt2, 2}}) {
      if (format.bits == known.bits) return bits;
    }
    fail(n, "its weights are stored as " + format_text(format) + ", which this version does not know; update subbyte");
  }

  // Codes of `bits` bits as bytes; 3-bit ones lie in two planes.
  std::vector<std::uint8_t> unpack(const NodeText& n, int bits, std::size_t count) {
    std::vector<std::uint8_t> codes = plane(n, count, bits == 3 ? 2 : bits);
    if (bits != 3) return codes;
    const std::vector<std::uint8_t> high = plane(n, count, 1);
    for (std::size_t i = 0; i < count; ++i) codes[i] = static_cast<std::uint8_t>(codes[i] | high[i] << 2);
    return codes;
  }

  // Those of a pattern, zero where none is stored.
  std::vector<std::uint8_t> unpack(const NodeText& n, const Packed& p, std::size_t count) {
    const std::optional<Pattern> pattern = pattern_named(p.pattern);
    if (!pattern || p.format.book) {
      fail(n, "its weights are stored as " + format_text(p.format) + "+" + p.pattern.substr(0, 80) +
                  ", which this version does not know; update subbyte");
    }
    need(version_ > 2, n, "has weights of a sparsity pattern, which versions 1 and 2 of the format have not");
    const auto numbers = [&](std::size_t many, int width) { return plane(n, many, width); };
    try {
      const auto codes = [&](std::size_t many) { return unpack(n, p.format.bits, many); };
      return unpack_pattern(*pattern, p.shape, count, {codes, numbers});
    } catch (const PatternError& error) {
      fail(n, error.what());
    }
  }

  // A plane of `count` numbers of `width` bits, least significant first, padded to a byte with zero bits.
  std::vector<std::uint8_t> plane(const NodeText& n, std::size_t count, int width) {
    const std::size_t step = static_cast<std::size_t>(width), size = (count * step + 7) / 8;
    std::vector<std::uint8_t> packed = arrays_.take<std::uint8_t>("U8", size);
    if (width == 8) return packed;
    const int unused = static_cast<int>(size * 8 - count * step);
    need(unused == 0 || packed.back() >> (8 - unused) == 0, n, "its weights end in bits that are not zero");
    packed.push_back(0);  // what the last number is read with
    std::vector<std::uint8_t> numbers(count);  // now that the file really has them
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t bit = i * step;
      const int two = packed[bit / 8] | packed[bit / 8 + 1] << 8;
      numbers[i] = static_cast<std::uint8_t>(two >> bit % 8 & ((1 << width) - 1));
    }
    return numbers;
  }

  static void pack(NodeDesc& d, const std::vector<std::uint8_t>& codes, int code_bits) {
    const std::size_t width = static_cast<std::size_t>(code_bits), per_byte = 8 / width;
    d.weight_packed.assign((codes.size() + per_byte - 1) / per_byte, 0);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      std::uint8_t& byte = d.weight_packed[i / per_byte];
      byte = static_cast<std::uint8_t>(byte | codes[i] << (i % per_byte * width));
    }
  }

  static void check_accumulators(const NodeText& n, const NodeDesc& d, const std::vector<std::uint8_t>& codes,
                                 std::size_t each, bool to_codes) {
    const double limit = to_codes ? kMaxCode : static_cast<double>(std::numeric_limits<float>::max());
    for (std::size_t o = 0; o < d.bias.size(); ++o) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < each; ++i) sum += std::abs(static_cast<int>(d.levels[codes[o * each + i]]));
      const std::int64_t total = sum * 255 + std::abs(static_cast<std::int64_t>(d.bias[o]));
      need(total < std::int64_t{1} << 31, n, "its accumulator can leave 31 bits");
      const double multiplier = d.multiplier[o];
      need(std::isfinite(multiplier) && static_cast<double>(total) * multiplier < limit, n,
           "its scales lead far outside its output's grid");
    }
  }

  static void set_clamp(const NodeText& n, NodeDesc& d, const Grid& y) {
    d.clamp_low = d.activation.act == Act::kNone ? 0 : y.zero_point;
    d.clamp_high = y.highest();
    if (d.activation.act != Act::kRelu6) return;
    const float six = 6.0f / y.scale;
    need(six < kMaxCode, n, "its six lies beyond 2**30 codes");
    d.clamp_high = std::min(d.clamp_high, static_cast<int>(std::nearbyint(six)) + y.zero_point);
  }

  void check_table(const NodeText& n, const NodeDesc& d, const Inputs& x) const {
    if (!n.texts.count("act")) return;
    const bool quantized = x[0]->grid.has_value();
    const Act act = d.activation.act;
    const bool clamps = act == Act::kNone || act == Act::kRelu || act == Act::kRelu6;
    const bool weighted = info_of(d.op).is(kWeighted);
    need(d.has_table == (quantized && (!weighted || !clamps || has_levels(n))), n,
         "needs a table, or has one that nothing reads");
    need(!quantized || x.size() == 1 || act == Act::kNone, n, "a residual cannot follow an activation");
    need(!quantized || n.output.grid || (weighted && act == Act::kNone && x.size() == 1), n,
         "cannot turn codes into float32");
    if (!d.has_table) {
      need(!n.reals.count("pre_scale") && !n.integers.count("pre_zero"), n, "has a pre-activation grid but no table");
      return;
    }
    const std::vector<std::int64_t>& levels = n.output.grid->levels;
    need(*std::max_element(d.table.begin(), d.table.end()) <= n.output.grid->highest(), n,
         "its table leaves its output's grid");
    need(levels.empty() || std::all_of(d.table.begin(), d.table.end(), [&](std::uint8_t code) {
           return std::binary_search(levels.begin(), levels.end(), code);
         }), n, "its table makes a code that is no level");
  }
};

const std::string& text_of(const Container& c, const char* key) {
  const auto found = c.metadata.find(key);
  if (found == c.metadata.end()) fail(std::string("its metadata lacks ") + key);
  return found->second;
}

// One JSON object, checked but not understood.
std::string object_text(const Container& c, const char* key) {
  const std::string& text = text_of(c, key);
  Json json(text);
  json.object([&](const std::string&) { json.skip(); });
  json.end();
  return text;
}

std::vector<std::string> classes_of(const Container& c, std::size_t most) {
  std::vector<std::string> result;
  Json json(text_of(c, "classes"));
  if (!json.null()) {
    json.array([&] {
      if (result.size() == most) fail("it has more class names than outputs");
      result.push_back(json.string());
    });
    if (result.size() != most) fail("it has fewer class names than outputs");
  }
  json.end();
  return result;
}

}  // namespace

Artifact read_artifact(const std::uint8_t* data, std::size_t size) {
  const Container c = read_container(data, size);
  if (text_of(c, "format") != "subbyte") fail("it is not marked as a subbyte artifact");
  const std::string& version = text_of(c, "version");
  if (version != "1" && version != "2" && version != "3" && version != "4") {
    fail("it has another format version than 1, 2, 3 and 4; update subbyte");
  }
  if (c.metadata.size() != 6) fail("its metadata has unknown fields");
  const auto graph = c.tensors.find("graph");
  if (graph == c.tensors.end() || graph->second.bytes > kMaxText) fail("it has no graph, or too long a one");
  const GraphText text = parse_description(bunzip2(graph->second.data, graph->second.bytes, kMaxText));
  const bool compact = !text.tables.empty();
  if (compact && version < "4") fail("it is a compact file, which its version of the format has not");
  const auto coded = c.tensors.find("coded"), rest = c.tensors.find("rest");
  const bool parts = coded != c.tensors.end() || rest != c.tensors.end();
  if (compact ? c.tensors.size() != 3 || coded == c.tensors.end() || rest == c.tensors.end() : parts) {
    fail("it has other tensors than its graph needs");
  }
  Artifact a;
  if (compact) {
    const Compact found = expand(text, coded->second, rest->second);
    Reader(text, found.tensors, &found.codes, version[0] - '0').read(a);
  } else {
    Reader(text, c.tensors, nullptr, version[0] - '0').read(a);
  }
  a.preprocessing = object_text(c, "preprocessing");
  a.recipe = object_text(c, "recipe");
  a.provenance = object_text(c, "provenance");
  a.classes = classes_of(c, static_cast<std::size_t>(a.values[a.outputs[0]].channels));
  return a;
}

Artifact read_artifact(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw std::invalid_argument("cannot read " + path + ": there is no such file");
  }
  std::ifstream file(path, std::ios::binary);
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (!file || error || size > kMaxFile) throw std::invalid_argument("cannot read " + path);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
  if (!file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()))) {
    throw std::invalid_argument("cannot read " + path);
  }
  try {
    return read_artifact(bytes.data(), bytes.size());
  } catch (const std::invalid_argument& e) {
    throw std::invalid_argument("cannot load " + path + ": " + e.what());
  }
}

}  // namespace subbyte
