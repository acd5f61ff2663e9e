// What training does to every element of a map between two convolutions, in one pass over memory each: rounding
// to a code and looking it up in a table, and the way back. Used by subbyte/execute/torch only.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace subbyte::sampling {

using Table = std::array<float, 256>;
using Sums = std::array<double, 256>;

// A thread is worth starting for so many elements.
inline constexpr std::size_t kShare = 1 << 16;
// Elements that stay in the first-level cache from one loop to the next.
inline constexpr std::size_t kBlock = 2048;

// Calls work(part, begin, end) for consecutive parts of 0 .. n, on at most `threads` threads. Which parts there
// are depends on n and `threads` only.
template <typename Work>
void in_parts(std::size_t n, int threads, const Work& work) {
  const std::size_t parts = std::clamp<std::size_t>(n / kShare, 1, static_cast<std::size_t>(std::max(threads, 1)));
  std::vector<std::thread> started;
  for (std::size_t part = 1; part < parts; ++part) {
    started.emplace_back([&work, part, n, parts] { work(part, n * part / parts, n * (part + 1) / parts); });
  }
  work(0, 0, n / parts);
  for (std::thread& thread : started) thread.join();
}

// codes[i] = clamp(rne(v[i]), 0, 255), 0 for NaN; n <= kBlock.
inline void round_codes(const float* __restrict v, std::size_t n, std::uint8_t* __restrict codes) {
  constexpr float kRound = 12582912.0F;  // 1.5 · 2^23: what is added to it is rounded to integers
  std::array<float, kBlock> bound;       // a loop each: GCC makes branches of two clamps in one
  for (std::size_t i = 0; i < n; ++i) bound[i] = v[i] > 0.0F ? v[i] : 0.0F;
  for (std::size_t i = 0; i < n; ++i) bound[i] = bound[i] < 255.0F ? bound[i] : 255.0F;
  for (std::size_t i = 0; i < n; ++i) {
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>((bound[i] + kRound) - kRound));
  }
}

inline void look_up(const float* __restrict table, const std::uint8_t* __restrict codes, std::size_t n,
                    float* __restrict out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = table[codes[i]];
}

// index[i] = clamp(rne(v[i]), 0, 255); out[i] = table[index[i]].
inline void round_and_look_up(const float* v, std::size_t n, const Table& table, std::uint8_t* index, float* out,
                              int threads) {
  in_parts(n, threads, [&](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t first = begin; first < end; first += kBlock) {
      const std::size_t count = std::min(kBlock, end - first);
      round_codes(v + first, count, index + first);
      look_up(table.data(), index + first, count, out + first);
    }
  });
}

// out[i] = gradient[i] · slopes[index[i]]; returns the sums of gradient[i] by index[i].
inline Sums slope_and_sum(const float* gradient, std::size_t n, const Table& slopes, const std::uint8_t* index,
                          float* out, int threads) {
  constexpr std::size_t kBanks = 4;  // sums of neighbours do not wait for each other
  std::vector<std::array<Sums, kBanks>> parts(static_cast<std::size_t>(std::max(threads, 1)));
  in_parts(n, threads, [&](std::size_t part, std::size_t begin, std::size_t end) {
    auto& banks = parts[part];
    for (std::size_t i = begin; i < end; ++i) {
      out[i] = gradient[i] * slopes[index[i]];
      banks[i % kBanks][index[i]] += static_cast<double>(gradient[i]);
    }
  });
  Sums total{};
  for (const auto& banks : parts) {
    for (const Sums& bank : banks) {
      for (std::size_t code = 0; code < total.size(); ++code) total[code] += bank[code];
    }
  }
  return total;
}

}  // namespace subbyte::sampling
