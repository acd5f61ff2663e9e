// Every dot kernel equals the portable one of its width: all row counts, run lengths with partly used
// packs, channel counts and finishes, with operands that end where the contract lets reading end.
#include "kernels/dot/dot.h"

#include <cstring>

#include "kernels/test.h"

namespace subbyte::test {
namespace {

constexpr int kReadPastRun = 3, kReadPastResidual = 64;  // dot.h

// The lists of what is kept of sparse weights: nothing of a run, all of it, or some groups.
std::vector<std::int32_t> keep(Random& random, int runs, int groups) {
  std::vector<std::int32_t> kept;
  const int percent = random.between(-1, 5) * 25;
  for (int run = 0; run < runs; ++run) {
    const int here = random.between(0, 3) == 0 ? random.between(0, 1) * 100 : percent;
    for (int g = 0; g < groups; ++g) {
      if (random.between(0, 99) < here) kept.push_back(4 * g);
    }
    kept.push_back(-1);
  }
  return kept;
}

std::size_t bytes_of(const std::vector<std::int32_t>& kept, const dot::Kernel& k) {
  std::size_t bytes = 0;
  int groups = 0;
  for (const std::int32_t at : kept) {
    if (at < 0) bytes += dot::panel_bytes(1, groups, k.vectors(), k.weights);
    groups = at < 0 ? 0 : groups + 1;
  }
  return bytes;
}

struct Trial {
  Trial(Random& random, const dot::Kernel& k, int rows, int runs, int groups, Finish finish)
      : rows(rows), runs(runs), groups(groups),
        channels(random.between(k.outputs % 16 == 0 ? 1 : 17, k.outputs)),
        offset(random.between(0, 70)),
        lists(k.has(dot::kSkips) ? keep(random, runs, groups) : std::vector<std::int32_t>{-1}), kept(lists.size()),
        weight_bytes(k.has(dot::kSkips) ? bytes_of(lists, k) : dot::panel_bytes(runs, groups, k.vectors(), k.weights)),
        weights(std::max<std::size_t>(weight_bytes, 1)), levels(16),
        table(256), bias(static_cast<std::size_t>(16 * k.vectors())), multiplier(static_cast<std::size_t>(16 * k.vectors())) {
    std::copy(lists.begin(), lists.end(), kept.data());
    // Weights and code books of every size: kernels may sum small weights differently.
    const int largest = 1 << random.between(0, 7);
    for (std::size_t i = 0; i < weight_bytes; ++i) {
      const bool small = k.weights.bits == 8 && largest < 128;
      weights.data()[i] = small ? static_cast<std::uint8_t>(random.between(-largest, largest)) : random.byte();
    }
    for (int i = 0; i < 16; ++i) {
      const int level = random.between(0, 3) == 0 ? -largest : random.between(-largest, std::min(largest, 127));
      levels.data()[i] = k.weights.bits == 2 && i >= 4 ? levels.data()[i % 4] : static_cast<std::uint8_t>(level);
    }
    for (int r = 0; r < rows; ++r) {
      for (int run = 0; run < runs; ++run) {
        in.emplace_back(static_cast<std::size_t>(4 * groups + kReadPastRun));
        for (std::size_t i = 0; i < in.back().size(); ++i) in.back()[i] = random.byte();
      }
      residual.emplace_back(static_cast<std::size_t>(offset + channels + kReadPastResidual));
      for (std::size_t i = 0; i < residual.back().size(); ++i) residual.back()[i] = random.byte();
    }
    for (int o = 0; o < 16 * k.vectors(); ++o) {
      bias[static_cast<std::size_t>(o)] = random.between(-(1 << 20), 1 << 20);
      multiplier[static_cast<std::size_t>(o)] = random_multiplier(random, runs * groups * 4);
    }
    if (k.outputs == 24) repeat_half();
    epilogue = random_epilogue(random, finish, table.data());
  }

  // What a kernel of 24 outputs finds in the upper half of the second vector; others do not use those outputs here.
  void repeat_half() {
    for (std::size_t i = 64; i < weight_bytes; i += 128) {
      std::copy_n(weights.data() + i, 32, weights.data() + i + 32);
    }
    std::copy_n(bias.data() + 16, 8, bias.data() + 24);
    std::copy_n(multiplier.data() + 16, 8, multiplier.data() + 24);
  }

