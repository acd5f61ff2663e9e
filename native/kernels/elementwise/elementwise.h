// Everything that is neither a convolution nor float32 arithmetic: conversions, tables, sums, gates, pools.
// Contiguous ranges unless said otherwise; in and out do not overlap.
#pragma once

#include <cstddef>
#include <cstdint>

#include "subbyte/isa.h"

namespace subbyte::elementwise {

struct Add {  // numerics.md, "add"
  std::int32_t zero_a, zero_b, zero, high;
  float factor_a, factor_b;
};

struct Prelu {  // numerics.md, "prelu"
  std::int32_t zero_x, zero, high;
  float above;
};

struct Gate {  // numerics.md, "mul"
  std::int32_t zero_x, zero, high;
};

struct Kernel {
  Isa isa;
  // out[p * out_pixel + c] = code of in[p * channels + c]; `low`, `high` are the float32 clamp bounds.
  void (*quantize)(const float* in, int pixels, int channels, float inverse_scale, float low, float high,
                   std::int32_t zero, std::uint8_t* out, std::ptrdiff_t out_pixel);
  void (*dequantize)(const std::uint8_t* in, std::int64_t n, std::int32_t zero, float scale, float* out);
  // table: [256], 64-byte aligned
  void (*look_up)(const std::uint8_t* table, const std::uint8_t* in, std::int64_t n, std::uint8_t* out);
  void (*add)(const Add&, const std::uint8_t* a, const std::uint8_t* b, std::int64_t n, std::uint8_t* out);
  // out[p][c] = gated x[p][c]; factors: [channels], readable 64 entries past the end. Writes up to `out_pixel`
  // bytes of a pixel.
  void (*gate)(const Gate&, const std::int16_t* factors, const std::uint8_t* x, std::ptrdiff_t x_pixel, int pixels,
               int channels, std::uint8_t* out, std::ptrdiff_t out_pixel);
  // out[p][c] = (x[p][c] - zero_x) times `above`, or below[c] if it is less than 0, on the grid of out
  void (*prelu)(const Prelu&, const float* below, const std::uint8_t* x, std::ptrdiff_t x_pixel, int pixels,
                int channels, std::uint8_t* out, std::ptrdiff_t out_pixel);
  // factors[c] = clamp(rne((codes[c] - zero) * scales[c])): the Q15 factors of a gate
  void (*factors)(const std::uint8_t* codes, int channels, std::int32_t zero, const float* scales,
                  std::int16_t* factors);
  // sums[c] += x[p][c] over the pixels
  void (*sum)(const std::uint8_t* x, std::ptrdiff_t pixel, int pixels, int channels, std::uint32_t* sums);
  // out[c] = clamp(rne((sums[c] - offset) * scale) + zero, 0, high)
  void (*average)(const std::uint32_t* sums, int channels, std::int64_t offset, float scale, std::int32_t zero,
                  std::int32_t high, std::uint8_t* out);
  // out[i] = max(out[i], in[i])
  void (*maximum)(const std::uint8_t* in, std::int64_t n, std::uint8_t* out);
  const char* name;
};

const Kernel* find(Isa isa);
const Kernel* table();
int table_size();

}  // namespace subbyte::elementwise
