// The matrix that a product multiplies, and how its rows are packed: no im2col is ever in memory.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "transpose.h"
#include "vectors.h"

namespace {

// The matrix of patches that a product multiplies: row m is an output pixel, feature (tap, channel).
//
// Backwards, x is dy and the output lies over the convolution's input. Pixels that differ modulo the stride
// meet different taps, so that each class of them is a product of its own, with those taps only.
template <typename T>
struct Patches {
  const T* x;                                // (images, height, width, channels)
  int64_t height, width, channels;           // of x
  int64_t full_height, full_width;           // of the output
  int64_t first_y, first_x, step_y, step_x;  // which pixels of the output are rows
  int64_t kernel_width;
  int64_t stride_y, stride_x, pad_y, pad_x;  // of the convolution
  bool backwards;
  std::vector<int64_t> taps;

  int64_t features() const { return int64_t(taps.size()) * channels; }
  int64_t tall() const { return std::max<int64_t>(0, ceil_div(full_height - first_y, step_y)); }
  int64_t wide() const { return std::max<int64_t>(0, ceil_div(full_width - first_x, step_x)); }
  int64_t image(int64_t m) const { return m / (tall() * wide()); }
  int64_t y(int64_t m) const { return first_y + m / wide() % tall() * step_y; }
  int64_t x_(int64_t m) const { return first_x + m % wide() * step_x; }
  // Whether row m of the patches is row m of x, and of the output.
  bool is_matrix() const {
    return taps.size() == 1 && taps[0] == 0 && height == full_height && width == full_width &&
           stride_y == 1 && stride_x == 1 && pad_y == 0 && pad_x == 0;
  }
  // The output's pixel that row m is.
  int64_t pixel(int64_t m) const { return (image(m) * full_height + y(m)) * full_width + x_(m); }
  // The channels that row m meets at the i-th tap; null where it meets the border.
  const T* at(int64_t m, int64_t i) const {
    int64_t down = taps[i] / kernel_width, right = taps[i] % kernel_width;
    int64_t there_y = backwards ? (y(m) + pad_y - down) : y(m) * stride_y - pad_y + down;
    int64_t there_x = backwards ? (x_(m) + pad_x - right) : x_(m) * stride_x - pad_x + right;
    if (there_y < 0 || there_x < 0) return nullptr;
    if (backwards) there_y /= stride_y, there_x /= stride_x;
    if (there_y >= height || there_x >= width) return nullptr;
    return x + ((image(m) * height + there_y) * width + there_x) * channels;
  }
};

// Zeros to read in place of what lies beyond a border.
template <typename T>
const T* zeros(int64_t count) {
  thread_local std::vector<T> held;
  if (int64_t(held.size()) < count) held.assign(count, T{});
  return held.data();
}

// Features [begin, end) of one tap.
struct Run {
  int64_t begin, end;
};

// Adds [begin, end) to runs that rise, cut where taps meet, joined where they touch within one.
inline void append(std::vector<Run>& runs, int64_t begin, int64_t end, int64_t channels) {
  while (begin < end) {
    int64_t stop = std::min(end, (begin / channels + 1) * channels);
    if (!runs.empty() && runs.back().end == begin && begin % channels)
      runs.back().end = stop;
    else
      runs.push_back({begin, stop});
    begin = stop;
  }
}

// Rows [first, first + rows) of the patches as a tile [features][mr], 0 beyond them; of the runs alone.
template <typename T>
void pack_tile(const Patches<T>& x, const std::vector<Run>& runs, int64_t first, int64_t rows,
               int64_t mr, float* tile) {
  const T *pixel[MAX_TILE], *from[MAX_TILE];
  const T* nothing = zeros<T>(x.channels);
  int64_t located = -1;
  for (const Run& run : runs) {
    int64_t tap = run.begin / x.channels, channel = run.begin % x.channels;
    for (int64_t i = 0; i < mr && tap != located; ++i) {
      pixel[i] = i < rows ? x.at(first + i, tap) : nullptr;
      if (!pixel[i]) pixel[i] = nothing;
    }
    located = tap;
    for (int64_t i = 0; i < mr; ++i) from[i] = pixel[i] + channel;
    transpose(from, mr, run.end - run.begin, tile + run.begin * mr, mr);
  }
}

// Where each of `rows` rows of the patches lies, [taps][rows]: found once for all blocks that read it.
template <typename T>
void locate(const Patches<T>& x, int64_t first, int64_t rows, std::vector<const T*>& at) {
  at.resize(x.taps.size() * rows);
  for (int64_t tap = 0; tap < int64_t(x.taps.size()); ++tap)
    for (int64_t m = 0; m < rows; ++m) at[tap * rows + m] = x.at(first + m, tap);
}

// A strip [rows][wide] of the features [first, first + cols) of located patches, 0 beyond.
template <typename T>
void pack_strip(const std::vector<const T*>& at, int64_t channels, int64_t rows, int64_t first,
                int64_t cols, int64_t wide, float* to) {
  for (int64_t j = 0; j < cols;) {  // a block may span taps
    int64_t tap = (first + j) / channels, channel = (first + j) % channels;
    int64_t run = std::min(cols - j, channels - channel);
    for (int64_t m = 0; m < rows; ++m) {
      const T* row = at[tap * rows + m];
      float* here = to + m * wide + j;
      if (row)
        for (int64_t i = 0; i < run; ++i) here[i] = widen(row[channel + i]);
      else
        std::fill(here, here + run, 0.0f);
    }
    j += run;
  }
  if (cols < wide)
    for (int64_t m = 0; m < rows; ++m) std::fill(to + m * wide + cols, to + (m + 1) * wide, 0.0f);
}

// The features [first, first + cols) of located patches as [cols][tall], 0 beyond the rows.
template <typename T>
void pack_columns(const std::vector<const T*>& at, int64_t channels, int64_t rows, int64_t first,
                  int64_t cols, int64_t tall, float* to) {
  const T* nothing = zeros<T>(channels);
  thread_local std::vector<const T*> from;
  from.resize(rows);
  for (int64_t j = 0; j < cols;) {  // a block may span taps
    int64_t tap = (first + j) / channels, channel = (first + j) % channels;
    int64_t run = std::min(cols - j, channels - channel);
    for (int64_t m = 0; m < rows; ++m) {
      const T* row = at[tap * rows + m];
      from[m] = (row ? row : nothing) + channel;
    }
    transpose(from.data(), rows, run, to + j * tall, tall);
    j += run;
  }
  for (int64_t j = 0; rows < tall && j < cols; ++j)
    std::fill(to + j * tall + rows, to + (j + 1) * tall, 0.0f);
}

}  // namespace
