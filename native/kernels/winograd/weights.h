// u = (2G) g (2G)' of one 3 x 3 filter, and the layout that kernels pack it in. Local to the including file.
//
// Packed: [panel of 16 outputs] x (bias [16], multiplier [16], [16 elements][pairs of channels][16 outputs] x
// (channel 2p, channel 2p + 1) as s16).
#pragma once

#include "kernels/winograd/winograd.h"

namespace subbyte::winograd {
namespace {

inline int panels(const Shape& s) { return (s.outputs + 15) / 16; }
inline std::size_t panel_bytes(const Shape& s) { return 128 + 16 * static_cast<std::size_t>(s.channels) * 32; }

inline void transform_filter(const int (&g)[3][3], int (&u)[4][4]) {
  int rows[4][3];
  for (int c = 0; c < 3; ++c) {
    rows[0][c] = 2 * g[0][c];
    rows[1][c] = g[0][c] + g[1][c] + g[2][c];
    rows[2][c] = g[0][c] - g[1][c] + g[2][c];
    rows[3][c] = 2 * g[2][c];
  }
  for (int r = 0; r < 4; ++r) {
    u[r][0] = 2 * rows[r][0];
    u[r][1] = rows[r][0] + rows[r][1] + rows[r][2];
    u[r][2] = rows[r][0] - rows[r][1] + rows[r][2];
    u[r][3] = 2 * rows[r][2];
  }
}

inline void pack_panels(const Shape& s, const Weights& w, std::uint8_t* packed) {
  __builtin_memset(packed, 0, static_cast<std::size_t>(panels(s)) * panel_bytes(s));
  for (int o = 0; o < s.outputs; ++o) {
    std::uint8_t* panel = packed + static_cast<std::size_t>(o / 16) * panel_bytes(s);
    reinterpret_cast<std::int32_t*>(panel)[o % 16] = w.bias[o];
    reinterpret_cast<float*>(panel)[16 + o % 16] = w.multiplier[o];
    auto* out = reinterpret_cast<std::int16_t*>(panel + 128);
    for (int c = 0; c < s.channels; ++c) {
      int g[3][3], u[4][4];
      for (int t = 0; t < 9; ++t) g[t / 3][t % 3] = w.values[(static_cast<std::size_t>(o) * 9 + t) * s.channels + c];
      transform_filter(g, u);
      for (int e = 0; e < 16; ++e) {
        out[(static_cast<std::size_t>(e) * (s.channels / 2) + c / 2) * 32 + 2 * (o % 16) + c % 2] =
            static_cast<std::int16_t>(u[e / 4][e % 4]);
      }
    }
  }
}

}  // namespace
}  // namespace subbyte::winograd