  // The largest sums there are with weights of `level`, whatever their codes.
  void saturate(int level) {
    for (Input<std::uint8_t>& x : in) std::fill_n(x.data(), x.size(), std::uint8_t{255});
    const auto value = static_cast<std::uint8_t>(level);
    std::fill_n(levels.data(), 16, value);
    std::fill_n(weights.data(), weight_bytes, value);
    for (std::size_t o = 0; o < multiplier.size(); ++o) {
      multiplier[o] = 100.0f / (255.0f * 4 * static_cast<float>(groups * runs * std::abs(level)));
    }
  }

  // The outputs of all rows, one after another, `row_bytes()` apart.
  std::size_t row_bytes() const {
    return static_cast<std::size_t>(offset + channels + 64) * (epilogue.finish == Finish::kReal ? 4 : 1);
  }

  // pieces: how many parts the sums are made in, the first ones suspended and resumed.
  void run(const dot::Kernel& kernel, Output& output, int pieces = 1) {
    std::vector<const std::uint8_t*> pointers;
    std::vector<std::uint8_t*> out;
    std::vector<const std::uint8_t*> add;
    for (int run = 0; run < runs; ++run) {
      for (int r = 0; r < rows; ++r) pointers.push_back(in[static_cast<std::size_t>(r * runs + run)].data());
      pointers.push_back(nullptr);  // in_stride is one more than the rows
    }
    for (int r = 0; r < rows; ++r) {
      out.push_back(output.data() + static_cast<std::size_t>(r) * row_bytes());
      add.push_back(residual[static_cast<std::size_t>(r)].data());
    }
    dot::Tile tile{};
    tile.in = pointers.data();
    tile.in_stride = rows + 1;
    tile.runs = runs;
    tile.groups = groups;
    tile.weights = weights.data();
    tile.levels = reinterpret_cast<const std::int8_t*>(levels.data());
    tile.bias = bias.data();
    tile.multiplier = multiplier.data();
    tile.out = out.data();
    tile.residual = epilogue.finish == Finish::kResidual ? add.data() : nullptr;
    tile.offset = offset;
    tile.channels = channels;
    tile.epilogue = &epilogue;
    tile.kept = kept.data();
    if (kernel.has(dot::kChains)) {
      tile.chain = dot::chain_length(weights.data(), runs, groups, kernel.vectors(), kernel.weights, tile.levels);
    }
    AlignedInput sums(sizeof(std::int32_t) * 16 * static_cast<std::size_t>(rows * kernel.vectors()));
    const int per_pack = dot::groups_per_pack(kernel.weights.bits), packs = (groups + per_pack - 1) / per_pack;
    for (int i = 0; i < pieces; ++i) {
      const int first = packs * i / pieces * per_pack, last = std::min(groups, packs * (i + 1) / pieces * per_pack);
      if (first == last && i + 1 < pieces) continue;
      tile.groups = last - first;
      tile.skip = 4 * first;
      tile.weights = packed + dot::panel_bytes(1, first, kernel.vectors(), kernel.weights);
      tile.resume = first > 0 ? reinterpret_cast<std::int32_t*>(sums.data()) : nullptr;
      tile.suspend = i + 1 < pieces ? reinterpret_cast<std::int32_t*>(sums.data()) : nullptr;
      kernel.run(tile, rows);
    }
  }

