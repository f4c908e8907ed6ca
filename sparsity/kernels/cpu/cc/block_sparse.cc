// The CPU's block-sparse products as XLA foreign functions: y = x W, dx = dy W', dW at live blocks.
//
// Plan of a product: a panel of x's rows is packed into tiles of MR rows with the MR values of a feature side
// by side; then each block column of the output is a task for one thread. A task runs, for every tile, one
// register-blocked accumulation over all live blocks of its column, so that each output is written once and
// columns of any live count cost what they hold. Weights are read where they lie if their rows are whole
// vectors, else (ragged, transposed, bfloat16) copied once per task. dW packs x by row of blocks and dy by
// column, and accumulates over the panel's rows.
//
// Where few blocks live, so that packing would take as long as the sums, a task is a few rows of y instead, with
// all its columns: x is read where it lies, and y is written along whole rows.
//
// A convolution is the same product: packing a panel reads the patches of x where they lie, so that no im2col
// is ever in memory; a matrix is an image of one pixel. Its dx gathers dy, and sums the blocks of all taps
// of a channel block in one accumulation.
//
// Sums are float32. Nothing at or behind the live count is read. Indices are checked before they are used.

#include <cstdint>
#include <string>
#include <vector>

#include "gradient.h"
#include "patches.h"
#include "product.h"
#include "xla/ffi/api/ffi.h"

namespace {

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
