// classify NETWORK.subbyte IMAGE.f32: the five most probable classes of an image that is float32 [H, W, C] in a file,
// preprocessed. Needs the library only; CMakeLists.txt beside it builds it with the installed package.
#include <subbyte/subbyte.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <numeric>
#include <vector>

int main(int argc, char** argv) {
  if (argc != 3) return std::fprintf(stderr, "usage: classify NETWORK.subbyte IMAGE.f32\n"), 2;
  char error[512];
  subbyte_network* network = subbyte_load(argv[1], nullptr, error, sizeof error);
  if (network == nullptr) return std::fprintf(stderr, "error: %s\n", error), 1;

  const subbyte_shape in = subbyte_input(network), out = subbyte_output(network, 0);
  std::vector<float> image(in.height * in.width * in.channels), scores(out.height * out.width * out.channels);
  std::ifstream file(argv[2], std::ios::binary);
  const auto bytes = static_cast<std::streamsize>(image.size() * sizeof(float));
  if (!file.read(reinterpret_cast<char*>(image.data()), bytes)) return std::fprintf(stderr, "error: short image\n"), 1;

  float* outputs[] = {scores.data()};
  if (subbyte_outputs(network) != 1 || subbyte_run(network, image.data(), 1, outputs, error, sizeof error) != 0) {
    return std::fprintf(stderr, "error: %s\n", subbyte_outputs(network) == 1 ? error : "no classifier"), 1;
  }
  std::vector<int> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const auto best = order.begin() + std::min<std::ptrdiff_t>(5, order.size());
  std::partial_sort(order.begin(), best, order.end(), [&](int a, int b) { return scores[a] > scores[b]; });
  for (auto i = order.begin(); i != best; ++i) {
    const char* name = subbyte_class_name(network, *i);
    std::printf("%8.4f  %d  %s\n", scores[*i], *i, name == nullptr ? "" : name);
  }
  subbyte_free(network);
}
