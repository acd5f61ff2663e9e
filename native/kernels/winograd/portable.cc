// Winograd convolution in plain C++: one tile and one output channel after the other.
#include "kernels/portable_epilogue.h"
#include "kernels/winograd/weights.h"
#include "kernels/winograd/winograd.h"

namespace subbyte::winograd {
namespace {

// B' d for a column of 4: unsigned, as the sums that follow.
void transform(const std::uint32_t (&d)[4], std::uint32_t (&v)[4]) {
  v[0] = d[0] - d[2];
  v[1] = d[1] + d[2];
  v[2] = d[2] - d[1];
  v[3] = d[1] - d[3];
}

// v[element][channel] of one tile.
void transform_tile(const Shape& s, const Strip& strip, int tile, std::int32_t* v) {
  for (int c = 0; c < s.channels; ++c) {
    std::uint32_t rows[4][4];
    for (int x = 0; x < 4; ++x) {
      std::uint32_t d[4], t[4];
      for (int y = 0; y < 4; ++y) d[y] = strip.in[y][(2 * tile + x) * strip.in_pixel + c];
      transform(d, t);
      for (int y = 0; y < 4; ++y) rows[y][x] = t[y];
    }
    for (int y = 0; y < 4; ++y) {
      std::uint32_t t[4];
      transform(rows[y], t);
      for (int x = 0; x < 4; ++x) v[(4 * y + x) * s.channels + c] = static_cast<std::int32_t>(t[x]);
    }
  }
}

// y = A' m A / 4 of one tile and output.
void make_outputs(const std::uint32_t (&m)[16], std::int32_t (&y)[2][2]) {
  std::uint32_t rows[2][4];
  for (int x = 0; x < 4; ++x) {
    rows[0][x] = m[x] + m[4 + x] + m[8 + x];
    rows[1][x] = m[4 + x] - m[8 + x] - m[12 + x];
  }
  for (int r = 0; r < 2; ++r) {
    y[r][0] = static_cast<std::int32_t>(rows[r][0] + rows[r][1] + rows[r][2]) / 4;
    y[r][1] = static_cast<std::int32_t>(rows[r][1] - rows[r][2] - rows[r][3]) / 4;
  }
}

}  // namespace

std::size_t winograd_u8s8_portable_bytes(const Shape& s) { return static_cast<std::size_t>(panels(s)) * panel_bytes(s); }

void winograd_u8s8_portable_pack(const Shape& s, const Weights& w, std::uint8_t* packed) { pack_panels(s, w, packed); }

std::size_t winograd_u8s8_portable_scratch(const Shape& s) { return 64 * static_cast<std::size_t>(s.channels); }

void winograd_u8s8_portable_run(const Shape& s, const std::uint8_t* packed, const Strip& strip) {
  auto* v = reinterpret_cast<std::int32_t*>(strip.scratch);
  for (int tile = 0; tile < strip.tiles; ++tile) {
    transform_tile(s, strip, tile, v);
    for (int o = 0; o < s.outputs; ++o) {
      const std::uint8_t* panel = packed + static_cast<std::size_t>(o / 16) * panel_bytes(s);
      const std::int32_t bias = reinterpret_cast<const std::int32_t*>(panel)[o % 16];
      const float multiplier = reinterpret_cast<const float*>(panel)[16 + o % 16];
      const auto* u = reinterpret_cast<const std::int16_t*>(panel + 128) + 2 * (o % 16);
      std::uint32_t m[16];
      for (int e = 0; e < 16; ++e) {
        m[e] = 0;
        for (int c = 0; c < s.channels; ++c) {
          m[e] += static_cast<std::uint32_t>(u[(e * (s.channels / 2) + c / 2) * 32 + c % 2] * v[e * s.channels + c]);
        }
      }
      std::int32_t y[2][2];
      make_outputs(m, y);
      for (int r = 0; r < strip.height; ++r) {
        for (int x = 2 * tile; x < strip.width && x < 2 * tile + 2; ++x) {
          const std::uint8_t* residual = strip.residual[r] ? strip.residual[r] + x * strip.residual_pixel : nullptr;
          const std::uint32_t sum = static_cast<std::uint32_t>(y[r][x % 2]) + static_cast<std::uint32_t>(bias);
          finish_one(*strip.epilogue, static_cast<std::int32_t>(sum), multiplier, strip.out[r] + x * strip.out_pixel,
                     residual, o);
        }
      }
    }
  }
}

}  // namespace subbyte::winograd
