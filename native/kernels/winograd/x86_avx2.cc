// Winograd convolution for AVX2: 16 channels of a tile are transformed together; 6 tiles x 16 outputs are summed in
// registers by vpmaddwd.
#include <immintrin.h>

#include "kernels/winograd/weights.h"
#include "kernels/winograd/winograd.h"
#include "kernels/x86_avx2_epilogue.h"
#include "kernels/x86_madd.h"

namespace subbyte::winograd {
namespace {

#define NOINLINE __attribute__((noinline, noclone))

constexpr int kRows = 6;  // tiles summed together

SUBBYTE_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
SUBBYTE_INLINE void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

// 16-bit numbers of an element of a tile: channels rounded up to 16.
std::ptrdiff_t stride(const Shape& s) { return (s.channels + 15) / 16 * 16; }

// Scratch memory: v [16 elements][kMaxTiles][stride] as s16, then m [16 elements][kMaxTiles][16] as int32.
std::ptrdiff_t v_bytes(const Shape& s) { return 2 * 16 * kMaxTiles * stride(s); }

// B' d of four rows of 16 channels.
SUBBYTE_INLINE void transform(const __m256i (&d)[4], __m256i (&v)[4]) {
  v[0] = _mm256_sub_epi16(d[0], d[2]);
  v[1] = _mm256_add_epi16(d[1], d[2]);
  v[2] = _mm256_sub_epi16(d[2], d[1]);
  v[3] = _mm256_sub_epi16(d[1], d[3]);
}

// B' d of one column of inputs.
SUBBYTE_INLINE void column(const Strip& s, std::ptrdiff_t at, __m256i (&v)[4]) {
  __m256i d[4];
#pragma GCC unroll 4
  for (int y = 0; y < 4; ++y) {
    d[y] = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(s.in[y] + at)));
  }
  transform(d, v);
}

NOINLINE void transform_strip(const Shape& shape, const Strip& s, std::int16_t* v) {
  const std::ptrdiff_t channels = stride(shape);
  for (std::ptrdiff_t c = 0; c < channels; c += 16) {
    __m256i columns[4][4];
    column(s, c, columns[0]);
    column(s, s.in_pixel + c, columns[1]);
    for (int t = 0; t < s.tiles; ++t) {
      column(s, (2 * t + 2) * s.in_pixel + c, columns[2]);
      column(s, (2 * t + 3) * s.in_pixel + c, columns[3]);
#pragma GCC unroll 4
      for (int y = 0; y < 4; ++y) {
        const __m256i row[4] = {columns[0][y], columns[1][y], columns[2][y], columns[3][y]};
        __m256i out[4];
        transform(row, out);
#pragma GCC unroll 4
        for (int x = 0; x < 4; ++x) store(v + ((4 * y + x) * kMaxTiles + t) * channels + c, out[x]);
        columns[0][y] = columns[2][y];
        columns[1][y] = columns[3][y];
      }
    }
  }
}

// One element of kCount tiles and 16 outputs.
template <int kCount>
NOINLINE void multiply(const std::int16_t* v, std::ptrdiff_t tile, const std::int16_t* u, int pairs,
                       std::int32_t (*m)[16]) {
  __m256i acc[kCount][2];
#pragma GCC unroll 6
  for (int t = 0; t < kCount; ++t) acc[t][0] = acc[t][1] = _mm256_setzero_si256();
  const std::int16_t* p[kCount];
#pragma GCC unroll 6
  for (int t = 0; t < kCount; ++t) p[t] = v + t * tile;
  for (int i = 0; i < pairs; ++i, u += 32) {
    const __m256i w0 = load(u), w1 = load(u + 16);
#pragma GCC unroll 6
    for (int t = 0; t < kCount; ++t) madd_broadcast(acc[t][0], acc[t][1], p[t] + 2 * i, w0, w1);
  }
#pragma GCC unroll 6
  for (int t = 0; t < kCount; ++t) store(m[t], acc[t][0]), store(m[t] + 8, acc[t][1]);
}

void multiply_tiles(const std::int16_t* v, std::ptrdiff_t tile, const std::int16_t* u, int pairs, int tiles,
                    std::int32_t (*m)[16]) {
  const int parts = (tiles + kRows - 1) / kRows;
  for (int i = 0, t = 0; i < parts; ++i) {
    const int n = tiles / parts + (i < tiles % parts);
    switch (n) {
      case 1: multiply<1>(v + t * tile, tile, u, pairs, m + t); break;
      case 2: multiply<2>(v + t * tile, tile, u, pairs, m + t); break;
      case 3: multiply<3>(v + t * tile, tile, u, pairs, m + t); break;
      case 4: multiply<4>(v + t * tile, tile, u, pairs, m + t); break;
      case 5: multiply<5>(v + t * tile, tile, u, pairs, m + t); break;
      case 6: multiply<6>(v + t * tile, tile, u, pairs, m + t); break;
    }
    t += n;
  }
}

