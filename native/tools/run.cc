// subbyte_run NETWORK.subbyte IMAGES OUTPUT ISA THREADS: runs a network without Python, for machines (and emulators)
// that only have the engine. IMAGES holds float32 [n, H, W, C], OUTPUT gets the float32 outputs, one after the other.
// Prints name|kernel|formats of the weights as asked for and as executed|those of the activations for every step.
// subbyte_run --isas: the instruction sets of this CPU. subbyte_run --check FILE...: which of the files can be loaded.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "subbyte/subbyte.h"

namespace {

int fail(const char* text) {
  std::fprintf(stderr, "error: %s\n", text);
  return 1;
}

std::int64_t elements(const subbyte_shape& s) { return s.height * s.width * s.channels; }

int isas() {
  for (int i = 0; subbyte_isa(i) != nullptr; ++i) std::puts(subbyte_isa(i));
  return 0;
}

int check(int count, char** paths) {
  for (int i = 0; i < count; ++i) {
    char error[512];
    subbyte_network* network = subbyte_load(paths[i], nullptr, error, sizeof error);
    std::printf("%s\n", network == nullptr ? error : "ok");
    subbyte_free(network);
  }
  return 0;
}

int run(subbyte_network* network, const char* images_path, const char* output_path) {
  std::ifstream images(images_path, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(images)), std::istreambuf_iterator<char>());
  const std::size_t each = static_cast<std::size_t>(elements(subbyte_input(network))) * sizeof(float);
  if (bytes.empty() || bytes.size() % each != 0) return fail("the images do not fit the network");
  const int count = static_cast<int>(bytes.size() / each);
  std::vector<float> input(bytes.size() / sizeof(float));
  std::memcpy(input.data(), bytes.data(), bytes.size());

  std::vector<std::vector<float>> results;
  std::vector<float*> pointers;
  for (int i = 0; i < subbyte_outputs(network); ++i) {
    results.emplace_back(static_cast<std::size_t>(count * elements(subbyte_output(network, i))));
  }
  for (std::vector<float>& r : results) pointers.push_back(r.data());
  char error[512];
  if (subbyte_run(network, input.data(), count, pointers.data(), error, sizeof error) != 0) return fail(error);
  std::ofstream output(output_path, std::ios::binary);
  for (const std::vector<float>& r : results) {
    output.write(reinterpret_cast<const char*>(r.data()), static_cast<std::streamsize>(r.size() * sizeof(float)));
  }
  if (!output.flush()) return fail("cannot write the output");
  for (int i = 0; i < subbyte_steps(network); ++i) {
    const subbyte_step step = subbyte_step_at(network, i);
    std::printf("%s|%s|%s|%s|%s|%s\n", step.name, step.kernel, step.requested_weights, step.executed_weights,
                step.requested_activations, step.executed_activations);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--isas") == 0) return isas();
  if (argc > 2 && std::strcmp(argv[1], "--check") == 0) return check(argc - 2, argv + 2);
  if (argc != 6) {
    std::fprintf(stderr, "usage: subbyte_run NETWORK.subbyte IMAGES OUTPUT ISA THREADS | --isas | --check FILE...\n");
    return 2;
  }
  subbyte_options options = {};
  options.threads = std::atoi(argv[5]);
  options.isa = argv[4];
  char error[512];
  subbyte_network* network = subbyte_load(argv[1], &options, error, sizeof error);
  if (network == nullptr) return fail(error);
  const int status = run(network, argv[2], argv[3]);
  subbyte_free(network);
  return status;
}
