// Which activation function a layer ends with.
#pragma once

namespace subbyte {

enum class Act {
#define SUBBYTE_ACTIVATION(enumerator, name, result) enumerator,
#include "subbyte/activations.inc"
};

struct Activation {
  Act act = Act::kNone;
  float parameters[3] = {0, 0, 0};
};

}  // namespace subbyte
