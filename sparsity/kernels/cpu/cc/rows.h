// Products by rows, where few blocks live: x is read where it lies, and y is written along whole rows.
//
// There is so little to sum that packing x, and walking down y once per column of blocks, would take as long.
// A task is a few rows of y with all their columns; the live blocks stay in the cache while rows pass by.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrow.h"
#include "patches.h"
#include "results.h"
#include "threads.h"
#include "vectors.h"
#include "weights.h"

namespace {

// Rows of a tile: x's rows are often a power of two apart, and a set of the inner cache holds eight lines.
constexpr int STRIP_ROWS = MAX_ROWS < 8 ? MAX_ROWS : 8;
// A block that is in the inner cache serves two tiles.
constexpr int64_t TASK_ROWS = 2 * STRIP_ROWS;
// Features that an entry of y sums on average: of more, sums take so long that packing x pays.
constexpr int64_t SHORT_SUM = 128;

template <int MR = STRIP_ROWS, int NV = MAX_VECTORS>
Accumulate strip_of(int64_t rows, int64_t vectors) {
  if constexpr (MR > 1) {
    if (rows < MR) return strip_of<MR - 1, NV>(rows, vectors);
  }
  if constexpr (NV > 1) {
    if (vectors < NV) return strip_of<MR, NV - 1>(rows, vectors);
  }
  return accumulate<MR, NV, false>;
}

// Whether sums are short, their blocks stay in the cache, x can be read as float32 where it lies, and all
// threads get tasks.
template <typename T>
bool by_rows(int64_t threads, const Product& p, const Patches<T>& x) {
  if (sizeof(T) != 4 || !x.is_matrix() || is_narrow(p.m, p.out)) return false;
  int64_t live = p.starts[p.columns];
  return live * p.in <= SHORT_SUM * p.columns && live * p.in * p.wide() * 4 <= FEW_BLOCKS_BYTES &&
         p.m >= 4 * TASK_ROWS * std::max<int64_t>(1, threads);
}

// The live blocks of all output columns: those of column c are segments starts[c] to starts[c + 1].
struct Ready {
  int64_t wide;  // entries from one row of weights to the next
  std::vector<int64_t> starts;
  std::vector<Segment> segments;
};

template <typename T>
Ready ready(ffi::ThreadPool& pool, const Product& p, const T* packed, Scratch& scratch) {
  Ready r{p.wide(), std::vector<int64_t>(p.columns + 1), {}};
  for (int64_t c = 0; c < p.columns; ++c) r.starts[c + 1] = r.starts[c] + live_in(p, c);
  r.segments.resize(r.starts[p.columns]);
  int64_t size = p.in * r.wide;
  bool copied = !in_place<T>(p, r.wide);
  float* copies = copied ? scratch.at_least(r.segments.size() * size) : nullptr;
  auto make = [&](int64_t c) {
    float* own = copied ? copies + r.starts[c] * size : nullptr;
    gather(p, packed, c, r.wide, own, r.segments.data() + r.starts[c]);
  };
  if (copied)
    parallel(pool, p.columns, make);
  else
    for (int64_t c = 0; c < p.columns; ++c) make(c);
  return r;
}

// Columns [j, j + cols) of a tile of rows, of what column c's blocks sum to.
template <typename T>
void strip(const Product& p, const Ready& r, int64_t c, const T* x, int64_t rows, int64_t j,
           int64_t cols, const T* bias, T* y) {
  alignas(64) float tile[STRIP_ROWS * WIDTH];
  int64_t pixels[STRIP_ROWS], here = c * p.out + j;
  for (int64_t i = 0; i < rows; ++i) pixels[i] = i;
  Accumulate sum = strip_of(rows, ceil_div(cols, LANES));
  sum(r.segments.data() + r.starts[c], r.starts[c + 1] - r.starts[c],
      reinterpret_cast<const float*>(x), p.k, j, r.wide, tile, WIDTH, false);
  finish<1>(p, tile, WIDTH, pixels, rows, cols, bias ? bias + here : nullptr, y + here);
}

// Rows [from, to) of y, which begin as what they are where no block lives.
template <typename T>
void rows_of(const Product& p, const Ready& r, const T* x, int64_t from, int64_t to,
             const std::vector<T>& empty, const T* bias, T* y) {
  for (int64_t m = from; m < to; ++m) std::copy(empty.begin(), empty.end(), y + m * p.n);
  for (int64_t c = 0; c < p.columns; ++c) {
    if (r.starts[c] == r.starts[c + 1]) continue;
    int64_t wide = std::min(p.out, p.n - c * p.out);
    for (int64_t j = 0; j < wide; j += WIDTH)
      for (int64_t m = from; m < to; m += STRIP_ROWS)
        strip(p, r, c, x + m * p.k, std::min<int64_t>(STRIP_ROWS, to - m), j,
              std::min<int64_t>(WIDTH, wide - j), bias, y + m * p.n);
  }
}

template <typename T>
void multiply_by_rows(ffi::ThreadPool& pool, const Product& p, const Patches<T>& x, const T* packed,
                      const T* bias, T* y) {
  thread_local Scratch scratch;
  Ready r = ready(pool, p, packed, scratch);
  std::vector<T> empty = empty_row(p, bias);
  parallel(pool, ceil_div(p.m, TASK_ROWS), [&](int64_t task) {
    int64_t from = task * TASK_ROWS;
    rows_of(p, r, x.x, from, std::min(p.m, from + TASK_ROWS), empty, bias, y);
  });
}

}  // namespace
