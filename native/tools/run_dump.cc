// subbyte_run_dump NETWORK OUTPUT ISA THREADS: runs a network's dump (dump.h) without Python, for machines (and emulators)
// that only have the engine. OUTPUT gets the float32 outputs.
#include "dump.h"

#include <cstdio>
#include <cstdlib>

namespace {

void run(const char* network, const char* output, const char* isa, const char* threads) {
  const subbyte::tools::Dump d = subbyte::tools::load(network);
  subbyte::Options options;
  options.isa = subbyte::tools::isa_of(isa);
  options.threads = std::atoi(threads);
  subbyte::Model model(d.values, d.nodes, d.input, d.outputs, options);
  std::ofstream file(output, std::ios::binary);
  for (const std::vector<float>& y : subbyte::tools::run(model, d)) {
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
