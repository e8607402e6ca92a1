// Prints how many fp32 operations a second THREADS threads do in fused multiply-adds that wait for nothing: chains in
// registers, enough of them to hide each one's latency. Usage: peak THREADS; processor.py compiles and runs it.
//
// Each thread counts with its best slice, so that other work on the machine does not lower the peak. Where two threads
// share a core and one of them is interrupted, the sum is too high rather than too low.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kChains = 24;
#elif defined(__AVX__)
constexpr int kLanes = 8, kChains = 12;
#elif defined(__aarch64__)
constexpr int kLanes = 4, kChains = 24;
#else
constexpr int kLanes = 4, kChains = 12;
#endif
constexpr int kSteps = 10000;  // of a slice: a tenth of a millisecond
constexpr auto kDuration = std::chrono::milliseconds(200);

using Clock = std::chrono::steady_clock;
using Vector = float __attribute__((vector_size(kLanes * sizeof(float))));

// Whatever is in memory may have been read and changed here: nothing moves past it.
void Escape(void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

double SecondsOfSlice() {
  Vector chains[kChains] = {};
  Vector operands[2] = {Vector{} + 0.5f, Vector{} + 1.0f};
  Escape(operands);
  Escape(chains);
  const auto begin = Clock::now();
  const Vector factor = operands[0], term = operands[1];
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 24
    for (int i = 0; i < kChains; ++i) chains[i] = chains[i] * factor + term;
  }
  Escape(chains);
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double BestRate(std::atomic<int>& late) {
  for (--late; late > 0;) std::this_thread::yield();
  double best = SecondsOfSlice();
  for (const auto end = Clock::now() + kDuration; Clock::now() < end;) best = std::min(best, SecondsOfSlice());
  return 2.0 * kLanes * kChains * kSteps / best;
}

}  // namespace

int main(int count, char** arguments) {
  const int threads = count == 2 ? std::atoi(arguments[1]) : 0;
  if (threads < 1) return 2;
  std::atomic<int> late{threads};
  std::vector<double> rates(threads);
  std::vector<std::thread> running;
  for (double& rate : rates) running.emplace_back([&rate, &late] { rate = BestRate(late); });
  for (std::thread& thread : running) thread.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  std::printf("%.6g\n", sum);
}
