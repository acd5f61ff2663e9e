// A quantized layer's weights as its description holds them, for the families' packing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace subbyte {

struct LayerWeights {
  int bits;                    // of a code: 8, 4 or 2
  const std::uint8_t* packed;  // codes in OHWI order, the lowest bits of a byte first
  const std::int8_t* levels;   // [2^bits]
  std::size_t per_output;      // weights of an output channel
  const std::int32_t* bias;
  const float* multiplier;
  int zero_point;  // of the inputs

  int code(std::size_t i) const {
    const std::size_t bit = i * static_cast<std::size_t>(bits);
    return (packed[bit / 8] >> (bit % 8)) & ((1 << bits) - 1);
  }
  std::int8_t value(std::size_t i) const { return levels[code(i)]; }

  // The code of weight 0, or -1.
  int zero_code() const {
    for (int c = 0; c < 1 << bits; ++c) {
      if (levels[c] == 0) return c;
    }
    return -1;
  }

  // numerics.md: sum (x - z) w + B = sum x w + (B - z sum w), in 32-bit wrap-around arithmetic.
  std::int32_t centred_bias(std::size_t output) const {
    std::int64_t sum = 0;
    for (std::size_t i = output * per_output; i < (output + 1) * per_output; ++i) sum += value(i);
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::int64_t>(bias[output]) - zero_point * sum));
  }
};

}  // namespace subbyte