  int rows, runs, groups, channels, offset;
  std::vector<std::int32_t> lists;
  Input<std::int32_t> kept;
  std::size_t weight_bytes;
  AlignedInput weights, levels, table;
  const std::uint8_t* packed = weights.data();  // what run() takes
  Input<std::int32_t> bias;
  Input<float> multiplier;
  std::vector<Input<std::uint8_t>> in, residual;
  Epilogue epilogue;
};

void check(Report& report, Random& random, const dot::Kernel& kernel, int rows, int groups, Finish finish,
           int pieces = 1, int level = 0) {
  Trial trial(random, kernel, rows, pieces > 1 ? 1 : random.between(1, 5), groups, finish);
  if (level != 0) trial.saturate(level);
  const std::size_t bytes = trial.row_bytes() * static_cast<std::size_t>(rows);
  Output actual(bytes), expected(bytes);
  trial.run(*dot::find(Isa::kPortable, kernel.weights, kernel.outputs, kernel.traits & dot::kSkips), expected);
  trial.run(kernel, actual, pieces);
  char what[160];
  std::snprintf(what, sizeof(what), "rows %d, runs %d, groups %d, channels %d, offset %d, finish %d, pieces %d, level %d",
                rows, trial.runs, groups, trial.channels, trial.offset, static_cast<int>(finish), pieces, level);
  report.expect(actual == expected, kernel.name, what);
  const std::size_t element = finish == Finish::kReal ? 4 : 1;
  const std::size_t last = trial.row_bytes() * static_cast<std::size_t>(rows - 1);
  report.expect(expected.untouched_outside(static_cast<std::size_t>(trial.offset) * element,
                                           last + static_cast<std::size_t>(trial.offset + trial.channels) * element),
                "dot portable writes", what);
}

// The definition of kernels that skip equals the dense one on the same weights with zeros in place of what is not kept.
void check_definition(Report& report, Random& random, int runs, int groups, int outputs) {
  const dot::Kernel& sparse = *dot::find(Isa::kPortable, kInt8, outputs, dot::kSkips);
  const dot::Kernel& dense = *dot::find(Isa::kPortable, kInt8, outputs);
  Trial trial(random, sparse, sparse.max_rows, runs, groups, Finish::kReal);
  const std::size_t bytes = trial.row_bytes() * static_cast<std::size_t>(trial.rows), group = 64 * static_cast<std::size_t>(dense.vectors());
  Output actual(bytes), expected(bytes);
  trial.run(sparse, actual);
  AlignedInput all(dot::panel_bytes(runs, groups, dense.vectors(), kInt8));
  std::size_t from = 0, run = 0;
  for (const std::int32_t at : trial.lists) {
    if (at < 0) {
      ++run;
      continue;
    }
    std::copy_n(trial.weights.data() + from, group, all.data() + (run * static_cast<std::size_t>(groups) + static_cast<std::size_t>(at) / 4) * group);
    from += group;
  }
  trial.packed = all.data();
  trial.run(dense, expected);
  report.expect(actual == expected, sparse.name, "equals the dense definition");
}

}  // namespace

void test_dot(Report& report, unsigned seed) {
  constexpr Finish kFinishes[] = {Finish::kClamp, Finish::kTable, Finish::kResidual, Finish::kReal};
  for (int i = 0; i < dot::table_size(); ++i) {
    const dot::Kernel& kernel = dot::table()[i];
    const dot::Kernel* found = dot::find(kernel.isa, kernel.weights, kernel.outputs, kernel.traits);
    report.expect(found == &kernel, kernel.name, "is found in the table");
    report.expect(kernel.has(dot::kSkips) == (std::strstr(kernel.name, "sparse") != nullptr), kernel.name, "is named by what it does");
    report.expect(kernel.max_rows <= dot::kMaxRows, kernel.name, "is no taller than any kernel");
    if (!report.runs(kernel.isa, kernel.name)) continue;
    Random random(seed + static_cast<unsigned>(i));
    for (int level = 1; level <= 128; ++level) {  // sums of small weights may take another way
      check(report, random, kernel, random.between(1, kernel.max_rows), 40, Finish::kReal, 1, -level);
      if (level < 128) check(report, random, kernel, random.between(1, kernel.max_rows), 70, Finish::kReal, 1, level);
    }
    for (const Finish finish : kFinishes) {
      for (int rows = 1; rows <= kernel.max_rows; ++rows) {
        if (rows <= 12) {
          for (int groups = 1; groups <= 9; ++groups) check(report, random, kernel, rows, groups, finish);
        } else {  // more of the same: tall tiles are made of low ones
          check(report, random, kernel, rows, random.between(1, 9), finish);
        }
        check(report, random, kernel, rows, random.between(10, 60), finish);
        if (rows % 8 == 1) check(report, random, kernel, rows, random.between(129, 400), finish);
        if (kernel.has(dot::kSplits)) check(report, random, kernel, rows, random.between(8, 40), finish, random.between(2, 3));
      }
    }
  }
  Random random(seed);
  for (int i = 0; i < 200; ++i) check_definition(report, random, random.between(1, 4), random.between(1, 40), random.between(1, 32));
  for (int isa = 0; isa < kIsaCount; ++isa) {  // the engine takes any of these for granted
    for (const Format weights : {kInt8, kInt4, kInt2}) {
      for (int outputs = 1; outputs <= 16 * dot::kMaxVectors; ++outputs) {
        const bool known = !isa_supported(static_cast<Isa>(isa)) || dot::find(static_cast<Isa>(isa), weights, outputs);
        report.expect(known, isa_name(static_cast<Isa>(isa)), "has a kernel of every width");
      }
    }
  }
}

}  // namespace subbyte::test
