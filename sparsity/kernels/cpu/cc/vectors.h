// Vectors of the machine, and sums of products in its registers.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

namespace {

// Lanes of a vector, and the largest tile: MAX_ROWS * MAX_VECTORS accumulators and MAX_VECTORS of weights
// fit in the registers.
#if defined(__AVX512F__)
constexpr int LANES = 16, MAX_ROWS = 12, MAX_VECTORS = 2;
#elif defined(__AVX__)
constexpr int LANES = 8, MAX_ROWS = 6, MAX_VECTORS = 2;
#elif defined(__aarch64__)
constexpr int LANES = 4, MAX_ROWS = 6, MAX_VECTORS = 4;
#else
constexpr int LANES = 4, MAX_ROWS = 6, MAX_VECTORS = 2;
#endif
constexpr int WIDTH = LANES * MAX_VECTORS;
// A tile of few rows is wider, so that blocks are read along whole rows: it waits for memory.
constexpr int FEW_ROWS = 2, FEW_VECTORS = LANES == 8 ? 4 : 8, MAX_WIDTH = LANES * FEW_VECTORS;
constexpr int NARROW_ROWS = 2 * LANES;  // of a tile for blocks with few columns
constexpr int MAX_TILE = NARROW_ROWS > MAX_ROWS ? NARROW_ROWS : MAX_ROWS;
// Of packed x, to stay in the outer cache; in the inner one where a pass over it computes little.
constexpr int64_t PANEL_BYTES = 2 << 20, NARROW_PANEL_BYTES = 1 << 19;
// Of live blocks in float32 that stay in the outer cache while rows of x pass by.
constexpr int64_t FEW_BLOCKS_BYTES = 1 << 20;
constexpr int64_t GRAD_ROWS = 256, NARROW_GRAD_ROWS = 512;  // rows of x and dy per pass of dW

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4)));

struct bfloat16 {
  uint16_t bits;
};

inline float widen(float v) { return v; }
inline float widen(bfloat16 v) {
  uint32_t bits = uint32_t(v.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, 4);
  return wide;
}
inline void narrow(float v, float* out) { *out = v; }
inline void narrow(float v, bfloat16* out) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  // To nearest, ties to even; a NaN stays one.
  out->bits = v != v ? 0x7fc0 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Memory that a thread keeps between calls: fresh pages would cost more than packing into them.
struct Scratch {
  std::unique_ptr<float[]> held;
  size_t size = 0;
  float* at_least(size_t n) {
    if (n > size) {
      held.reset(new float[n + LANES]);
      size = n;
    }
    return held.get();
  }
};

// A run of features that one block contributes: `length` of them, from `feature` on; its weights.
struct Segment {
  int64_t feature, length;
  const float* weights;
};

// out[MR][NV * LANES] = sum over segments of (MR values of a feature) x (a row of weights), from `begin` if
// given. PACKED: values of a feature lie side by side, and features a_stride apart; else the features of a row
// lie side by side, and rows a_stride apart.
template <int MR, int NV, bool PACKED = true>
void accumulate(const Segment* segments, int64_t count, const float* a, int64_t a_stride,
                int64_t b_offset, int64_t b_stride, float* out, int64_t out_stride, bool add) {
  Vector acc[MR][NV];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) {
      acc[i][j] = Vector{};
      if (add) acc[i][j] = *reinterpret_cast<const Vector*>(out + i * out_stride + j * LANES);
    }
  int64_t row = PACKED ? 1 : a_stride, step = PACKED ? a_stride : 1;
  for (int64_t s = 0; s < count; ++s) {
    const float* x = a + segments[s].feature * step;
    const float* w = segments[s].weights + b_offset;
    for (int64_t k = segments[s].length; k > 0; --k, x += step, w += b_stride) {
      Vector b[NV];
      for (int j = 0; j < NV; ++j) b[j] = *reinterpret_cast<const Vector*>(w + j * LANES);
      for (int i = 0; i < MR; ++i) {
        Vector v = x[i * row] - Vector{};
        for (int j = 0; j < NV; ++j) acc[i][j] += v * b[j];
      }
    }
  }
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j)
      *reinterpret_cast<Vector*>(out + i * out_stride + j * LANES) = acc[i][j];
}

using Accumulate = void (*)(const Segment*, int64_t, const float*, int64_t, int64_t, int64_t, float*,
                            int64_t, bool);

template <int MR, int NV = (MR > FEW_ROWS ? MAX_VECTORS : FEW_VECTORS)>
Accumulate of_vectors(int vectors) {
  if constexpr (NV == 1) {
    return accumulate<MR, 1>;
  } else {
    return vectors >= NV ? accumulate<MR, NV> : of_vectors<MR, NV - 1>(vectors);
  }
}

// Columns of a tile of so many rows.
inline int64_t width_of(int64_t rows) { return rows > FEW_ROWS ? WIDTH : MAX_WIDTH; }

Accumulate kernel_of(int64_t rows, int vectors) {
  switch (rows) {
    case 1: return of_vectors<1>(vectors);
    case 2: return of_vectors<2>(vectors);
    case 3: return of_vectors<3>(vectors);
    case 4: return of_vectors<4>(vectors);
    case 5: return of_vectors<5>(vectors);
    case 6: return of_vectors<6>(vectors);
#if defined(__AVX512F__)
    case 7: return of_vectors<7>(vectors);
    case 8: return of_vectors<8>(vectors);
    case 9: return of_vectors<9>(vectors);
    case 10: return of_vectors<10>(vectors);
    case 11: return of_vectors<11>(vectors);
    default: return of_vectors<12>(vectors);
#else
    default: return of_vectors<6>(vectors);
#endif
  }
}

// The rows of a tile so that tiles of `extent` rows are as equal as can be.
int64_t tile_rows(int64_t extent) {
  return ceil_div(extent, ceil_div(extent, MAX_ROWS));
}

}  // namespace
