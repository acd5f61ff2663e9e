// Depth-first execution: row tile by row tile, each step makes the rows that the next ones need.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "exec/step.h"

namespace subbyte {
namespace {

using Clock = std::chrono::steady_clock;

class Region final : public Step {
 public:
  explicit Region(std::vector<RegionStep> steps) : steps_(std::move(steps)) {}

  std::size_t scratch_bytes() const override {
    std::size_t most = 0;
    for (const RegionStep& s : steps_) most = std::max(most, s.step->scratch_bytes());
    return most;
  }

  std::int64_t weight_bytes() const override {
    std::int64_t total = 0;
    for (const RegionStep& s : steps_) total += s.step->weight_bytes();
    return total;
  }

  std::vector<StepInfo> infos() const override {
    std::vector<StepInfo> result;
    for (const RegionStep& s : steps_) result.push_back(s.step->info);
    return result;
  }

  std::size_t infos_count() const override { return steps_.size(); }

  void run(const Context& c) const override {
    for (const RegionStep& s : steps_) {
      if (s.y.lines > 0) {
        fill_columns(c, s.y);
      } else {
        fill_halo(c, s.y);
      }
    }
    if (c.team) c.team->barrier();
    for (std::size_t tile = 0; tile < steps_[0].rows.size(); ++tile) {
      for (std::size_t i = 0; i < steps_.size(); ++i) {
        const auto start = c.seconds ? Clock::now() : Clock::time_point{};
        make_rows(c, steps_[i], steps_[i].rows[tile]);
        if (c.team) c.team->barrier();
        if (c.seconds) c.seconds[i] += std::chrono::duration<double>(Clock::now() - start).count();
      }
    }
  }

 private:
  // Rows outside the image are padding; the rest is computed.
  static void make_rows(const Context& c, const RegionStep& s, Range rows) {
    if (rows.begin >= rows.end) return;
    if (c.thread == 0 && s.y.lines > 0) {
      for (int y = rows.begin; y < rows.end; ++y) {
        if (y >= 0 && y < s.y.height) continue;
        std::memset(c.address(s.y, y, -s.y.left), s.y.zero_point, static_cast<std::size_t>(s.y.row));
      }
    }
    const Range inside{std::max(rows.begin, 0), std::min(rows.end, s.y.height)};
    if (inside.begin < inside.end) s.step->run_rows(c, inside);
  }

  // The edges of every row of a line buffer; nothing overwrites them while the region runs.
  static void fill_columns(const Context& c, const Buffer& b) {
    if (b.left + b.right == 0) return;
    const Range slots = share(b.lines, c.thread, c.threads);
    for (int i = slots.begin; i < slots.end; ++i) {
      std::memset(c.address(b, i - b.top, -b.left), b.zero_point, static_cast<std::size_t>(b.left * b.pixel));
      std::memset(c.address(b, i - b.top, b.width), b.zero_point, static_cast<std::size_t>(b.right * b.pixel));
    }
  }

  std::vector<RegionStep> steps_;
};

}  // namespace

StepPtr make_region(std::vector<RegionStep> steps) { return std::make_unique<Region>(std::move(steps)); }

}  // namespace subbyte
