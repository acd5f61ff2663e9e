// subbyte_kernel_test: every row of every kernel table against the definition. Exits with 1 on a failure.
#include <csignal>

#include "kernels/test.h"

namespace {

using subbyte::test::Report;

// Names the kernel that reads outside of its operands. AddressSanitizer says more, where it is there.
[[noreturn]] void crashed(int) {
  for (const char* text : {"FAILED ", Report::row, ": touches memory outside of its operands\n"}) {
    if (write(STDOUT_FILENO, text, std::strlen(text)) < 0) break;
  }
  _exit(1);
}

}  // namespace

int main() {
  if (!subbyte::kAddressSanitizer) std::signal(SIGSEGV, crashed);
  constexpr unsigned kSeed = 20240607;
  const struct {
    const char* family;
    void (*run)(Report&, unsigned);
  } families[] = {
#define SUBBYTE_FAMILY(name) {#name, subbyte::test::test_##name},
#include "kernels/families.inc"
  };
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("seed %u\n", kSeed);
  int failures = 0;
  for (const auto& f : families) {
    Report report;
    f.run(report, kSeed);
    std::printf("%s: %d checks, %d failures, %zu rows skipped\n", f.family, report.trials, report.failures,
                report.skipped.size());
    for (const std::string& row : report.skipped) std::printf("SKIPPED %s: this CPU cannot run it\n", row.c_str());
    failures += report.failures;
  }
  return failures == 0 ? 0 : 1;
}
