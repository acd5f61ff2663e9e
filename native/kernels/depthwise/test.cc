// Every depthwise kernel equals the portable one: windows of 1 x 1 to 9 x 9, all strides up to the largest, odd widths
// and channel counts, rows that end where the contract lets reading end.
#include "kernels/depthwise/depthwise.h"

#include <numeric>

#include "kernels/test.h"

namespace subbyte::test {
namespace {

struct Trial {
  Trial(Random& random, depthwise::Shape s, int pixels, Finish finish)
      : shape(s), width(pixels), in_pixel((s.channels + 3) / 4 * 4 + 4 * random.between(0, 3)),
        out_pixel((finish == Finish::kReal ? 4 : 1) * ((s.channels + 3) / 4 * 4 + 4 * random.between(0, 3))), table(256) {
    const std::size_t channels = static_cast<std::size_t>(s.channels);
    taps.resize(static_cast<std::size_t>(s.kernel_h * s.kernel_w) * channels);
    for (std::int8_t& t : taps) t = static_cast<std::int8_t>(random.byte());
    for (std::size_t c = 0; c < channels; ++c) {
      bias.push_back(random.between(-100000, 100000));
      multiplier.push_back(random_multiplier(random, s.kernel_h * s.kernel_w));
    }
    const int in_pixels = (width - 1) * s.stride + s.kernel_w + depthwise::kReadAhead;
    for (int ky = 0; ky < s.kernel_h; ++ky) {
      rows.emplace_back(static_cast<std::size_t>(in_pixels * in_pixel + 64));
      fill(random, rows.back());
    }
    epilogue = random_epilogue(random, finish, table.data());
  }

  // Random bytes where windows lie; what large strides leave out stays 0.
  void fill(Random& random, Input<std::uint8_t>& row) const {
    std::ptrdiff_t at = 0;
    for (int x = 0; x < width; ++x) {
      const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(x) * shape.stride * in_pixel;
      for (at = std::max(at, begin); at < begin + shape.kernel_w * in_pixel; ++at) {
        row[static_cast<std::size_t>(at)] = random.byte();
      }
    }
    for (; at < static_cast<std::ptrdiff_t>(row.size()); ++at) row[static_cast<std::size_t>(at)] = random.byte();
  }

  std::size_t bytes() const { return static_cast<std::size_t>(width * out_pixel); }

  void run(const depthwise::Kernel& kernel, Output& output) {
    AlignedInput packed(kernel.packed_bytes(shape));
    kernel.pack(shape, {taps.data(), bias.data(), multiplier.data()}, packed.data());
    std::vector<const std::uint8_t*> in;
    for (Input<std::uint8_t>& row : rows) in.push_back(row.data());
    kernel.run(shape, packed.data(), {in.data(), in_pixel, width, output.data(), out_pixel, &epilogue});
  }

  depthwise::Shape shape;
  int width;
  std::ptrdiff_t in_pixel, out_pixel;
  AlignedInput table;
  std::vector<std::int8_t> taps;
  std::vector<std::int32_t> bias;
  std::vector<float> multiplier;
  std::vector<Input<std::uint8_t>> rows;
  Epilogue epilogue;
};

void check(Report& report, Random& random, const depthwise::Kernel& kernel, depthwise::Shape s, Finish finish,
           int width = 0) {
  Trial trial(random, s, width > 0 ? width : random.between(1, random.between(0, 1) ? 9 : 40), finish);
  Output actual(trial.bytes()), expected(trial.bytes());
  trial.run(*depthwise::find(Isa::kPortable), expected);
  trial.run(kernel, actual);
  char what[160];
  std::snprintf(what, sizeof(what), "kernel %d x %d, stride %d, channels %d, width %d, finish %d", s.kernel_h,
                s.kernel_w, s.stride, s.channels, trial.width, static_cast<int>(finish));
  report.expect(actual == expected, kernel.name, what);
  const int wide = finish == Finish::kReal ? 4 : 1;
  const std::size_t last = static_cast<std::size_t>((trial.width - 1) * trial.out_pixel + wide * s.channels);
  report.expect(expected.untouched_outside(0, last), "depthwise portable writes", what);
}

}  // namespace

void test_depthwise(Report& report, unsigned seed) {
  constexpr int kSquare[] = {1, 3, 5, 7}, kMaxExtent = 1 << 16;
  std::vector<int> channels(70);
  std::iota(channels.begin(), channels.end(), 1);
  channels.insert(channels.end(), {80, 100, 128, 130});
  for (int i = 0; i < depthwise::table_size(); ++i) {
    const depthwise::Kernel& kernel = depthwise::table()[i];
    report.expect(depthwise::find(kernel.isa) == &kernel, kernel.name, "is found in the table");
    if (!report.runs(kernel.isa, kernel.name)) continue;
    Random random(seed + static_cast<unsigned>(i));
    for (const Finish finish : {Finish::kClamp, Finish::kTable, Finish::kReal}) {
      for (const int c : channels) {
        for (int stride = 1; stride <= 3; ++stride) {
          for (const int k : kSquare) check(report, random, kernel, {k, k, stride, c}, finish);
          check(report, random, kernel, {random.between(1, 9), random.between(1, 9), stride, c}, finish);
        }
        const int stride = random.between(4, 40);
        check(report, random, kernel, {random.between(1, 3), random.between(1, 9), stride, c}, finish);
        check(report, random, kernel, {1, random.between(1, 5), stride, c}, finish, 2 * random.between(0, 9) + 1);
      }
      for (int width = 1; width <= 9; ++width) {  // as far apart as the widest map allows
        const int stride = kMaxExtent / std::max(1, width - 1);
        for (const int c : {1, 4, 17}) check(report, random, kernel, {1, random.between(1, 5), stride, c}, finish, width);
      }
    }
  }
}

}  // namespace subbyte::test
