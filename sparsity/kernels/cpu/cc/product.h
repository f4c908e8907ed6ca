// Forward and dX: one output column of blocks after the other.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "narrow.h"
#include "patches.h"
#include "threads.h"
#include "vectors.h"

namespace {

// One product out[M, N] = patches[M, taps * k] W with W's blocks listed by output column.
struct Product {
  int64_t m, k, n;             // rows, features per list, columns of the output
  int64_t in, out;             // entries of a block along the features and along N
  int64_t columns;             // blocks along N
  std::vector<int64_t> lists;  // what makes a column: list l of column c is starts[l * columns + c]
  const int32_t* starts;
  const int32_t* order;        // packed places by column, or null where they lie in that order
  const int32_t* features;     // per packed place, its block along k
  bool transposed;             // packed blocks are (out, in)
  bool relu;
};

// The rows of a block's weights as whole vectors of float32.
template <typename T>
void copy_block(const T* block, const Product& p, int64_t length, int64_t wide, float* to) {
  if (p.transposed) {
    std::vector<const T*> rows(p.out);
    for (int64_t j = 0; j < p.out; ++j) rows[j] = block + j * p.in;
    transpose(rows.data(), p.out, length, to, wide);
  } else {
    for (int64_t i = 0; i < length; ++i)
      for (int64_t j = 0; j < p.out; ++j) to[i * wide + j] = widen(block[i * p.out + j]);
  }
  if (p.out < wide)
    for (int64_t i = 0; i < length; ++i) std::fill(to + i * wide + p.out, to + (i + 1) * wide, 0.0f);
}

// Asks for memory that will be read.
template <typename T>
void fetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + i);
}

// The live blocks of one output column, ready for `accumulate`.
template <typename T>
void gather(const Product& p, const T* packed, int64_t column, int64_t wide, Scratch& scratch,
               std::vector<Segment>& segments) {
  int64_t live = 0;
  for (int64_t list : p.lists) {
    const int32_t* starts = p.starts + list * p.columns + column;
    live += starts[1] - starts[0];
  }
  bool in_place = sizeof(T) == 4 && !p.transposed && wide == p.out;
  float* copies = in_place ? nullptr : scratch.at_least(live * p.in * wide);
  segments.clear();
  for (size_t i = 0; i < p.lists.size(); ++i) {
    const int32_t* starts = p.starts + p.lists[i] * p.columns + column;
    for (int64_t s = starts[0]; s < starts[1]; ++s) {
      int64_t place = p.order ? p.order[s] : s;
      int64_t feature = p.features[place] * p.in;
      int64_t length = std::min(p.in, p.k - feature);
      const T* block = packed + place * p.in * p.out;
      const float* weights = reinterpret_cast<const float*>(block);
      if (!in_place) {
        // Blocks by row lie apart: the next one is on its way while this one is turned.
        int64_t next = s + 1 < starts[1] ? (p.order ? p.order[s + 1] : s + 1) : place;
        fetch(packed + next * p.in * p.out, p.in * p.out);
        copy_block(block, p, length, wide, copies);
        weights = copies;
        copies += p.in * wide;
      }
      segments.push_back({int64_t(i) * p.k + feature, length, weights});
    }
  }
}

// The features that some live block reads: runs of them, each within one tap of `channels`.
inline std::vector<Run> runs_read(const Product& p, int64_t channels) {
  int64_t blocks = ceil_div(p.k, p.in);
  std::vector<char> read(p.lists.size() * blocks, 0);
  for (size_t i = 0; i < p.lists.size(); ++i) {
    const int32_t* starts = p.starts + p.lists[i] * p.columns;
    for (int64_t s = starts[0]; s < starts[p.columns]; ++s)
      read[i * blocks + p.features[p.order ? p.order[s] : s]] = 1;
  }
  std::vector<Run> runs;
  for (size_t b = 0; b < read.size(); ++b) {
    if (!read[b]) continue;
    int64_t list = b / blocks * p.k, first = b % blocks * p.in;
    append(runs, list + first, list + std::min(first + p.in, p.k), channels);
  }
  return runs;
}

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
  return {across, across ? step : 0, panel, across ? p.out : ceil_div(p.out, LANES) * LANES};
}

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
void multiply(ffi::ThreadPool& pool, const Product& p, const Patches<T>& x, const T* packed,
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
      gather(p, packed, column, cut.wide, weights, segments);
      column_of(p, cut, segments, packed_x, deep, tiles * part / cuts, tiles * (part + 1) / cuts,
                rows, pixels.data(), column * p.out, bias, y);
    });
  }
}

}  // namespace
