// subbyte_stress SECONDS NETWORK.subbyte...: the engine with many threads and more callers than streams, for
// ThreadSanitizer. Every caller runs the networks in turn, on every instruction set of this CPU, layer by layer and
// row tile by row tile; what it gets must equal what one thread makes alone.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "subbyte/artifact.h"

namespace {

using subbyte::Artifact;
using Results = std::vector<std::vector<float>>;
using Clock = std::chrono::steady_clock;

constexpr int kThreads = 4, kCallers = 4, kStreams = 3;  // one caller waits for a stream
constexpr int kRuns = 3;  // by each caller on each model: models come and go as well
constexpr int kImages = 2;

std::unique_ptr<subbyte::Model> make(const Artifact& a, subbyte::Isa isa, int threads, int streams, std::int64_t above) {
  subbyte::Options options;
  options.isa = isa, options.threads = threads, options.streams = streams, options.depth_first_above = above;
  return std::make_unique<subbyte::Model>(a.values, a.nodes, a.input, a.outputs, options);
}

std::size_t elements(const subbyte::ValueDesc& v) { return static_cast<std::size_t>(v.height) * v.width * v.channels; }

// The outputs for images of seeded noise.
Results run(subbyte::Model& model) {
  std::vector<float> images(kImages * elements(model.value(model.input())));
  std::mt19937 random(5);
  for (float& x : images) x = static_cast<float>(random() >> 8) / 4194304.0f - 2.0f;
  Results results;
  std::vector<float*> pointers;
  for (const int o : model.outputs()) results.emplace_back(kImages * elements(model.value(o)));
  for (std::vector<float>& r : results) pointers.push_back(r.data());
  model.run(images.data(), kImages, pointers.data());
  return results;
}

// Whether every caller gets `expected`.
bool agree(const Artifact& a, subbyte::Isa isa, std::int64_t above, const Results& expected) {
  const auto model = make(a, isa, kThreads, kStreams, above);
  std::atomic<bool> equal{true};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&] {
      for (int k = 0; k < kRuns; ++k) {
        if (run(*model) != expected) equal = false;
      }
    });
  }
  for (std::thread& c : callers) c.join();
  return equal;
}

int stress(double seconds, const std::vector<Artifact>& networks) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  long runs = 0;
  do {  // at least once through everything
    for (std::size_t i = 0; i < networks.size(); ++i) {
      for (int isa = 0; isa < subbyte::kIsaCount; ++isa) {
        if (!subbyte::isa_supported(static_cast<subbyte::Isa>(isa))) continue;
        const auto alone = make(networks[i], static_cast<subbyte::Isa>(isa), 1, 1, -1);
        const Results expected = run(*alone);
        for (const std::int64_t above : {-1, 0}) {
          if (!agree(networks[i], static_cast<subbyte::Isa>(isa), above, expected)) {
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
              networks.size(), kCallers, kStreams, kThreads);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: subbyte_stress SECONDS NETWORK.subbyte...\n");
    return 2;
  }
  try {
    std::vector<Artifact> networks;
    for (int i = 2; i < argc; ++i) networks.push_back(subbyte::read_artifact(argv[i]));
    return stress(std::atof(argv[1]), networks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
