// A fixed team of threads that run one function together, with a barrier. The caller is thread 0.
#pragma once

#include <atomic>
#include <thread>
#include <vector>

namespace subbyte {

class Team {
 public:
  explicit Team(int threads);  // throws std::system_error if there cannot be as many
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return threads_; }

  // Calls work(context, t) on every thread t; returns when all have returned. Allocates nothing.
  void run(void (*work)(void* context, int thread), void* context);

  // Called by every thread inside `run`: returns when all have called it.
  void barrier();

 private:
  void loop(int thread);
  void join();

  int threads_;
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
