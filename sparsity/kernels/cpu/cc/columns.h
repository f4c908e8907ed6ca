// Products by columns: x is packed, then one output column of blocks is summed after the other.

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

// How a product is cut: tiles of mr rows, panels of rows that are packed at once, rows of weights `wide` apart.
struct Tiling {
  bool across;  // whether rows lie along the vectors (narrow.h)
  int64_t mr, panel, wide;
};

Tiling tiling(const Product& p, int64_t features) {
  bool across = is_narrow(p.m, p.out);
  int64_t step = across ? NARROW_ROWS : MAX_ROWS, bytes = across ? NARROW_PANEL_BYTES : PANEL_BYTES;
  int64_t row_bytes = 4 * std::max<int64_t>(features, 1);
  int64_t panel = std::max<int64_t>(4, bytes / row_bytes / step) * step;
  return {across, across ? step : 0, panel, across ? p.out : p.wide()};
}

// One output column over the tiles [begin, end) of a panel of `rows` rows.
template <typename T>
void column_of(const Product& p, const Tiling& cut, const std::vector<Segment>& segments,
               const float* packed_x, int64_t deep, int64_t begin, int64_t end, int64_t rows,
               const int64_t* pixels, int64_t here, const T* bias, T* y) {
  alignas(64) float tile[MAX_ROWS * MAX_WIDTH];
  int64_t cols = std::min(p.out, p.n - here), count = segments.size();
  if (!count) {
    const float none = 0;
    int64_t first = begin * cut.mr, tall = std::min(end * cut.mr, rows) - first;
    const T* added = bias ? bias + here : nullptr;
    return finish<0>(p, &none, 0, pixels + first, tall, cols, added, y + here);
  }
  int64_t most = cut.across ? MAX_ROWS : width_of(cut.mr);
  int64_t piece = cut.across ? ceil_div(cols, ceil_div(cols, most)) : most;
  for (int64_t j = 0; j < cols; j += piece) {
    int64_t some = std::min<int64_t>(piece, cols - j);
    Accumulate down = kernel_of(cut.mr, ceil_div(some, LANES));
    AcrossRows across = across_of<MAX_ROWS>(some);
    const T* added = bias ? bias + here + j : nullptr;
    for (int64_t t = begin; t < end; ++t) {
      const float* x = packed_x + t * cut.mr * deep;
      int64_t first = t * cut.mr, tall = std::min(cut.mr, rows - first);
      if (cut.across) {
        across(segments.data(), count, x, j, cut.wide, tile);
        finish<NARROW_ROWS>(p, tile, 1, pixels + first, tall, some, added, y + here + j);
      } else {
        down(segments.data(), count, x, cut.mr, j, cut.wide, tile, most, false);
        finish<1>(p, tile, most, pixels + first, tall, some, added, y + here + j);
      }
    }
  }
}

template <typename T>
void multiply_by_columns(ffi::ThreadPool& pool, const Product& p, const Patches<T>& x, const T* packed,
                         const T* bias, T* y) {
  thread_local Scratch panel_scratch;
  int64_t deep = x.features();
  std::vector<Run> runs = runs_read(p, x.channels);
  Tiling cut = tiling(p, deep);
  std::vector<int64_t> pixels(std::min(cut.panel, p.m));
  for (int64_t from = 0; from < p.m; from += cut.panel) {
    int64_t rows = std::min(cut.panel, p.m - from);
    if (!cut.across) cut.mr = tile_rows(rows);
    int64_t tiles = ceil_div(rows, cut.mr);
    float* packed_x = panel_scratch.at_least(tiles * cut.mr * deep);
    for (int64_t i = 0; i < rows; ++i) pixels[i] = x.pixel(from + i);
    parallel(pool, tiles, [&](int64_t t) {
      int64_t first = t * cut.mr;
      pack_tile(x, runs, from + first, std::min(cut.mr, rows - first), cut.mr,
                packed_x + first * deep);
    });
    // Few columns are cut along the rows as well, so that all threads have work.
    int64_t want = 4 * std::max<int64_t>(1, pool.num_threads());
    int64_t cuts = pool.num_threads() > 1 ? std::min(tiles, ceil_div(want, p.columns)) : 1;
    parallel(pool, p.columns * cuts, [&](int64_t task) {
      thread_local Scratch weights;
      thread_local std::vector<Segment> segments;
      int64_t column = task / cuts, part = task % cuts;
      segments.resize(live_in(p, column));
      bool copied = !in_place<T>(p, cut.wide);
      float* copies = copied ? weights.at_least(segments.size() * p.in * cut.wide) : nullptr;
      gather(p, packed, column, cut.wide, copies, segments.data());
      column_of(p, cut, segments, packed_x, deep, tiles * part / cuts, tiles * (part + 1) / cuts,
                rows, pixels.data(), column * p.out, bias, y);
    });
  }
}

}  // namespace
