#include "exec/team.h"

#include <pthread.h>

#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace subbyte {
namespace {

// Polls before sleeping, some 10 microseconds: on free CPUs as fast as eight times as many, and where another program
// holds one of them, polling longer only keeps the thread that is waited for from running (docs/log.md).
constexpr int kSpins = 1 << 10;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Polls until `value` differs from `old`, then sleeps in the kernel.
template <typename T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

std::atomic<unsigned> generation{1};

// Counts in every child process.
[[maybe_unused]] const int kCounting = pthread_atfork(nullptr, nullptr, [] { generation.fetch_add(1); });

}  // namespace

unsigned process_generation() { return generation.load(std::memory_order_relaxed); }

Team::Team(int threads) : threads_(threads) { start(); }

Team::~Team() {
  if (generation_ == process_generation()) {
    join();
  } else {
    abandon();
  }
}

void Team::start() {
  generation_ = process_generation();
  stop_ = false;
  workers_.reserve(static_cast<std::size_t>(threads_ - 1));
  try {
    for (int t = 1; t < threads_; ++t) workers_.emplace_back([this, t] { loop(t); });
  } catch (...) {  // the machine has no more threads; those that started must end, and the next `run` tries again
    join();
    generation_ = 0;
    throw;
  }
}

void Team::join() {
  stop_ = true;
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& w : workers_) w.join();
  workers_.clear();
}

// The parent process's threads can neither be joined nor destroyed here; what describes them is left alone.
void Team::abandon() { static_cast<void>(new std::vector<std::thread>(std::move(workers_))); }

// In a process that was forked off, perhaps while the parent's threads were in the middle of something.
void Team::restart() {
  abandon();
  epoch_ = 0, running_ = 0, arrived_ = 0, phase_ = 0;
  start();
}

void Team::run(void (*work)(void*, int), void* context) {
  if (threads_ == 1) return work(context, 0);
  if (generation_ != process_generation()) restart();
  work_ = work;
  context_ = context;
  running_.store(threads_ - 1, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  work(context, 0);
  for (int left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    wait_while(running_, left);
  }
}

void Team::loop(int thread) {
  unsigned seen = 0;
  for (;;) {
    wait_while(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_) return;
    work_(context_, thread);
    running_.fetch_sub(1, std::memory_order_release);
    running_.notify_one();
  }
}

void Team::barrier() {
  if (threads_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
  } else {
    wait_while(phase_, phase);
  }
}

}  // namespace subbyte
