// Every Winograd kernel equals direct convolution: channel counts, strips with and without their last row and column,
// all finishes, operands that end where the contract lets reading end.
#include "kernels/portable_epilogue.h"
#include "kernels/test.h"
#include "kernels/winograd/winograd.h"

namespace subbyte::test {
namespace {

struct Trial {
  Trial(Random& random, winograd::Shape s, int tiles, Finish finish)
      : shape(s), tiles(tiles), width(2 * tiles - random.between(0, 1)), height(random.between(1, 2)),
        in_pixel(s.channels + 4 * random.between(0, 2)),
        element(finish == Finish::kReal ? 4 : 1), out_pixel(element * (s.outputs + random.between(0, 5))),
        residual_pixel(s.outputs + random.between(0, 5)), table(256) {
    const std::size_t outputs = static_cast<std::size_t>(s.outputs);
    weights.resize(outputs * 9 * static_cast<std::size_t>(s.channels));
    for (std::int8_t& w : weights) w = static_cast<std::int8_t>(random.byte());
    for (std::size_t o = 0; o < outputs; ++o) {
      bias.push_back(random.between(-100000, 100000));
      multiplier.push_back(random_multiplier(random, 9 * s.channels));
    }
    for (int y = 0; y < 4; ++y) rows.emplace_back(filled(random, static_cast<std::size_t>((2 * tiles + 2) * in_pixel + 16)));
    for (int y = 0; y < 2; ++y) residual.emplace_back(filled(random, static_cast<std::size_t>(width * residual_pixel + 64)));
    epilogue = random_epilogue(random, finish, table.data());
  }

  // The largest sums there are: of the same sign, of every channel.
  void saturate(std::int8_t weight) {
    for (std::int8_t& w : weights) w = weight;
    for (Input<std::uint8_t>& row : rows) std::fill_n(row.data(), row.size(), std::uint8_t{255});
    for (float& m : multiplier) m = 100.0f / (9.0f * 128 * 255 * static_cast<float>(shape.channels));
  }

  static Input<std::uint8_t> filled(Random& random, std::size_t bytes) {
    Input<std::uint8_t> input(bytes);
    for (std::size_t i = 0; i < bytes; ++i) input[i] = random.byte();
    return input;
  }

  std::ptrdiff_t row_bytes() const { return width * out_pixel; }

  void run(const winograd::Kernel& kernel, Output& output) {
    AlignedInput packed(kernel.packed_bytes(shape)), scratch(kernel.scratch_bytes(shape));
    kernel.pack(shape, {weights.data(), bias.data(), multiplier.data()}, packed.data());
    winograd::Strip s{};
    for (std::size_t y = 0; y < 4; ++y) s.in[y] = rows[y].data();
    s.in_pixel = in_pixel;
    s.tiles = tiles, s.width = width, s.height = height;
    for (std::size_t y = 0; y < 2; ++y) {
      s.out[y] = output.data() + static_cast<std::ptrdiff_t>(y) * row_bytes();
      if (epilogue.finish == Finish::kResidual) s.residual[y] = residual[y].data();
    }
    s.out_pixel = out_pixel, s.residual_pixel = residual_pixel;
    s.epilogue = &epilogue;
    s.scratch = scratch.data();
    kernel.run(shape, packed.data(), s);
  }

  void define(Output& output) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        for (int o = 0; o < shape.outputs; ++o) {
          std::int32_t sum = bias[static_cast<std::size_t>(o)];
          for (int t = 0; t < 9; ++t) {
            const std::uint8_t* in = rows[static_cast<std::size_t>(y + t / 3)].data() + (x + t % 3) * in_pixel;
            const std::int8_t* w = weights.data() + (static_cast<std::size_t>(o) * 9 + t) * shape.channels;
            for (int c = 0; c < shape.channels; ++c) sum += w[c] * in[c];
          }
          finish_one(epilogue, sum, multiplier[static_cast<std::size_t>(o)], output.data() + y * row_bytes() + x * out_pixel,
                     residual[static_cast<std::size_t>(y)].data() + x * residual_pixel, o);
        }
      }
    }
  }

  winograd::Shape shape;
  int tiles, width, height;
  std::ptrdiff_t in_pixel, element, out_pixel, residual_pixel;
  AlignedInput table;
  std::vector<std::int8_t> weights;
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
  std::vector<Input<std::uint8_t>> rows, residual;
  Epilogue epilogue;
};

void check(Report& report, Random& random, const winograd::Kernel& kernel, winograd::Shape s, int tiles, Finish finish,
           int weight = 0) {
  Trial trial(random, s, tiles, finish);
  if (weight != 0) trial.saturate(static_cast<std::int8_t>(weight));
  const std::size_t bytes = static_cast<std::size_t>(2 * trial.row_bytes());
  Output actual(bytes), expected(bytes);
  trial.define(expected);
  trial.run(kernel, actual);
  char what[160];
  std::snprintf(what, sizeof(what), "channels %d, outputs %d, tiles %d, width %d, height %d, finish %d", s.channels,
                s.outputs, tiles, trial.width, trial.height, static_cast<int>(finish));
  report.expect(actual == expected, kernel.name, what);
}

}  // namespace

void test_winograd(Report& report, unsigned seed) {
  constexpr int kOutputs[] = {1, 7, 8, 15, 16, 17, 24, 40};
  for (int i = 0; i < winograd::table_size(); ++i) {
    const winograd::Kernel& kernel = winograd::table()[i];
    report.expect(winograd::find(kernel.isa) == &kernel, kernel.name, "is found in the table");
    if (!report.runs(kernel.isa, kernel.name)) continue;
    Random random(seed + static_cast<unsigned>(i));
    for (const Finish finish : {Finish::kClamp, Finish::kTable, Finish::kResidual, Finish::kReal}) {
      for (const int outputs : kOutputs) {
        for (int channels = 4; channels <= 72; channels += 4) {
          for (int trial = 0; trial < 4; ++trial) check(report, random, kernel, {channels, outputs}, random.between(1, 7), finish);
        }
      }
      for (int tiles = 1; tiles <= winograd::kMaxTiles; ++tiles) check(report, random, kernel, {24, 17}, tiles, finish);
      for (const int weight : {-128, 127}) check(report, random, kernel, {winograd::kMaxChannels, 3}, 2, finish, weight);
    }
  }
}

}  // namespace subbyte::test
