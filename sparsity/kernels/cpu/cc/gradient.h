// dW: products of columns of x and dy, at live blocks alone.

#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "narrow.h"
#include "patches.h"
#include "threads.h"
#include "vectors.h"

namespace {

struct Gradient {
  int64_t m, k, n, br, bc, columns, capacity;
  const int32_t* starts;
  const int32_t* rows;
};

// Live blocks of one column that one thread takes at a time.
struct Task {
  int64_t column, begin, end;
};

inline std::vector<Task> tasks_of(const Gradient& g) {
  constexpr int64_t RUN = 16;
  std::vector<Task> tasks;
  for (int64_t c = 0; c < g.columns; ++c)
    for (int64_t s = g.starts[c]; s < g.starts[c + 1]; s += RUN)
      tasks.push_back({c, s, std::min<int64_t>(s + RUN, g.starts[c + 1])});
  return tasks;
}

// How sums are laid out: blocks of [tall][wide], padded to the registers where columns lie along the vectors.
struct Sums {
  bool along;  // whether rows of x lie along the vectors (narrow.h)
  int64_t mr, tall, wide, panel;
};

// Rows of a tile: such that a block is whole tiles, where that leaves few registers empty.
inline int64_t block_rows(int64_t extent) {
  for (int64_t mr = MAX_ROWS; 3 * mr >= 2 * MAX_ROWS; --mr)
    if (extent % mr == 0) return mr;
  return tile_rows(extent);
}

inline Sums sums_of(const Gradient& g) {
  int64_t mr = block_rows(g.br), panel = std::min(g.m, GRAD_ROWS);
  if (is_narrow(panel, g.bc)) {
    panel = std::min(g.m, NARROW_GRAD_ROWS);
    return {true, 0, g.br, g.bc, ceil_div(panel, LANES) * LANES};
  }
  return {false, mr, ceil_div(g.br, mr) * mr, ceil_div(g.bc, LANES) * LANES, panel};
}

// One block (+)= the products of packed strips of x and dy of `rows` rows.
inline void add_block(const Sums& z, const float* x, const float* dy, int64_t rows, float* total,
                      bool add) {
  if (z.along) {
    int64_t tall = ceil_div(rows, LANES) * LANES;
    for (int64_t i = 0; i < z.tall; i += PIECE)
      for (int64_t j = 0; j < z.wide; j += PIECE)
        along_of<PIECE, PIECE>(z.tall - i, z.wide - j)(
            x + i * tall, dy + j * tall, tall, total + i * z.wide + j, z.wide, add);
    return;
  }
  Segment all{0, rows, dy};
  for (int64_t j = 0; j < z.wide; j += WIDTH)
    for (int64_t i = 0; i < z.tall; i += z.mr)
      kernel_of(z.mr, std::min<int64_t>(WIDTH, z.wide - j) / LANES)(
          &all, 1, x + i, z.tall, j, z.wide, total + i * z.wide + j, z.wide, add);
}

// Features [first, first + cols) of located patches as `add_block` wants them, `to_cols` with those beyond.
template <typename T>
void pack_block(const Sums& z, const std::vector<const T*>& at, int64_t channels, int64_t rows,
                int64_t first, int64_t cols, int64_t to_cols, float* to) {
  if (!z.along) return pack_strip(at, channels, rows, first, cols, to_cols, to);
  int64_t tall = ceil_div(rows, LANES) * LANES;
  pack_columns(at, channels, rows, first, cols, tall, to);
  std::fill(to + cols * tall, to + to_cols * tall, 0.0f);
}

template <typename T>
void gradient(ffi::ThreadPool& pool, const Gradient& g, const Patches<T>& x, const Patches<T>& dy,
              T* dw) {
  thread_local Scratch strips, sums;
  Sums z = sums_of(g);
  int64_t grid = ceil_div(g.k, g.br), live = g.starts[g.columns];
  std::vector<Task> tasks = tasks_of(g);
  // Where sums lie as the result does, they are made in it: it is moved once.
  bool in_place = std::is_same<T, float>::value && z.tall == g.br && z.wide == g.bc;
  float* total = in_place ? reinterpret_cast<float*>(dw) : sums.at_least(live * z.tall * z.wide);
  float* packed_x = strips.at_least(grid * z.panel * z.tall);
  for (int64_t from = 0; from < g.m; from += z.panel) {
    int64_t rows = std::min(z.panel, g.m - from);
    std::vector<const T*> x_rows, dy_rows;
    locate(x, from, rows, x_rows);
    locate(dy, from, rows, dy_rows);
    parallel(pool, grid, [&](int64_t r) {
      int64_t first = r * g.br, cols = std::min(g.br, g.k - first);
      pack_block(z, x_rows, x.channels, rows, first, cols, z.tall,
                 packed_x + r * z.panel * z.tall);
    });
    parallel(pool, tasks.size(), [&](int64_t t) {
      thread_local Scratch strip;
      Task task = tasks[t];
      float* packed_dy = strip.at_least(z.panel * z.wide);
      int64_t first = task.column * g.bc, cols = std::min(g.bc, g.n - first);
      pack_block(z, dy_rows, g.n, rows, first, cols, z.wide, packed_dy);
      for (int64_t s = task.begin; s < task.end; ++s)
        add_block(z, packed_x + g.rows[s] * z.panel * z.tall, packed_dy, rows,
                  total + s * z.tall * z.wide, from > 0);
    });
  }
  if (in_place && g.m) {
    std::fill(dw + live * g.br * g.bc, dw + g.capacity * g.br * g.bc, T{});
    return;
  }
  parallel(pool, g.capacity, [&](int64_t s) {
    T* out = dw + s * g.br * g.bc;
    for (int64_t i = 0; i < g.br; ++i)
      for (int64_t j = 0; j < g.bc; ++j)
        narrow(s < live && g.m ? total[(s * z.tall + i) * z.wide + j] : 0.0f, out + i * g.bc + j);
  });
}

}  // namespace
