// AVX2. There is no exact u8 x s8 dot product (vpmaddubsw sums pairs of products in 16 bits and saturates),
// so the layer's weights decide how products are summed:
//
// - chain: small ones. So many vpmaddubsw results fit 16 bits together (chain_length) and are added there; one vpmaddwd by
//   ones then widens them: 32 products per multiplication. Uniform 4- and 2-bit weights: 8 and 32 at least; 8-bit
//   ones of coarse steps: 2 to 16.
// - wide: any weights. Bytes 0, 2 and bytes 1, 3 of each group are widened to two vectors of 16-bit pairs
//   for vpmaddwd: 16 products per multiplication.
//
// A tile is tall, so that decoding and widening are paid once for many pixels. It works through its operand in
// chunks of groups: the activations of a chunk are laid beside each other, its weights unpacked 16 outputs at a
// time, and sub-tiles of a few pixels keep their sums in registers.
//
// Kernels that skip read activations where they are, by the list of what is kept: laying them beside each other once for each
// list would cost half of what it saves. So `wide` takes the bytes of a group apart in registers, two instructions for
// four multiplications, whose weights are operands in memory.
#include <immintrin.h>

#include "kernels/dot/dot.h"
#include "kernels/dot/slices.h"
#include "kernels/dot/x86_tile.h"
#include "kernels/sanitizer.h"
#include "kernels/x86_madd.h"

namespace subbyte::dot {
namespace {

#define NOINLINE __attribute__((noinline, noclone))

constexpr int kTileRows = 48;
constexpr int kChunk = 64;          // groups of 4 inputs
constexpr int kPlane = 4 * kChunk;  // bytes of a row of them
constexpr int kWideRows = 5, kEndRows = 4, kChainRows = 6;  // of a sub-tile; pixels are finished two by two

struct Buffers {
  alignas(32) std::int32_t sums[kMaxVectors][kTileRows][16];
  alignas(32) std::uint8_t x[kTileRows][2][kPlane];  // wide: bytes 0, 2 | bytes 1, 3 of each group as 16 bits
  alignas(32) std::int8_t decoded[kChunk][64];
  alignas(32) std::int16_t widened[kChunk][2][2][16];  // [group][outputs 0..7, 8..15][bytes 0, 2 | bytes 1, 3]
};

// acc0, acc1 += x0 * w0, x0 * w1 for four bytes, in 16 bits.
SUBBYTE_INLINE void dot_chain(__m256i& acc0, __m256i& acc1, const std::uint8_t* x, __m256i w0, __m256i w1) {
  __m256i a, b;
  asm("vpbroadcastd %4, %2\n\t"
      "vpmaddubsw %5, %2, %3\n\tvpmaddubsw %6, %2, %2\n\t"
      "vpaddw %3, %0, %0\n\tvpaddw %2, %1, %1"
      : "+x"(acc0), "+x"(acc1), "=&x"(a), "=&x"(b)
      : "m"(*reinterpret_cast<Group*>(x)), "x"(w0), "x"(w1));
}

// Pairs of 16-bit weights of a group: [outputs 0..7, 8..15][bytes 0, 2 | bytes 1, 3].
using Pairs = const std::int16_t[2][2][16];

// Where sums begin: each row's of an earlier chunk (step 16), or the bias for all rows (step 0).
struct Start {
  const std::int32_t* first;
  std::ptrdiff_t step;
};

template <int kRows>
SUBBYTE_INLINE void wide(__m256i (&acc)[kRows][2], Start from, const std::uint8_t (*x)[2][kPlane], Pairs* w, int groups) {
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) acc[r][0] = load(from.first + r * from.step), acc[r][1] = load(from.first + r * from.step + 8);
  const std::uint8_t* p = x[0][0];
  for (int g = 0; g < groups; ++g, p += 4) {
    const __m256i even0 = load(w[g][0][0]), odd0 = load(w[g][0][1]);
    const __m256i even1 = load(w[g][1][0]), odd1 = load(w[g][1][1]);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      madd_broadcast(acc[r][0], acc[r][1], p + 2 * kPlane * r, even0, even1);
      madd_broadcast(acc[r][0], acc[r][1], p + 2 * kPlane * r + kPlane, odd0, odd1);
    }
  }
}

