// Small transposes, four by four where the compiler has the words for it.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace {

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

}  // namespace
