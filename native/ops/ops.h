// What the rows of ops.inc name: how an operation is checked, and how its step is made.
#pragma once

#include <vector>

#include "exec/step.h"

namespace subbyte {

// A node with its operands. The check sees descriptors only.
struct Operation {
  const NodeDesc& node;
  const Options& options;
  std::vector<const ValueDesc*> in;
  const ValueDesc& out;
  std::vector<const Buffer*> x = {};  // of its inputs
  const Buffer* y = nullptr;
  const GateSource* gate = nullptr;  // to apply where x[0] is loaded: the convolution that reads a fused `mul`
};

struct OpFunctions {
  void (*check)(const Operation&);  // throws std::invalid_argument
  StepPtr (*make)(const Operation&);
};
const OpFunctions& functions_of(Op op);

#define SUBBYTE_OP(enumerator, name, fewest, most, traits, attributes) \
  void check_##name(const Operation&);                                 \
  StepPtr make_##name(const Operation&);
#include "subbyte/ops.inc"

// For checks: plan/check.cc.
void need(bool condition, const NodeDesc& n, const char* text);
bool same_shape(const ValueDesc& a, const ValueDesc& b);
void check_window(const NodeDesc& n, const ValueDesc& x, const ValueDesc& y);

}  // namespace subbyte