template <int kRows>
NOINLINE void wide_on(Start from, std::int32_t (*sums)[16], const std::uint8_t (*x)[2][kPlane], Pairs* w, int groups) {
  __m256i acc[kRows][2];
  wide(acc, from, x, w, groups);
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) store(sums[r], acc[r][0]), store(sums[r] + 8, acc[r][1]);
}

// The last chunk: sums go from registers to stored outputs. Rows `row` .. `row` + kRows - 1 of the tile, vector v.
template <Finish kFinish, int kRows>
NOINLINE void wide_end(Start from, const Tile& t, const Finisher& f, int v, int row, const std::uint8_t (*x)[2][kPlane],
                       Pairs* w, int groups) {
  __m256i acc[kRows][2];
  wide(acc, from, x, w, groups);
  const int left = t.channels - 16 * v, channels = left < 16 ? left : 16;
  const __m256 m0 = _mm256_loadu_ps(t.multiplier + 16 * v), m1 = _mm256_loadu_ps(t.multiplier + 16 * v + 8);
#pragma GCC unroll 2
  for (int r = 0; r < kRows; r += 2) {
    const int pixels = kRows - r < 2 ? 1 : 2, other = r + pixels - 1;
    const __m256i pair[2][2] = {{acc[r][0], acc[r][1]}, {acc[other][0], acc[other][1]}};
    const std::uint8_t* residual[2] = {nullptr, nullptr};
    if (kFinish == Finish::kResidual) residual[0] = t.residual[row + r], residual[1] = t.residual[row + other];
    finish_two<kFinish>(f, pair, m0, m1, t.out + row + r, residual, t.offset + 16 * v, pixels, channels);
  }
}

template <int kRows>
NOINLINE void chain(std::int32_t (*sums)[16], const std::uint8_t (*x)[2][kPlane], const std::int8_t (*w)[64],
                    int groups, int depth) {
  const std::uint8_t* p = x[0][0];
  while (groups > 0) {
    __m256i acc[kRows][2];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    const int count = groups < depth ? groups : depth;
    for (int g = 0; g < count; ++g, ++w, p += 4) {
      const __m256i w0 = load(*w), w1 = load(*w + 32);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) dot_chain(acc[r][0], acc[r][1], p + 2 * kPlane * r, w0, w1);
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        store(sums[r] + 8 * h, _mm256_add_epi32(load(sums[r] + 8 * h), _mm256_madd_epi16(acc[r][h], ones)));
      }
    }
    groups -= count;
  }
}

// Kernels that skip: how many vpmaddubsw results of these weights fit 16 bits together, whatever the codes are:
// 510 * depth * max |level| <= 32767.
int depth_of(const std::int8_t* levels) {
  int largest = 1;
  for (int i = 0; i < 16; ++i) {
    const int magnitude = levels[i] < 0 ? -levels[i] : levels[i];
    largest = magnitude > largest ? magnitude : largest;
  }
  return 32767 / (510 * largest);
}

// kBytes of a row: 16, 8 or 4.
template <bool kWide, int kBytes>
SUBBYTE_INLINE void copy_part(std::uint8_t (&to)[2][kPlane], int at, const std::uint8_t* x) {
  __m128i v = _mm_setzero_si128();
  __builtin_memcpy(&v, x, kBytes);
  const __m128i even = kWide ? _mm_and_si128(v, _mm_set1_epi16(255)) : v, odd = _mm_srli_epi16(v, 8);
  __builtin_memcpy(to[0] + at, &even, kBytes);
  if (kWide) __builtin_memcpy(to[1] + at, &odd, kBytes);
}

// `groups` groups of one row: eight at a time, then four, two and one, as nothing may be read behind them.
template <bool kWide>
SUBBYTE_INLINE void copy_row(std::uint8_t (&to)[2][kPlane], int at, const std::uint8_t* x, int groups) {
  const __m256i mask = _mm256_set1_epi16(255);
  int g = 0;
  for (; g + 8 <= groups; g += 8) {
    const __m256i v = load(x + 4 * g);
    store(to[0] + 4 * (at + g), kWide ? _mm256_and_si256(v, mask) : v);
    if (kWide) store(to[1] + 4 * (at + g), _mm256_srli_epi16(v, 8));
  }
  if (groups & 4) copy_part<kWide, 16>(to, 4 * (at + g), x + 4 * g), g += 4;
  if (groups & 2) copy_part<kWide, 8>(to, 4 * (at + g), x + 4 * g), g += 2;
  if (groups & 1) copy_part<kWide, 4>(to, 4 * (at + g), x + 4 * g);
}

