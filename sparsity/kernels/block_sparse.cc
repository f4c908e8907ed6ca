// The CPU's block-sparse products as XLA foreign functions: y = x W, dx = dy W', dW at live blocks.
//
// Plan of a product: a panel of x's rows is packed into tiles of MR rows with the MR values of a feature side
// by side; then each block column of the output is a task for one thread. A task runs, for every tile, one
// register-blocked accumulation over all live blocks of its column, so that each output is written once and
// columns of any live count cost what they hold. Weights are read where they lie if their rows are whole
// vectors, else (ragged, transposed, bfloat16) copied once per task. dW packs x by row of blocks and dy by
// column, and accumulates over the panel's rows.
//
// A convolution is the same product: packing a panel reads the patches of x where they lie, so that no im2col
// is ever in memory; a matrix is an image of one pixel. Its dx gathers dy, and sums the blocks of all taps
// of a channel block in one accumulation.
//
// Sums are float32. Nothing at or behind the live count is read. Indices are checked before they are used.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

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
constexpr int64_t PANEL_BYTES = 2 << 20;  // of packed x, to stay in the outer cache
constexpr int64_t GRAD_ROWS = 256;        // rows of x and dy per pass of dW

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

// Runs task(0..count-1) on the caller and XLA's threads; returns when all are done. The caller never waits
// for a thread that has not started, so a full pool cannot block it.
template <typename Task>
void parallel(ffi::ThreadPool& pool, int64_t count, const Task& task) {
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  struct State {
    std::atomic<int64_t> next{0}, done{0};
    std::mutex mutex;
    std::condition_variable all;
  };
  auto state = std::make_shared<State>();
  auto work = [state, count, &task] {
    int64_t mine = 0;
    for (int64_t i; (i = state->next.fetch_add(1)) < count; ++mine) task(i);
    if (mine && state->done.fetch_add(mine) + mine == count) {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->all.notify_all();
    }
  };
  for (int64_t h = 0; h < helpers; ++h) pool.Schedule(std::function<void()>(work));
  work();
  for (int spin = 0; spin < 20000 && state->done.load() < count; ++spin) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  std::unique_lock<std::mutex> lock(state->mutex);
  state->all.wait(lock, [&] { return state->done.load() == count; });
}

// A run of features that one block contributes: `length` of them, from `feature` on; its weights.
struct Segment {
  int64_t feature, length;
  const float* weights;
};

