// Which activation function a layer ends with.
#pragma once

#include <initializer_list>

namespace subbyte {

enum class Act {
#define SUBBYTE_ACTIVATION(enumerator, name, result, ...) enumerator,
#include "subbyte/activations.inc"
};

struct Activation {
  Act act = Act::kNone;
  float parameters[3] = {0, 0, 0};
};

struct ActivationInfo {
  const char* name;
  int parameters;      // how many it has
  double defaults[3];  // of them
};

inline constexpr ActivationInfo kActivations[] = {  // indexed by Act
#define SUBBYTE_ACTIVATION(enumerator, name, result, ...) \
  {#name, static_cast<int>(std::initializer_list<double>{__VA_ARGS__}.size()), {__VA_ARGS__}},
#include "subbyte/activations.inc"
};
inline constexpr int kActivationCount = sizeof(kActivations) / sizeof(kActivations[0]);

}  // namespace subbyte