NOINLINE void widen(std::int16_t (*out)[2][2][16], const std::int8_t* w, std::ptrdiff_t stride, int groups) {
  for (int g = 0; g < groups; ++g, w += stride) {
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256i both = load(w + 32 * h);
      store(out[g][h][0], _mm256_srai_epi16(_mm256_slli_epi16(both, 8), 8));
      store(out[g][h][1], _mm256_srai_epi16(both, 8));
    }
  }
}

// What a chunk is made of: up to kChunk groups, from one run or several.
struct Piece {
  int run, group, count;
  const std::uint8_t* packed;
};

struct Chunk {
  int pieces = 0, groups = 0;
  Piece piece[kChunk];
};

// The next chunk from `next` on. Ends where a pack ends.
template <int kBits>
void take(const Tile& t, std::ptrdiff_t stride, Piece& next, Chunk& c) {
  constexpr int kPack = 8 / kBits;
  c.pieces = c.groups = 0;
  while (next.run < t.runs) {
    const int room = (kChunk - c.groups) / kPack * kPack, left = t.groups - next.group;
    const int count = left < room ? left : room;
    if (count == 0) return;
    next.count = count;
    c.piece[c.pieces++] = next;
    c.groups += count;
    next.packed += stride * ((count + kPack - 1) / kPack);
    next.group += count;
    if (next.group == t.groups) ++next.run, next.group = 0;
  }
}

template <bool kWide>
void copy(const Tile& t, const Chunk& c, int rows, Buffers& b) {
  for (int r = 0; r < rows; ++r) {
    int at = 0;
    for (int i = 0; i < c.pieces; ++i) {
      const Piece& p = c.piece[i];
      copy_row<kWide>(b.x[r], at, t.in[p.run * t.in_stride + r] + 4 * static_cast<std::ptrdiff_t>(p.group), p.count);
      at += p.count;
    }
  }
}

// Weights of outputs 16 v .. 16 v + 15 into `widened` (kWide) or `decoded`.
template <int kBits, bool kWide>
void unpack(const Tile& t, const Chunk& c, std::ptrdiff_t stride, int v, Buffers& b) {
  int at = 0;
  for (int i = 0; i < c.pieces; ++i) {
    const std::uint8_t* packed = c.piece[i].packed + 64 * v;
    if constexpr (kBits == 8 && kWide) {
      widen(b.widened + at, reinterpret_cast<const std::int8_t*>(packed), stride, c.piece[i].count);
    } else if constexpr (kBits == 8) {
      for (int g = 0; g < c.piece[i].count; ++g, packed += stride) {
        store(b.decoded[at + g], load(packed)), store(b.decoded[at + g] + 32, load(packed + 32));
      }
    } else {
      decode<kBits>(b.decoded + at, packed, stride, t.levels, c.piece[i].count);
    }
    at += c.piece[i].count;
  }
  if (kWide && kBits < 8) widen(b.widened, b.decoded[0], 64, at);
}

// Rows in parts of at most `most`: part(rows of it, its first row).
template <typename Part>
SUBBYTE_INLINE void in_parts(int rows, int most, Part part) {
  const int parts = (rows + most - 1) / most;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    part(n, r);
    r += n;
  }
}

void multiply_chains(int rows, int groups, int depth, std::int32_t (*sums)[16], const Buffers& b) {
  in_parts(rows, kChainRows, [&](int n, int r) {
    switch (n) {
#define CASE(N) case N: return chain<N>(sums + r, b.x + r, b.decoded, groups, depth);
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    }
  });
}

// A chunk that is not the last one.
void multiply_on(Start from, int rows, int groups, std::int32_t (*sums)[16], const Buffers& b) {
  in_parts(rows, kWideRows, [&](int n, int r) {
    const Start start{from.first + r * from.step, from.step};
    switch (n) {
#define CASE(N) case N: return wide_on<N>(start, sums + r, b.x + r, b.widened, groups);
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5)
#undef CASE
    }
  });
}