// 8 outputs of one tile: bias + A' m A / 4.
SUBBYTE_INLINE void make_outputs(const std::int32_t (*m)[kMaxTiles][16], int t, int half, __m256i bias,
                                 __m256i (&y)[2][2]) {
  __m256i rows[2][4];
#pragma GCC unroll 4
  for (int x = 0; x < 4; ++x) {
    const __m256i m0 = load(m[x][t] + half), m1 = load(m[4 + x][t] + half);
    const __m256i m2 = load(m[8 + x][t] + half), m3 = load(m[12 + x][t] + half);
    rows[0][x] = _mm256_add_epi32(_mm256_add_epi32(m0, m1), m2);
    rows[1][x] = _mm256_sub_epi32(_mm256_sub_epi32(m1, m2), m3);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) {
    const __m256i* q = rows[r];
    y[r][0] = _mm256_add_epi32(_mm256_srai_epi32(_mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), q[2]), 2), bias);
    y[r][1] = _mm256_add_epi32(_mm256_srai_epi32(_mm256_sub_epi32(_mm256_sub_epi32(q[1], q[2]), q[3]), 2), bias);
  }
}

template <Finish kFinish>
void finish_tiles(const Shape& shape, const Strip& s, const Finisher& f, const std::uint8_t* panel, int first,
                  const std::int32_t (*m)[kMaxTiles][16]) {
  const auto* multiplier = reinterpret_cast<const float*>(panel + 64);
  const __m256 m0 = _mm256_loadu_ps(multiplier), m1 = _mm256_loadu_ps(multiplier + 8);
  const __m256i b0 = load(panel), b1 = load(panel + 32);
  const int channels = shape.outputs - first < 16 ? shape.outputs - first : 16;
  for (int t = 0; t < s.tiles; ++t) {
    __m256i low[2][2], high[2][2];
    make_outputs(m, t, 0, b0, low);
    make_outputs(m, t, 8, b1, high);
    const int pixels = s.width - 2 * t < 2 ? 1 : 2;
    for (int r = 0; r < s.height; ++r) {
      const __m256i sums[2][2] = {{low[r][0], high[r][0]}, {low[r][1], high[r][1]}};
      std::uint8_t* to = s.out[r] + 2 * t * s.out_pixel;
      std::uint8_t* const out[2] = {to, to + s.out_pixel};
      const std::uint8_t* residual[2] = {to, to};
      if constexpr (kFinish == Finish::kResidual) {
        residual[0] = s.residual[r] + 2 * t * s.residual_pixel;
        residual[1] = residual[0] + (pixels - 1) * s.residual_pixel;
      }
      finish_two<kFinish>(f, sums, m0, m1, out, residual, first, pixels, channels);
    }
  }
}

template <Finish kFinish>
void run_as(const Shape& shape, const std::uint8_t* packed, const Strip& s) {
  auto* v = reinterpret_cast<std::int16_t*>(s.scratch);
  auto* m = reinterpret_cast<std::int32_t(*)[kMaxTiles][16]>(s.scratch + v_bytes(shape));
  Finisher f;
  load_finisher(f, *s.epilogue);
  transform_strip(shape, s, v);
  const int pairs = shape.channels / 2;
  for (int p = 0; p < panels(shape); ++p) {
    const std::uint8_t* panel = packed + static_cast<std::size_t>(p) * panel_bytes(shape);
    const auto* u = reinterpret_cast<const std::int16_t*>(panel + 128);
    for (int e = 0; e < 16; ++e) {
      multiply_tiles(v + e * kMaxTiles * stride(shape), stride(shape), u + static_cast<std::ptrdiff_t>(e) * pairs * 32,
                     pairs, s.tiles, m[e]);
    }
    finish_tiles<kFinish>(shape, s, f, panel, 16 * p, m);
  }
}

}  // namespace

std::size_t winograd_u8s8_avx2_bytes(const Shape& s) { return static_cast<std::size_t>(panels(s)) * panel_bytes(s); }

void winograd_u8s8_avx2_pack(const Shape& s, const Weights& w, std::uint8_t* packed) { pack_panels(s, w, packed); }

std::size_t winograd_u8s8_avx2_scratch(const Shape& s) {
  return static_cast<std::size_t>(v_bytes(s)) + sizeof(std::int32_t) * 16 * kMaxTiles * 16;
}

void winograd_u8s8_avx2_run(const Shape& s, const std::uint8_t* packed, const Strip& strip) {
  switch (strip.epilogue->finish) {
    case Finish::kClamp: return run_as<Finish::kClamp>(s, packed, strip);
    case Finish::kTable: return run_as<Finish::kTable>(s, packed, strip);
    case Finish::kResidual: return run_as<Finish::kResidual>(s, packed, strip);
    case Finish::kReal: return run_as<Finish::kReal>(s, packed, strip);
  }
}

}  // namespace subbyte::winograd
