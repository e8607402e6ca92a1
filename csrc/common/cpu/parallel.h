// How the CPU kernels get their threads: from whoever calls them, so that they follow the caller's thread settings.

#pragma once

#include <atomic>
#include <cfenv>
#include <cstdint>
#include <functional>

namespace hybatch {

struct Parallel {
  int workers;
  // Calls body(worker) once for each worker in [0, workers), at the same time or one after another.
  std::function<void(const std::function<void(int)>& body)> run;
};

// Rounding to nearest and subnormals kept, whatever the surrounding program has set for its threads.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

// Calls body(item, worker) for each item. Workers pull items from a counter, so that a slow one holds up nobody.
// The body must not throw: an exception would not survive the caller's thread pool.
template <typename Body>
void ForEachItem(const Parallel& parallel, int64_t items, const Body& body) {
  if (items == 0) return;
  std::atomic<int64_t> next{0};
  parallel.run([&](int worker) {
    const DefaultFloatEnvironment environment;
    for (int64_t item = next.fetch_add(1); item < items; item = next.fetch_add(1)) body(item, worker);
  });
}

}  // namespace hybatch