template <Finish kFinish>
void multiply_end(Start from, const Tile& t, const Finisher& f, int v, int rows, int groups, const Buffers& b) {
  in_parts(rows, kEndRows, [&](int n, int r) {
    const Start start{from.first + r * from.step, from.step};
    switch (n) {
#define CASE(N) case N: return wide_end<kFinish, N>(start, t, f, v, r, b.x + r, b.widened, groups);
      CASE(1) CASE(2) CASE(3) CASE(4)
#undef CASE
    }
  });
}

void multiply_end(Start from, const Tile& t, const Finisher& f, int v, int rows, int groups, const Buffers& b) {
  switch (t.epilogue->finish) {
    case Finish::kClamp: return multiply_end<Finish::kClamp>(from, t, f, v, rows, groups, b);
    case Finish::kTable: return multiply_end<Finish::kTable>(from, t, f, v, rows, groups, b);
    case Finish::kResidual: return multiply_end<Finish::kResidual>(from, t, f, v, rows, groups, b);
    case Finish::kReal: return multiply_end<Finish::kReal>(from, t, f, v, rows, groups, b);
  }
}

template <int kBits>
void tile_of_chains(const Tile& t, int vectors, int rows, int depth) {
  Buffers b;
  Chunk c;
  for (int v = 0; v < vectors; ++v) {
    const __m256i low = load(t.bias + 16 * v), high = load(t.bias + 16 * v + 8);
    for (int r = 0; r < rows; ++r) store(b.sums[v][r], low), store(b.sums[v][r] + 8, high);
  }
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  Piece next{0, 0, 0, t.weights};
  while (next.run < t.runs) {
    take<kBits>(t, stride, next, c);
    copy<false>(t, c, rows, b);
    for (int v = 0; v < vectors; ++v) {
      unpack<kBits, false>(t, c, stride, v, b);
      multiply_chains(rows, c.groups, depth, b.sums[v], b);
    }
  }
  finish_tile(t, vectors, rows, b.sums);
}

template <int kBits>
void tile(const Tile& t, int vectors, int rows) {
  Buffers b;
  Chunk c;
  Finisher f;
  load_finisher(f, *t.epilogue);
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  Piece next{0, 0, 0, t.weights};
  for (bool first = true; next.run < t.runs; first = false) {
    take<kBits>(t, stride, next, c);
    copy<true>(t, c, rows, b);
    for (int v = 0; v < vectors && 16 * v < t.channels; ++v) {
      unpack<kBits, true>(t, c, stride, v, b);
      const Start from = first ? Start{t.bias + 16 * v, 0} : Start{b.sums[v][0], 16};
      if (next.run < t.runs) {
        multiply_on(from, rows, c.groups, b.sums[v], b);
      } else {
        multiply_end(from, t, f, v, rows, c.groups, b);
      }
    }
  }
}

constexpr int kSparseRows = 6;  // of a sub-tile

// acc0, acc1 += x[0..3] * w
SUBBYTE_INLINE void madd_group(__m256i& acc0, __m256i& acc1, const std::uint8_t* x, Pairs& w, __m256i mask) {
  __m256i even, odd, product;
  announce_read(x, sizeof(Group));
  asm("vpbroadcastd %5, %2\n\t"
      "vpsrlw $8, %2, %3\n\tvpand %10, %2, %2\n\t"
      "vpmaddwd %6, %2, %4\n\tvpaddd %4, %0, %0\n\t"
      "vpmaddwd %7, %2, %2\n\tvpaddd %2, %1, %1\n\t"
      "vpmaddwd %8, %3, %4\n\tvpaddd %4, %0, %0\n\t"
      "vpmaddwd %9, %3, %3\n\tvpaddd %3, %1, %1"
      : "+x"(acc0), "+x"(acc1), "=&x"(even), "=&x"(odd), "=&x"(product)
      : "m"(*reinterpret_cast<Group*>(x)), "m"(w[0][0]), "m"(w[1][0]), "m"(w[0][1]), "m"(w[1][1]), "x"(mask));
}

template <int kRows>
NOINLINE void wide_kept(const Tile& t, const Kept& k, Pairs* w, int row, std::int32_t (*sums)[16]) {
  const __m256i mask = _mm256_set1_epi16(255);
  __m256i acc[kRows][2];
  const std::uint8_t* x[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    acc[r][0] = load(sums[r]), acc[r][1] = load(sums[r] + 8);
    x[r] = t.in[k.run * t.in_stride + row + r];
  }
  for (int i = 0; i < k.count; ++i) {
    const std::ptrdiff_t at = k.at[i];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) madd_group(acc[r][0], acc[r][1], x[r] + at, w[i], mask);
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) store(sums[r], acc[r][0]), store(sums[r] + 8, acc[r][1]);
}