// out[MR][NV * LANES] = sum over segments of (MR values of a feature) x (a row of weights), from `begin` if
// given. Values of feature f lie at a + f * a_stride.
template <int MR, int NV>
void accumulate(const Segment* segments, int64_t count, const float* a, int64_t a_stride,
                int64_t b_offset, int64_t b_stride, float* out, int64_t out_stride, bool add) {
  Vector acc[MR][NV];
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) {
      acc[i][j] = Vector{};
      if (add) acc[i][j] = *reinterpret_cast<const Vector*>(out + i * out_stride + j * LANES);
    }
  for (int64_t s = 0; s < count; ++s) {
    const float* x = a + segments[s].feature * a_stride;
    const float* w = segments[s].weights + b_offset;
    for (int64_t k = segments[s].length; k > 0; --k, x += a_stride, w += b_stride) {
      Vector b[NV];
      for (int j = 0; j < NV; ++j) b[j] = *reinterpret_cast<const Vector*>(w + j * LANES);
      for (int i = 0; i < MR; ++i) {
        Vector v = x[i] - Vector{};
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

template <int MR>
Accumulate of_vectors(int vectors) {
  static_assert(MAX_VECTORS == 2 || MAX_VECTORS == 4, "");
  switch (vectors) {
    case 1: return accumulate<MR, 1>;
    case 2: return accumulate<MR, 2>;
    case 3: return accumulate<MR, MAX_VECTORS == 4 ? 3 : 2>;
    default: return accumulate<MR, MAX_VECTORS>;
  }
}

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

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector) && __has_builtin(__builtin_convertvector)
#define FOUR_BY_FOUR 1
#endif
#endif

#ifdef FOUR_BY_FOUR
typedef float Four __attribute__((vector_size(16), aligned(4)));
typedef uint32_t FourWords __attribute__((vector_size(16)));
typedef uint16_t FourHalves __attribute__((vector_size(8), aligned(2)));

inline Four load_four(const float* at) { return *reinterpret_cast<const Four*>(at); }
inline Four load_four(const bfloat16* at) {
  FourHalves halves;
  std::memcpy(&halves, at, 8);
  FourWords words = __builtin_convertvector(halves, FourWords) << 16;
  Four wide;
  std::memcpy(&wide, &words, 16);
  return wide;
}

template <typename T>
void transpose_four(const T* const* from, int64_t at, float* to, int64_t to_stride) {
  Four a = load_four(from[0] + at), b = load_four(from[1] + at);
  Four c = load_four(from[2] + at), d = load_four(from[3] + at);
  Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  Four ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *reinterpret_cast<Four*>(to) = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
  *reinterpret_cast<Four*>(to + to_stride) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
  *reinterpret_cast<Four*>(to + 2 * to_stride) = __builtin_shufflevector(ef, gh, 0, 1, 4, 5);
  *reinterpret_cast<Four*>(to + 3 * to_stride) = __builtin_shufflevector(ef, gh, 2, 3, 6, 7);
}
#endif

// to[c][r] = from[r][c].
template <typename T>
void transpose(const T* const* from, int64_t rows, int64_t cols, float* to, int64_t to_stride) {
  int64_t fours = 0, whole = 0;
#ifdef FOUR_BY_FOUR
  fours = rows / 4 * 4, whole = cols / 4 * 4;
  for (int64_t f = 0; f < whole; f += 16)  // a cache line of each row at a time
    for (int64_t r = 0; r < fours; r += 4)
      for (int64_t c = f; c < std::min(whole, f + 16); c += 4)
        transpose_four(from + r, c, to + c * to_stride + r, to_stride);
#endif
  for (int64_t c = 0; c < whole; ++c)
    for (int64_t r = fours; r < rows; ++r) to[c * to_stride + r] = widen(from[r][c]);
  for (int64_t c = whole; c < cols; ++c)
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = widen(from[r][c]);
}

// Zeros to read in place of what lies beyond a border.
template <typename T>
const T* zeros(int64_t count) {
  thread_local std::vector<T> held;
  if (int64_t(held.size()) < count) held.assign(count, T{});
  return held.data();
}

// Rows [first, first + rows) of the patches as a tile [features][mr], 0 beyond them.
template <typename T>
void pack_tile(const Patches<T>& x, int64_t first, int64_t rows, int64_t mr, float* tile) {
  const T* from[MAX_ROWS];
  const T* nothing = zeros<T>(x.channels);
  for (int64_t tap = 0; tap < int64_t(x.taps.size()); ++tap) {
    for (int64_t i = 0; i < mr; ++i) {
      from[i] = i < rows ? x.at(first + i, tap) : nullptr;
      if (!from[i]) from[i] = nothing;
    }
    transpose(from, mr, x.channels, tile + tap * x.channels * mr, mr);
  }
}

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

// The live blocks of one output column, ready for `accumulate`.
template <typename T>
int64_t gather(const Product& p, const T* packed, int64_t column, int64_t wide, Scratch& scratch,
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
        copy_block(block, p, length, wide, copies);
        weights = copies;
        copies += p.in * wide;
      }
      segments.push_back({int64_t(i) * p.k + feature, length, weights});
    }
  }
  return live;
}

// pixels: where each row lies in y.
template <typename T>
void finish(const Product& p, const float* tile, const int64_t* pixels, int64_t rows, int64_t cols,
            const T* bias, T* y) {
  for (int64_t i = 0; i < rows; ++i, tile += WIDTH) {
    T* row = y + pixels[i] * p.n;
    for (int64_t j = 0; j < cols; ++j) {
      float v = tile[j] + (bias ? widen(bias[j]) : 0.0f);
      narrow(p.relu && v < 0 ? 0.0f : v, row + j);
    }
  }
}

