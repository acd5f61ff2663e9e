// The Python face of the engine; the only file that includes Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <limits>

#include "sampling.h"
#include "subbyte/engine.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

using subbyte::NodeDesc;
using subbyte::ValueDesc;

using Input = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;

subbyte::Isa isa_of(const std::string& name) {
  for (int i = 0; i < subbyte::kIsaCount; ++i) {
    if (name == subbyte::isa_name(static_cast<subbyte::Isa>(i))) return static_cast<subbyte::Isa>(i);
  }
  throw std::invalid_argument("unknown instruction set '" + name + "'");
}

template <typename T>
std::vector<T> copy(const nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>& a) {
  return std::vector<T>(a.data(), a.data() + a.size());
}

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
using Filled = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

subbyte::sampling::Table table_of(const Vector<float>& values) {
  subbyte::sampling::Table table;
  if (values.size() != table.size()) throw std::invalid_argument("a table has 256 entries");
  std::copy_n(values.data(), table.size(), table.begin());
  return table;
}

void need(bool equal) {
  if (!equal) throw std::invalid_argument("arrays differ in length");
}

nb::list run(subbyte::Model& model, const Input& x, double* seconds) {
  const ValueDesc& in = model.value(model.input());
  const auto is = [](std::size_t extent, int wanted) { return extent == static_cast<std::size_t>(wanted); };
  if (!is(x.shape(1), in.height) || !is(x.shape(2), in.width) || !is(x.shape(3), in.channels) ||
      x.shape(0) > std::numeric_limits<int>::max()) {
    throw std::invalid_argument("input has the wrong shape");
  }
  const std::size_t images = x.shape(0);
  nb::list result;
  std::vector<float*> outputs;
  for (const int o : model.outputs()) {
    const ValueDesc& v = model.value(o);
    const std::size_t size = static_cast<std::size_t>(v.height) * v.width * v.channels;
    auto* data = new float[images * size + 1];
    nb::capsule owner(data, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    const std::size_t shape[4] = {images, static_cast<std::size_t>(v.height), static_cast<std::size_t>(v.width),
                                  static_cast<std::size_t>(v.channels)};
    result.append(nb::ndarray<nb::numpy, float>(data, 4, shape, owner));
    outputs.push_back(data);
  }
  {
    nb::gil_scoped_release release;
    model.run(x.data(), static_cast<int>(images), outputs.data(), seconds);
  }
  return result;
}

nb::dict row(const subbyte::StepInfo& s) {
  nb::dict d;
  d["name"] = s.name;
  d["op"] = s.op;
  d["kernel"] = s.kernel;
  d["isa"] = subbyte::isa_name(s.isa);
  d["requested_weights"] = s.requested_weights;
  d["executed_weights"] = s.executed_weights;
  d["requested_activations"] = s.requested_activations;
  d["executed_activations"] = s.executed_activations;
  d["macs"] = s.macs;
  d["weight_bytes"] = s.weight_bytes;
  d["buffer_offset"] = s.buffer_offset;
  d["buffer_bytes"] = s.buffer_bytes;
  d["live_bytes"] = s.live_bytes;
  d["region"] = s.region;
  d["row_tiles"] = s.row_tiles;
  d["tile_rows"] = s.tile_rows;
  d["line_buffer_rows"] = s.line_buffer_rows;
  d["shape"] = nb::make_tuple(s.height, s.width, s.channels);
  return d;
}

}  // namespace

