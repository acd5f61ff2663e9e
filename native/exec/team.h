// A fixed team of threads that run one function together, with a barrier. The caller is thread 0.
//
// A process that is forked off has a copy of the team but none of its threads: `run` starts new ones there.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace subbyte {

// How often this process and its ancestors were forked off another one, since this code was loaded: tells a process
// from those that hold copies of its memory.
unsigned process_generation();

class Team {
 public:
  explicit Team(int threads);  // throws std::system_error if there cannot be as many
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return threads_; }

  // Calls work(context, t) on every thread t; returns when all have returned. Allocates nothing and throws nothing but,
  // the first time in a process that was forked off, what the constructor throws.
  void run(void (*work)(void* context, int thread), void* context);

  // Called by every thread inside `run`: returns when all have called it.
  void barrier();

 private:
  void start();
  void restart();
  void loop(int thread);
  void join();
  void abandon();

  int threads_;
  unsigned generation_ = 0;  // of the process that the threads are of
  // Written by one side and polled by the other: each on a cache line of its own.
  alignas(64) std::atomic<unsigned> epoch_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> phase_{0};
  alignas(64) void (*work_)(void*, int) = nullptr;
  void* context_ = nullptr;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace subbyte
