// The live blocks of a product, made ready for sums of products.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "patches.h"
#include "transpose.h"
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

  // Entries of a row of a block's weights as whole vectors.
  int64_t wide() const { return ceil_div(out, LANES) * LANES; }
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

// Blocks that live in one output column.
inline int64_t live_in(const Product& p, int64_t column) {
  int64_t live = 0;
  for (int64_t list : p.lists) {
    const int32_t* starts = p.starts + list * p.columns + column;
    live += starts[1] - starts[0];
  }
  return live;
}

// Whether the rows of blocks are whole vectors of float32 where they lie.
template <typename T>
bool in_place(const Product& p, int64_t wide) {
  return sizeof(T) == 4 && !p.transposed && wide == p.out;
}

// The live blocks of one output column, ready for `accumulate`: `live_in` segments, and copies of all blocks
// that are not in place.
template <typename T>
void gather(const Product& p, const T* packed, int64_t column, int64_t wide, float* copies,
            Segment* to) {
  for (size_t i = 0; i < p.lists.size(); ++i) {
    const int32_t* starts = p.starts + p.lists[i] * p.columns + column;
    for (int64_t s = starts[0]; s < starts[1]; ++s) {
      int64_t place = p.order ? p.order[s] : s;
      int64_t feature = p.features[place] * p.in;
      int64_t length = std::min(p.in, p.k - feature);
      const T* block = packed + place * p.in * p.out;
      const float* weights = reinterpret_cast<const float*>(block);
      if (!in_place<T>(p, wide)) {
        // Blocks by row lie apart: the next one is on its way while this one is turned.
        int64_t next = s + 1 < starts[1] ? (p.order ? p.order[s + 1] : s + 1) : place;
        fetch(packed + next * p.in * p.out, p.in * p.out);
        copy_block(block, p, length, wide, copies);
        weights = copies;
        copies += p.in * wide;
      }
      *to++ = {int64_t(i) * p.k + feature, length, weights};
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

}  // namespace
