// subbyte_stress SECONDS NETWORK...: the engine with many threads and more callers than streams, for ThreadSanitizer.
// Every caller runs the dumps in turn, on every instruction set of this CPU, layer by layer and band by band; what it gets
// must equal what one thread makes alone.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "dump.h"

namespace {

using subbyte::tools::Dump;
using Results = std::vector<std::vector<float>>;
using Clock = std::chrono::steady_clock;

constexpr int kThreads = 4, kCallers = 4, kStreams = 3;  // one caller waits for a stream
constexpr int kRuns = 3;  // by each caller on each model: models come and go as well

std::unique_ptr<subbyte::Model> make(const Dump& d, subbyte::Isa isa, int threads, int streams, std::int64_t above) {
  subbyte::Options options;
  options.isa = isa, options.threads = threads, options.streams = streams, options.depth_first_above = above;
  return std::make_unique<subbyte::Model>(d.values, d.nodes, d.input, d.outputs, options);
}

// Whether every caller gets `expected`.
bool agree(const Dump& d, subbyte::Isa isa, std::int64_t above, const Results& expected) {
  const auto model = make(d, isa, kThreads, kStreams, above);
  std::atomic<bool> equal{true};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      for (int k = 0; k < kRuns; ++k) {
        if (subbyte::tools::run(*model, d) != expected) equal = false;
      }
    });
  }
  for (std::thread& c : callers) c.join();
  return equal;
}

int stress(double seconds, const std::vector<Dump>& dumps) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  long runs = 0;
  do {  // at least once through everything
    for (std::size_t i = 0; i < dumps.size(); ++i) {
      for (int isa = 0; isa < subbyte::kIsaCount; ++isa) {
        if (!subbyte::isa_supported(static_cast<subbyte::Isa>(isa))) continue;
        const auto alone = make(dumps[i], static_cast<subbyte::Isa>(isa), 1, 1, -1);
        const Results expected = subbyte::tools::run(*alone, dumps[i]);
        for (const std::int64_t above : {-1, 0}) {
          if (!agree(dumps[i], static_cast<subbyte::Isa>(isa), above, expected)) {
            std::printf("network %zu on %s: results differ from one thread's\n", i,
                        subbyte::isa_name(static_cast<subbyte::Isa>(isa)));
            return 1;
          }
          runs += kCallers * kRuns;
        }
      }
    }
  } while (Clock::now() < end);
  std::printf("%ld runs of %zu networks by %d callers, %d streams of %d threads: all equal to one thread's\n", runs,
              dumps.size(), kCallers, kStreams, kThreads);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: subbyte_stress SECONDS NETWORK...\n");
    return 2;
  }
  try {
    std::vector<Dump> dumps;
    for (int i = 2; i < argc; ++i) dumps.push_back(subbyte::tools::load(argv[i]));
    return stress(std::atof(argv[1]), dumps);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