template <int kRows>
NOINLINE void chain_kept(const Tile& t, const Kept& k, const std::int8_t (*w)[64], int depth, int row,
                         std::int32_t (*sums)[16]) {
  const std::uint8_t* x[kRows];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) x[r] = t.in[k.run * t.in_stride + row + r];
  for (int i = 0; i < k.count;) {
    __m256i acc[kRows][2];
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
    const int end = k.count - i < depth ? k.count : i + depth;
    for (; i < end; ++i) {
      const std::ptrdiff_t at = k.at[i];
      const __m256i w0 = load(w[i]), w1 = load(w[i] + 32);
#pragma GCC unroll 6
      for (int r = 0; r < kRows; ++r) {
        announce_read(x[r] + at, sizeof(Group));
        dot_chain(acc[r][0], acc[r][1], x[r] + at, w0, w1);
      }
    }
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) {
        store(sums[r] + 8 * h, _mm256_add_epi32(load(sums[r] + 8 * h), _mm256_madd_epi16(acc[r][h], ones)));
      }
    }
  }
}

// depth: of chains; 0: none, products are wide.
void multiply_kept(const Tile& t, const Kept& k, const std::int8_t (*decoded)[64], Pairs* widened, int depth, int rows,
                   std::int32_t (*sums)[16]) {
  const int parts = (rows + kSparseRows - 1) / kSparseRows;
  for (int i = 0, r = 0; i < parts; ++i) {
    const int n = rows / parts + (i < rows % parts);
    switch (n) {
#define CASE(N)                                                           \
  case N:                                                                 \
    if (depth > 0) chain_kept<N>(t, k, decoded, depth, r, sums + r);      \
    else wide_kept<N>(t, k, widened, r, sums + r);                        \
    break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#undef CASE
    }
    r += n;
  }
}

template <int kBits>
NOINLINE void run_sparse(const Tile& t, int vectors, int rows) {
  alignas(32) std::int32_t sums[kMaxVectors][kTileRows][16];
  alignas(32) std::int8_t decoded[kBits < 8 ? kSlice + 3 : 1][64];
  alignas(32) std::int16_t widened[kSlice][2][2][16];
  const int depth = kBits == 8 ? 0 : depth_of(t.levels);
  const std::ptrdiff_t stride = 64 * static_cast<std::ptrdiff_t>(vectors);
  for (int v = 0; v < vectors; ++v) {
    const __m256i low = load(t.bias + 16 * v), high = load(t.bias + 16 * v + 8);
    for (int r = 0; r < rows; ++r) store(sums[v][r], low), store(sums[v][r] + 8, high);
    for (Kept k = first_kept(t); k.run < t.runs; advance<kBits>(t, stride, k)) {
      if (k.count == 0) continue;
      const std::uint8_t* packed = k.packed + 64 * v;
      if constexpr (kBits == 8) {
        widen(widened, reinterpret_cast<const std::int8_t*>(packed), stride, k.count);
      } else {
        decode<kBits>(decoded, packed, stride, t.levels, k.count);
        if (depth == 0) widen(widened, decoded[0], 64, k.count);
      }
      multiply_kept(t, k, decoded, widened, depth, rows, sums[v]);
    }
  }
  finish_tile(t, vectors, rows, sums);
}

template <int kBits>
NOINLINE void run(const Tile& t, int vectors, int rows) {
  if (t.chain > 1) return tile_of_chains<kBits>(t, vectors, rows, t.chain);
  tile<kBits>(t, vectors, rows);
}

}  // namespace

#define SUBBYTE_ONLY_AVX2
#define SUBBYTE_KERNEL(isa, format, outputs, rows, traits, function) \
  void function(const Tile& t, int r) { \
    return ((traits) & kSkips) != 0 ? run_sparse<format.bits>(t, outputs / 16, r) : run<format.bits>(t, outputs / 16, r); \
  }
#include "kernels/dot/kernels.inc"

}  // namespace subbyte::dot
