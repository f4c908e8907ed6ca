// Blocks with fewer columns than a vector has lanes: rows of x lie along the vectors instead.
//
// A block of 5 columns would leave 11 of 16 lanes empty. With two vectors of rows and a register per column
// and vector no lane is, whatever the block; weights are read one by one and spread.

#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace {

// out[COLS][NARROW_ROWS] = sum over segments of (NARROW_ROWS values of a feature) x (COLS weights from j on).
template <int COLS>
void across_rows(const Segment* segments, int64_t count, const float* tile, int64_t j,
                 int64_t stride, float* out) {
  Vector acc[COLS][2] = {};
  for (int64_t s = 0; s < count; ++s) {
    const float* x = tile + segments[s].feature * NARROW_ROWS;
    const float* w = segments[s].weights + j;
    for (int64_t k = segments[s].length; k > 0; --k, x += NARROW_ROWS, w += stride) {
      Vector a = *reinterpret_cast<const Vector*>(x);
      Vector b = *reinterpret_cast<const Vector*>(x + LANES);
      for (int c = 0; c < COLS; ++c) {
        Vector v = w[c] - Vector{};
        acc[c][0] += v * a;
        acc[c][1] += v * b;
      }
    }
  }
  for (int c = 0; c < COLS; ++c)
    for (int i = 0; i < 2; ++i)
      *reinterpret_cast<Vector*>(out + c * NARROW_ROWS + i * LANES) = acc[c][i];
}

using AcrossRows = void (*)(const Segment*, int64_t, const float*, int64_t, int64_t, float*);

template <int COLS>
AcrossRows across_of(int64_t cols) {
  if constexpr (COLS == 0) {
    return nullptr;
  } else {
    return cols >= COLS ? across_rows<COLS> : across_of<COLS - 1>(cols);
  }
}

// Whether rows along the vectors leave fewer lanes empty than columns do.
inline bool is_narrow(int64_t rows, int64_t cols) {
  auto filled = [](int64_t n, int64_t of) { return double(n) / (ceil_div(n, of) * of); };
  return filled(rows, NARROW_ROWS) > 1.15 * filled(cols, LANES);
}

// dw[A][B] (rows `stride` apart) (+)= sums over `tall` rows, whole vectors, of columns of x and dy.
template <int A, int B>
void along_rows(const float* x, const float* dy, int64_t tall, float* dw, int64_t stride, bool add) {
  Vector acc[A][B] = {};
  for (int64_t m = 0; m < tall; m += LANES) {
    Vector b[B];
    for (int j = 0; j < B; ++j) b[j] = *reinterpret_cast<const Vector*>(dy + j * tall + m);
    for (int i = 0; i < A; ++i) {
      Vector a = *reinterpret_cast<const Vector*>(x + i * tall + m);
      for (int j = 0; j < B; ++j) acc[i][j] += a * b[j];
    }
  }
  for (int i = 0; i < A; ++i)
    for (int j = 0; j < B; ++j) {
      float lanes[LANES];
      *reinterpret_cast<Vector*>(lanes) = acc[i][j];
      for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
      dw[i * stride + j] = lanes[0] + (add ? dw[i * stride + j] : 0.0f);
    }
}

using AlongRows = void (*)(const float*, const float*, int64_t, float*, int64_t, bool);
// Sums held in registers along each side of a piece of a block.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int PIECE = 5;
#else
constexpr int PIECE = 3;
#endif

template <int A, int B>
AlongRows along_of(int64_t rows, int64_t cols) {
  if constexpr (A == 0 || B == 0) {
    return nullptr;
  } else {
    if (rows < A) return along_of<A - 1, B>(rows, cols);
    if (cols < B) return along_of<A, B - 1>(rows, cols);
    return along_rows<A, B>;
  }
}

}  // namespace
