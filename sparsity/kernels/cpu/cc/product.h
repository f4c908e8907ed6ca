// Forward and dX: by rows where few blocks live, else by columns.

#pragma once

#include "columns.h"
#include "rows.h"

namespace {

template <typename T>
void multiply(ffi::ThreadPool& pool, const Product& p, const Patches<T>& x, const T* packed,
              const T* bias, T* y) {
  if (by_rows<T>(pool.num_threads(), p, x))
    multiply_by_rows(pool, p, x, packed, bias, y);
  else
    multiply_by_columns(pool, p, x, packed, bias, y);
}

}  // namespace
