// Model: a plan, and as many streams (arena, scratch, threads) as may run at once.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>

#include "exec/team.h"
#include "kernels/elementwise/elementwise.h"
#include "kernels/sanitizer.h"
#include "plan/plan.h"
#include "subbyte/engine.h"

namespace subbyte {

template <typename T>
Aligned<T>::Aligned(std::size_t count) : size_(count) {
  const std::size_t bytes = (count * sizeof(T) + 127) / 64 * 64;
  void* p = std::aligned_alloc(64, bytes);
  if (!p) throw std::bad_alloc();
  data_.reset(static_cast<T*>(p));
}

template <typename T>
void Aligned<T>::Free::operator()(T* p) const {
  std::free(p);
}

template class Aligned<std::uint8_t>;
template class Aligned<std::int32_t>;
template class Aligned<float>;

namespace {

struct Stream {
  Stream(std::size_t arena_bytes, std::size_t scratch_bytes, int threads)
      : arena(arena_bytes + 4096), scratch(scratch_bytes * static_cast<std::size_t>(threads) + 64), team(threads) {
    std::memset(arena.data(), 0, arena.size());
  }
  Aligned<std::uint8_t> arena, scratch;
  Team team;
  std::atomic<unsigned> user{0};  // process_generation() of the process that runs here; 0: nobody does
};

using Clock = std::chrono::steady_clock;

// One image on one stream, as every thread of the team sees it.
struct Job {
  const Plan* plan;
  Stream* stream;
  const float* input;
  double* seconds;

  static void work(void* self, int thread) {
    const Job& job = *static_cast<Job*>(self);
    const Plan& plan = *job.plan;
    Context c{job.stream->arena.data(), job.input,
              job.stream->scratch.data() + static_cast<std::size_t>(thread) * plan.scratch_bytes, thread,
              job.stream->team.threads()};
    if (c.threads > 1) c.team = &job.stream->team;
    double* seconds = thread == 0 ? job.seconds : nullptr;
    for (const StepPtr& step : plan.steps) {
      if constexpr (kAddressSanitizer) {  // no step needs more scratch memory than it has asked for
        const std::size_t own = step->scratch_bytes();
        unpoison(c.scratch, own);
        poison(c.scratch + own, plan.scratch_bytes - own);
      }
      const std::size_t rows = step->infos_count();
      const auto start = seconds ? Clock::now() : Clock::time_point{};
      c.seconds = seconds && rows > 1 ? seconds : nullptr;
      step->run(c);
      job.stream->team.barrier();
      if (!seconds) continue;
      if (rows == 1) *seconds += std::chrono::duration<double>(Clock::now() - start).count();
      seconds += rows;
    }
  }
};

}  // namespace

struct Model::Impl {
  Plan plan;
  Options options;
  int input;
  std::vector<int> outputs;
  std::vector<StepInfo> infos;
  std::vector<std::unique_ptr<Stream>> streams;
  std::atomic<unsigned> released{0};  // how often a stream was

  // No lock: one that another thread holds while the process is forked would stay locked in the child for ever. There, a
  // stream that was in use in the parent is free.
  Stream* acquire() {
    const unsigned me = process_generation();
    for (;;) {
      const unsigned seen = released.load(std::memory_order_acquire);
      for (auto& s : streams) {
        unsigned user = s->user.load(std::memory_order_relaxed);
        if (user != me && s->user.compare_exchange_strong(user, me, std::memory_order_acquire)) return s.get();
      }
      released.wait(seen, std::memory_order_acquire);
    }
  }

  void release(Stream* s) {
    s->user.store(0, std::memory_order_release);
    released.fetch_add(1, std::memory_order_release);
    released.notify_one();
  }

  void copy_output(const Stream& s, int value, float* out) const {
    const Buffer& b = plan.buffers[value];
    const ValueDesc& v = plan.values[value];
    const Context c{const_cast<std::uint8_t*>(s.arena.data()), nullptr, nullptr, 0, 1, nullptr, nullptr};
    const std::size_t elements = static_cast<std::size_t>(v.height) * v.width * v.channels;
    if (!v.quantized) {
      std::memcpy(out, c.real(b), 4 * elements);
      return;
    }
    const elementwise::Kernel* kernel = elementwise::find(options.isa);
    for (int y = 0; y < v.height; ++y) {
      for (int x = 0; x < v.width; ++x, out += v.channels) {
        kernel->dequantize(c.address(b, y, x), v.channels, v.zero_point, v.scale, out);
      }
    }
  }
};

Model::Model(std::vector<ValueDesc> values, std::vector<NodeDesc> nodes, int input, std::vector<int> outputs,
             const Options& options)
    : impl_(std::make_unique<Impl>()) {
  impl_->plan = make_plan(std::move(values), nodes, input, outputs, options);
  impl_->options = options;
  impl_->input = input;
  impl_->outputs = std::move(outputs);
  for (const StepPtr& s : impl_->plan.steps) {
    for (const StepInfo& i : s->infos()) impl_->infos.push_back(i);
  }
  for (int i = 0; i < options.streams; ++i) {
    impl_->streams.push_back(
        std::make_unique<Stream>(impl_->plan.arena_bytes, impl_->plan.scratch_bytes, options.threads));
    const Aligned<std::uint8_t>& arena = impl_->streams.back()->arena;
    guard_arena(impl_->plan.buffers, arena.data(), arena.size());
  }
}

Model::~Model() = default;

void Model::run(const float* input, int images, float* const* outputs, double* seconds) {
  const auto release = [this](Stream* s) { impl_->release(s); };
  const std::unique_ptr<Stream, decltype(release)> held(impl_->acquire(), release);
  Stream* stream = held.get();
  const ValueDesc& in = impl_->plan.values[impl_->input];
  const std::size_t elements = static_cast<std::size_t>(in.height) * in.width * in.channels;
  for (int n = 0; n < images; ++n) {
    Job job{&impl_->plan, stream, input + static_cast<std::size_t>(n) * elements, seconds};
    stream->team.run(Job::work, &job);
    for (std::size_t o = 0; o < impl_->outputs.size(); ++o) {
      const ValueDesc& v = impl_->plan.values[impl_->outputs[o]];
      const std::size_t size = static_cast<std::size_t>(v.height) * v.width * v.channels;
      impl_->copy_output(*stream, impl_->outputs[o], outputs[o] + static_cast<std::size_t>(n) * size);
    }
  }
}

const std::vector<StepInfo>& Model::steps() const { return impl_->infos; }
std::int64_t Model::arena_bytes() const { return static_cast<std::int64_t>(impl_->plan.arena_bytes); }
std::int64_t Model::scratch_bytes() const {
  return static_cast<std::int64_t>(impl_->plan.scratch_bytes) * impl_->options.threads;
}
std::int64_t Model::weight_bytes() const { return impl_->plan.weight_bytes; }
std::int64_t Model::region_work() const { return impl_->plan.region_work; }
const ValueDesc& Model::value(int index) const { return impl_->plan.values[static_cast<std::size_t>(index)]; }
int Model::input() const { return impl_->input; }
const std::vector<int>& Model::outputs() const { return impl_->outputs; }

}  // namespace subbyte
