// What sums become: activation(sums + bias), as rows of y.

#pragma once

#include <cstdint>
#include <vector>

#include "weights.h"

namespace {

// Writes a tile of sums to rows of y: entry (i, j) lies at i * down + j * ALONG. pixels: where each row lies.
template <int64_t ALONG, typename T>
void finish(const Product& p, const float* tile, int64_t down, const int64_t* pixels, int64_t rows,
            int64_t cols, const T* bias, T* y) {
  for (int64_t i = 0; i < rows; ++i) {
    T* row = y + pixels[i] * p.n;
    for (int64_t j = 0; j < cols; ++j) {
      float v = tile[i * down + j * ALONG] + (bias ? widen(bias[j]) : 0.0f);
      narrow(p.relu && v < 0 ? 0.0f : v, row + j);
    }
  }
}

// One row of y where no block lives: activation(bias).
template <typename T>
std::vector<T> empty_row(const Product& p, const T* bias) {
  const float none = 0;
  const int64_t first = 0;
  std::vector<T> row(p.n);
  finish<0>(p, &none, 0, &first, 1, p.n, bias, row.data());
  return row;
}

}  // namespace
