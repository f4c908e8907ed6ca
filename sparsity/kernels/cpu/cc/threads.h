// Tasks on the caller and XLA's threads.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;

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

}  // namespace
