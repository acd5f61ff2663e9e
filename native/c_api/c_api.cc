// subbyte.h over the engine: exceptions become sentences.
#include "subbyte/subbyte.h"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "subbyte/artifact.h"
#include "subbyte/engine.h"

struct subbyte_network {
  subbyte::Artifact artifact;  // its descriptors have moved into the model
  std::unique_ptr<subbyte::Model> model;
};

namespace {

using subbyte::ValueDesc;

subbyte::Isa isa_of(const char* name) {
  if (name == nullptr) return subbyte::best_isa();
  for (int i = 0; i < subbyte::kIsaCount; ++i) {
    const auto isa = static_cast<subbyte::Isa>(i);
    if (std::strcmp(name, subbyte::isa_name(isa)) == 0) return isa;
  }
  throw std::invalid_argument(std::string("there is no instruction set ") + name);
}

subbyte_shape shape_of(const ValueDesc& v) { return {v.height, v.width, v.channels}; }

// What `work` returns, or `failed` and a sentence in `error`.
template <typename T, typename F>
T reported(T failed, char* error, std::size_t size, F&& work) {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    if (error != nullptr) std::snprintf(error, size, "out of memory");
  } catch (const std::exception& e) {
    if (error != nullptr) std::snprintf(error, size, "%s", e.what());
  }
  return failed;
}

}  // namespace

const char* subbyte_isa(int index) {
  for (int i = 0; i < subbyte::kIsaCount; ++i) {
    const auto isa = static_cast<subbyte::Isa>(i);
    if (subbyte::isa_supported(isa) && index-- == 0) return subbyte::isa_name(isa);
  }
  return nullptr;
}

subbyte_network* subbyte_load(const char* path, const subbyte_options* options, char* error, size_t error_size) {
  return reported<subbyte_network*>(nullptr, error, error_size, [&] {
    const subbyte_options given = options == nullptr ? subbyte_options{} : *options;
    subbyte::Options o;
    o.isa = isa_of(given.isa);
    if (given.threads != 0) o.threads = given.threads;
    if (given.streams != 0) o.streams = given.streams;
    auto network = std::make_unique<subbyte_network>();
    subbyte::Artifact& a = network->artifact;
    a = subbyte::read_artifact(path);
    network->model = std::make_unique<subbyte::Model>(std::move(a.values), std::move(a.nodes), a.input, a.outputs, o);
    return network.release();
  });
}

void subbyte_free(subbyte_network* network) { delete network; }

subbyte_shape subbyte_input(const subbyte_network* n) { return shape_of(n->model->value(n->model->input())); }

int subbyte_outputs(const subbyte_network* n) { return static_cast<int>(n->model->outputs().size()); }

subbyte_shape subbyte_output(const subbyte_network* n, int index) {
  if (index < 0 || index >= subbyte_outputs(n)) return {};
  return shape_of(n->model->value(n->model->outputs()[index]));
}

int subbyte_run(subbyte_network* n, const float* input, int images, float* const* outputs, char* error,
                size_t error_size) {
  return reported(1, error, error_size, [&] {
    const subbyte_shape shape = subbyte_input(n);
    if (images < 1) throw std::invalid_argument("there must be at least one image");
    const std::int64_t elements = images * shape.height * shape.width * shape.channels;
    for (std::int64_t i = 0; i < elements; ++i) {
      if (!std::isfinite(input[i])) throw std::invalid_argument("input holds NaN or infinity");
    }
    n->model->run(input, images, outputs);
    return 0;
  });
}

const char* subbyte_class_name(const subbyte_network* n, int index) {
  const auto& classes = n->artifact.classes;
  return index < 0 || static_cast<std::size_t>(index) >= classes.size() ? nullptr : classes[index].c_str();
}

const char* subbyte_metadata(const subbyte_network* n, const char* key) {
  const std::string name = key;
  const subbyte::Artifact& a = n->artifact;
  if (name == "preprocessing") return a.preprocessing.c_str();
  if (name == "recipe") return a.recipe.c_str();
  return name == "provenance" ? a.provenance.c_str() : nullptr;
}

int subbyte_steps(const subbyte_network* n) { return static_cast<int>(n->model->steps().size()); }

subbyte_step subbyte_step_at(const subbyte_network* n, int index) {
  if (index < 0 || index >= subbyte_steps(n)) return {};
  const subbyte::StepInfo& s = n->model->steps()[index];
  return {s.name.c_str(),
          s.op.c_str(),
          s.kernel.c_str(),
          subbyte::isa_name(s.isa),
          s.requested_weights.c_str(),
          s.executed_weights.c_str(),
          s.requested_activations.c_str(),
          s.executed_activations.c_str(),
          s.macs,
          s.weight_bytes,
          s.live_bytes,
          {s.height, s.width, s.channels}};
}