NB_MODULE(_native, m) {
  nb::class_<ValueDesc>(m, "ValueDesc")
      .def(nb::init<>())
      .def_rw("name", &ValueDesc::name)
      .def_rw("height", &ValueDesc::height)
      .def_rw("width", &ValueDesc::width)
      .def_rw("channels", &ValueDesc::channels)
      .def_rw("quantized", &ValueDesc::quantized)
      .def_rw("scale", &ValueDesc::scale)
      .def_rw("zero_point", &ValueDesc::zero_point)
      .def_rw("bits", &ValueDesc::bits)
      .def_rw("level_bits", &ValueDesc::level_bits);

  nb::enum_<subbyte::Op> ops(m, "Op");
  for (const subbyte::OpInfo& op : subbyte::kOps) ops.value(op.name, op.op);

  nb::enum_<subbyte::Act> act(m, "Act");
#define SUBBYTE_ACTIVATION(enumerator, name, result, ...) act.value(#name, subbyte::Act::enumerator);
#include "subbyte/activations.inc"

  nb::class_<NodeDesc>(m, "NodeDesc")
      .def(nb::init<>())
      .def_rw("name", &NodeDesc::name)
      .def_rw("op", &NodeDesc::op)
      .def_rw("numbers", &NodeDesc::numbers)
      .def_rw("dilation_h", &NodeDesc::dilation_h)
      .def_rw("dilation_w", &NodeDesc::dilation_w)
      .def_rw("eps", &NodeDesc::eps)
      .def_rw("inputs", &NodeDesc::inputs)
      .def_rw("output", &NodeDesc::output)
      .def_rw("groups", &NodeDesc::groups)
      .def_rw("weight_format", &NodeDesc::weight_format)
      .def_rw("clamp_low", &NodeDesc::clamp_low)
      .def_rw("clamp_high", &NodeDesc::clamp_high)
      .def_rw("pre_zero", &NodeDesc::pre_zero)
      .def_rw("factor_a", &NodeDesc::factor_a)
      .def_rw("factor_b", &NodeDesc::factor_b)
      .def("set_window",
           [](NodeDesc& n, int kernel_h, int kernel_w, int stride_h, int stride_w, int top, int bottom, int left,
              int right) {
             n.kernel_h = kernel_h, n.kernel_w = kernel_w, n.stride_h = stride_h, n.stride_w = stride_w;
             n.pad_top = top, n.pad_bottom = bottom, n.pad_left = left, n.pad_right = right;
           })
      .def("set_activation",
           [](NodeDesc& n, subbyte::Act act, float first, float second, float third) {
             n.activation = {act, {first, second, third}};
           })
      .def("set_table",
           [](NodeDesc& n, const Vector<std::uint8_t>& table) {
             n.has_table = true;
             n.table = copy(table);
           })
      .def("set_codes",
           [](NodeDesc& n, const Vector<std::uint8_t>& packed, const Vector<std::int8_t>& levels,
              const Vector<std::int32_t>& bias, const Vector<float>& multiplier) {
             n.weight_packed = copy(packed);
             n.levels = copy(levels);
             n.bias = copy(bias);
             n.multiplier = copy(multiplier);
           })
      .def("set_multiplier", [](NodeDesc& n, const Vector<float>& multiplier) { n.multiplier = copy(multiplier); })
      .def("set_real", [](NodeDesc& n, const Vector<float>& weight, const Vector<float>& bias) {
        n.weight_real = copy(weight);
        n.bias_real = copy(bias);
      });

  nb::class_<subbyte::Model>(m, "Model")
      .def(
          "__init__",
          [](subbyte::Model* self, std::vector<ValueDesc> values, std::vector<NodeDesc> nodes, int input,
             std::vector<int> outputs, const std::string& isa, int threads, int streams, std::int64_t depth_first_above,
             std::int64_t memory_limit) {
            new (self) subbyte::Model(std::move(values), std::move(nodes), input, std::move(outputs),
                                      {isa_of(isa), threads, depth_first_above, streams, memory_limit});
          },
          "values"_a, "nodes"_a, "input"_a, "outputs"_a, "isa"_a, "threads"_a, "streams"_a, "depth_first_above"_a,
          "memory_limit"_a = 0)
      .def("run", [](subbyte::Model& self, const Input& x) { return run(self, x, nullptr); })
      .def("profile",
           [](subbyte::Model& self, const Input& x) {
             std::vector<double> seconds(self.steps().size(), 0.0);
             run(self, x, seconds.data());
             return seconds;
           })
      .def("steps",
           [](const subbyte::Model& self) {
             nb::list rows;
             for (const subbyte::StepInfo& s : self.steps()) rows.append(row(s));
             return rows;
           })
      .def_prop_ro("arena_bytes", &subbyte::Model::arena_bytes)
      .def_prop_ro("scratch_bytes", &subbyte::Model::scratch_bytes)
      .def_prop_ro("weight_bytes", &subbyte::Model::weight_bytes)
      .def_prop_ro("region_work", &subbyte::Model::region_work);

  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (int i = 0; i < subbyte::kIsaCount; ++i) {
      const auto isa = static_cast<subbyte::Isa>(i);
      if (subbyte::isa_supported(isa)) names.emplace_back(subbyte::isa_name(isa));
    }
    return names;
  });
  m.def("best_isa", [] { return std::string(subbyte::isa_name(subbyte::best_isa())); });
  m.def("trim", [] {  // gives memory that was freed back to the system, where the C library can
#ifdef __GLIBC__
    malloc_trim(0);
#endif
  });
  m.def(
      "peak_dot_gmacs",
      [](const std::string& isa, double seconds) {
        nb::gil_scoped_release release;
        return subbyte::peak_dot_macs(isa_of(isa), seconds) / 1e9;
      },
      "isa"_a, "seconds"_a);

  m.def(
      "peak_real_gmacs",
      [](const std::string& isa, double seconds) {
        nb::gil_scoped_release release;
        return subbyte::peak_real_macs(isa_of(isa), seconds) / 1e9;
      },
      "isa"_a, "seconds"_a);

  m.def(
      "round_and_look_up",
      [](const Vector<float>& v, const Vector<float>& table, const Filled<std::uint8_t>& index, const Filled<float>& out,
         int threads) {
        need(index.size() == v.size() && out.size() == v.size());
        const auto entries = table_of(table);
        nb::gil_scoped_release release;
        subbyte::sampling::round_and_look_up(v.data(), v.size(), entries, index.data(), out.data(), threads);
      },
      "v"_a.noconvert(), "table"_a, "index"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
  m.def(
      "slope_and_sum",
      [](const Vector<float>& gradient, const Vector<float>& slopes, const Vector<std::uint8_t>& index,
         const Filled<float>& out, const Filled<double>& sums, int threads) {
        need(index.size() == gradient.size() && out.size() == gradient.size() && sums.size() == 256);
        const auto entries = table_of(slopes);
        nb::gil_scoped_release release;
        const auto found = subbyte::sampling::slope_and_sum(gradient.data(), gradient.size(), entries, index.data(),
                                                            out.data(), threads);
        std::copy(found.begin(), found.end(), sums.data());
      },
      "gradient"_a.noconvert(), "slopes"_a, "index"_a.noconvert(), "out"_a.noconvert(), "sums"_a.noconvert(),
      "threads"_a);
}