template <typename T>
void multiply(ffi::ThreadPool& pool, const Product& p, const Patches<T>& x, const T* packed,
              const T* bias, T* y) {
  thread_local Scratch panel_scratch;
  int64_t wide = ceil_div(p.out, LANES) * LANES, deep = x.features();
  int64_t row_bytes = 4 * std::max<int64_t>(deep, 1);
  int64_t panel = std::max<int64_t>(4, PANEL_BYTES / row_bytes / MAX_ROWS) * MAX_ROWS;
  std::vector<int64_t> pixels(std::min(panel, p.m));
  for (int64_t from = 0; from < p.m; from += panel) {
    int64_t rows = std::min(panel, p.m - from);
    int64_t mr = tile_rows(rows), tiles = ceil_div(rows, mr);
    float* packed_x = panel_scratch.at_least(tiles * mr * deep);
    for (int64_t i = 0; i < rows; ++i) pixels[i] = x.pixel(from + i);
    parallel(pool, tiles, [&](int64_t t) {
      int64_t first = from + t * mr;
      pack_tile(x, first, std::min(mr, from + rows - first), mr, packed_x + t * mr * deep);
    });
    // Few columns are cut along the rows as well, so that all threads have work.
    int64_t want = 4 * std::max<int64_t>(1, pool.num_threads());
    int64_t cuts = pool.num_threads() > 1 ? std::min(tiles, ceil_div(want, p.columns)) : 1;
    parallel(pool, p.columns * cuts, [&](int64_t task) {
      thread_local Scratch weights;
      thread_local std::vector<Segment> segments;
      float tile[MAX_ROWS * WIDTH];
      int64_t column = task / cuts, cut = task % cuts;
      int64_t count = gather(p, packed, column, wide, weights, segments);
      int64_t here = column * p.out, cols = std::min(p.out, p.n - here);
      for (int64_t j = 0; j < cols; j += WIDTH) {
        int64_t some = std::min<int64_t>(WIDTH, cols - j);
        Accumulate kernel = kernel_of(mr, ceil_div(some, LANES));
        for (int64_t t = tiles * cut / cuts; t < tiles * (cut + 1) / cuts; ++t) {
          int64_t first = from + t * mr;
          kernel(segments.data(), count, packed_x + t * mr * deep, mr, j, wide, tile, WIDTH, false);
          finish(p, tile, pixels.data() + t * mr, std::min(mr, from + rows - first), some,
                 bias ? bias + here + j : nullptr, y + here + j);
        }
      }
    });
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

struct Gradient {
  int64_t m, k, n, br, bc, columns, capacity;
  const int32_t* starts;
  const int32_t* rows;
};

template <typename T>
void gradient(ffi::ThreadPool& pool, const Gradient& g, const Patches<T>& x, const Patches<T>& dy,
              T* dw) {
  constexpr int64_t RUN = 16;  // blocks of a column per task
  thread_local Scratch strips, sums;
  int64_t mr = tile_rows(g.br), tall = ceil_div(g.br, mr) * mr;
  int64_t wide = ceil_div(g.bc, LANES) * LANES, grid = ceil_div(g.k, g.br);
  int64_t live = g.starts[g.columns];
  struct Task {
    int64_t column, begin, end;
  };
  std::vector<Task> tasks;
  for (int64_t c = 0; c < g.columns; ++c)
    for (int64_t s = g.starts[c]; s < g.starts[c + 1]; s += RUN)
      tasks.push_back({c, s, std::min<int64_t>(s + RUN, g.starts[c + 1])});
  float* total = sums.at_least(live * tall * wide);
  int64_t panel = std::min(g.m, GRAD_ROWS);
  float* packed_x = strips.at_least(grid * panel * tall);
  for (int64_t from = 0; from < g.m; from += panel) {
    int64_t rows = std::min(panel, g.m - from);
    std::vector<const T*> x_rows, dy_rows;
    locate(x, from, rows, x_rows);
    locate(dy, from, rows, dy_rows);
    parallel(pool, grid, [&](int64_t r) {
      pack_strip(x_rows, x.channels, rows, r * g.br, std::min(g.br, g.k - r * g.br), tall,
                 packed_x + r * panel * tall);
    });
    parallel(pool, tasks.size(), [&](int64_t t) {
      thread_local Scratch strip;
      Task task = tasks[t];
      float* packed_dy = strip.at_least(rows * wide);
      int64_t here = task.column * g.bc;
      pack_strip(dy_rows, g.n, rows, here, std::min(g.bc, g.n - here), wide, packed_dy);
      Segment all{0, rows, packed_dy};
      for (int64_t s = task.begin; s < task.end; ++s)
        for (int64_t j = 0; j < wide; j += WIDTH)
          for (int64_t i = 0; i < tall; i += mr)
            kernel_of(mr, std::min<int64_t>(WIDTH, wide - j) / LANES)(
                &all, 1, packed_x + g.rows[s] * panel * tall + i, tall, j, wide,
                total + (s * tall + i) * wide + j, wide, from > 0);
    });
  }
  parallel(pool, g.capacity, [&](int64_t s) {
    T* out = dw + s * g.br * g.bc;
    for (int64_t i = 0; i < g.br; ++i)
      for (int64_t j = 0; j < g.bc; ++j)
        narrow(s < live && g.m ? total[(s * tall + i) * wide + j] : 0.0f, out + i * g.bc + j);
  });
}

// ---- What XLA hands over ----

using Dims = ffi::Span<const int64_t>;

// Leading axes that vmap put in front: an operand's is 1 where it is shared.
struct Batch {
  std::vector<int64_t> sizes;
  int64_t count = 1;
  Batch(Dims result, int64_t own) {
    for (size_t i = 0; i + own < result.size(); ++i) {
      sizes.push_back(result[i]);
      count *= result[i];
    }
  }
  // Elements to skip in an operand with `own` axes of its own.
  int64_t offset(Dims dims, int64_t own, int64_t index) const {
    int64_t stride = 1, skipped = 0;
    for (size_t i = dims.size() - own; i < dims.size(); ++i) stride *= dims[i];
    for (int64_t i = int64_t(sizes.size()) - 1; i >= 0; --i) {
      int64_t at = index % sizes[i];
      index /= sizes[i];
      if (dims[i] > 1) skipped += at * stride;
      stride *= dims[i];
    }
    return skipped;
  }
};

int64_t last(Dims dims, int64_t back) { return dims[dims.size() - back]; }

// "" or what is wrong with a layout's indices.
std::string wrong_indices(const int32_t* starts, int64_t columns, int64_t capacity,
                          const int32_t* features, int64_t grid, const int32_t* order) {
  if (starts[0] != 0) return "the layout's first start is not 0";
  for (int64_t c = 0; c < columns; ++c)
    if (starts[c + 1] < starts[c]) return "the layout's starts fall";
  if (starts[columns] > capacity) return "the layout's starts go beyond its capacity";
  for (int64_t s = 0; s < starts[columns]; ++s) {
    int64_t place = order ? order[s] : s;
    if (place < 0 || place >= capacity) return "the layout's by_row names a place that is not there";
    if (features[place] < 0 || features[place] >= grid)
      return "the layout's indices lie outside its grid";
  }
  return "";
}

template <typename T>
const T* data(const ffi::AnyBuffer& buffer, int64_t skipped) {
  return static_cast<const T*>(buffer.untyped_data()) + skipped;
}

struct Geometry {
  int64_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x;
};

template <typename T>
Patches<T> patches(const T* x, Dims in, Dims out, const Geometry& g) {
  Patches<T> p{x,          last(in, 3), last(in, 2), last(in, 1), last(out, 3), last(out, 2),
               0,          0,           1,           1,           g.kernel_width, g.stride_y,
               g.stride_x, g.pad_y,     g.pad_x,     false,       {}};
  for (int64_t tap = 0; tap < g.kernel_height * g.kernel_width; ++tap) p.taps.push_back(tap);
  return p;
}

// The pixels (y, x) modulo the stride of a convolution's input, with the taps that they meet.
template <typename T>
Patches<T> pixels_of_class(const Patches<T>& all, int64_t y, int64_t x) {
  Patches<T> p = all;
  p.backwards = true;
  p.first_y = y, p.first_x = x, p.step_y = p.stride_y, p.step_x = p.stride_x;
  p.taps.clear();
  for (int64_t tap : all.taps)
    if ((y + p.pad_y - tap / p.kernel_width) % p.stride_y == 0 &&
        (x + p.pad_x - tap % p.kernel_width) % p.stride_x == 0)
      p.taps.push_back(tap);
  return p;
}

template <typename T>
ffi::Error run_product(ffi::ThreadPool& pool, ffi::AnyBuffer& x, ffi::AnyBuffer& packed,
                       ffi::AnyBuffer& starts, ffi::AnyBuffer& features, ffi::AnyBuffer& order,
                       ffi::AnyBuffer& bias, ffi::AnyBuffer& y, const Geometry& geometry,
                       bool backwards, bool has_bias, bool relu) {
  Batch batch(y.dimensions(), 4);
  Product p;
  int64_t taps = geometry.kernel_height * geometry.kernel_width, images = last(y.dimensions(), 4);
  int64_t lists = last(starts.dimensions(), 1) - 1, capacity = last(packed.dimensions(), 3);
  p.n = last(y.dimensions(), 1);
  p.k = last(x.dimensions(), 1) * (backwards ? 1 : taps);
  p.in = last(packed.dimensions(), backwards ? 1 : 2);
  p.out = last(packed.dimensions(), backwards ? 2 : 1);
  p.columns = backwards ? lists / taps : lists;
  p.transposed = backwards, p.relu = relu;
  for (int64_t b = 0; b < batch.count; ++b) {
    p.starts = data<int32_t>(starts, batch.offset(starts.dimensions(), 1, b));
    p.features = data<int32_t>(features, batch.offset(features.dimensions(), 1, b));
    p.order = backwards ? data<int32_t>(order, batch.offset(order.dimensions(), 1, b)) : nullptr;
    std::string wrong =
        wrong_indices(p.starts, lists, capacity, p.features, ceil_div(p.k, p.in), p.order);
    if (!wrong.empty()) return ffi::Error::InvalidArgument(wrong);
    const T* blocks = data<T>(packed, batch.offset(packed.dimensions(), 3, b));
    const T* added = has_bias ? data<T>(bias, batch.offset(bias.dimensions(), 1, b)) : nullptr;
    T* out = static_cast<T*>(y.untyped_data()) + b * int64_t(y.element_count() / batch.count);
    Patches<T> all = patches(data<T>(x, batch.offset(x.dimensions(), 4, b)), x.dimensions(),
                             y.dimensions(), geometry);
    if (!backwards) {
      p.lists = {0}, p.m = images * all.tall() * all.wide();
      multiply(pool, p, all, blocks, added, out);
      continue;
    }
    for (int64_t cls = 0; cls < geometry.stride_y * geometry.stride_x; ++cls) {
      Patches<T> some = pixels_of_class(all, cls / geometry.stride_x, cls % geometry.stride_x);
      p.lists = some.taps, p.m = images * some.tall() * some.wide();
      multiply(pool, p, some, blocks, added, out);
    }
  }
  return ffi::Error::Success();
}

template <typename T>
ffi::Error run_gradient(ffi::ThreadPool& pool, ffi::AnyBuffer& x, ffi::AnyBuffer& dy,
                        ffi::AnyBuffer& starts, ffi::AnyBuffer& rows, ffi::AnyBuffer& dw,
                        const Geometry& geometry) {
  Batch batch(dw.dimensions(), 3);
  Dims in = x.dimensions(), out = dy.dimensions();
  Gradient g;
  g.m = last(out, 4) * last(out, 3) * last(out, 2);
  g.k = last(in, 1) * geometry.kernel_height * geometry.kernel_width, g.n = last(out, 1);
  g.capacity = last(dw.dimensions(), 3);
  g.br = last(dw.dimensions(), 2), g.bc = last(dw.dimensions(), 1);
  g.columns = last(starts.dimensions(), 1) - 1;
  for (int64_t b = 0; b < batch.count; ++b) {
    g.starts = data<int32_t>(starts, batch.offset(starts.dimensions(), 1, b));
    g.rows = data<int32_t>(rows, batch.offset(rows.dimensions(), 1, b));
    std::string wrong =
        wrong_indices(g.starts, g.columns, g.capacity, g.rows, ceil_div(g.k, g.br), nullptr);
    if (!wrong.empty()) return ffi::Error::InvalidArgument(wrong);
    Patches<T> rows_of_x = patches(data<T>(x, batch.offset(in, 4, b)), in, out, geometry);
    Patches<T> rows_of_dy =
        patches(data<T>(dy, batch.offset(out, 4, b)), out, out, {1, 1, 1, 1, 0, 0});
    gradient(pool, g, rows_of_x, rows_of_dy,
             static_cast<T*>(dw.untyped_data()) + b * g.capacity * g.br * g.bc);
  }
  return ffi::Error::Success();
}

ffi::Error Product_(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer packed,
                    ffi::AnyBuffer starts, ffi::AnyBuffer features, ffi::AnyBuffer order,
                    ffi::AnyBuffer bias, ffi::Result<ffi::AnyBuffer> y,
                    ffi::Span<const int64_t> geometry, bool backwards, bool has_bias, bool relu) {
  Geometry g{geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[5]};
  auto run = x.element_type() == ffi::F32 ? run_product<float> : run_product<bfloat16>;
  return run(pool, x, packed, starts, features, order, bias, *y, g, backwards, has_bias, relu);
}

ffi::Error Gradient_(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::AnyBuffer dy,
                     ffi::AnyBuffer starts, ffi::AnyBuffer rows, ffi::Result<ffi::AnyBuffer> dw,
                     ffi::Span<const int64_t> geometry) {
  Geometry g{geometry[0], geometry[1], geometry[2], geometry[3], geometry[4], geometry[5]};
  auto run = x.element_type() == ffi::F32 ? run_gradient<float> : run_gradient<bfloat16>;
  return run(pool, x, dy, starts, rows, *dw, g);
}

}  // namespace

// x (images, height, width, channels), packed (capacity, rows, cols), starts, features, order, bias -> y.
XLA_FFI_DEFINE_HANDLER_SYMBOL(block_sparse_product, Product_,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("geometry")
                                  .Attr<bool>("backwards")
                                  .Attr<bool>("has_bias")
                                  .Attr<bool>("relu"));

// x, dy (images, height, width, channels), starts, rows -> dw (capacity, rows, cols).
XLA_FFI_DEFINE_HANDLER_SYMBOL(block_sparse_gradient, Gradient_,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("geometry"));
