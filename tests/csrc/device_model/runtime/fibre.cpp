#include "fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#include "watch.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#ifdef DEVICE_MODEL_THREAD_SANITIZER
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
}
#endif

#if !defined(__x86_64__)
#error "the device model switches stacks by x86-64 instructions"
#endif

// Leaves the running stack, whose pointer goes to *from with the registers that calls preserve on it, for another.
extern "C" void DeviceModelSwitchStack(void** from, void* to);
asm(R"(
.text
.type DeviceModelSwitchStack, @function
DeviceModelSwitchStack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

namespace device_model {
namespace {

constexpr size_t kStackBytes = 256 << 10;  // an unoptimised kernel's accumulators several times over
constexpr size_t kGuardBytes = 4096;
constexpr int kSavedRegisters = 6;
[[maybe_unused]] constexpr unsigned kNoOrder = 1;  // a switch is no synchronisation

Fibre* running = nullptr;

}  // namespace

Fibre::Fibre() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  stack_ = static_cast<char*>(memory);
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  watched_ = __tsan_create_fiber(0);
#endif
}

Fibre::~Fibre() {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_destroy_fiber(watched_);
#endif
  munmap(stack_, kStackBytes);
}

void Fibre::Start(void (*function)(void*), void* argument) {
  function_ = function;
  argument_ = argument;
  ended_ = false;
  fake_stack_ = nullptr;
  Unpoison(stack_ + kGuardBytes, kStackBytes - kGuardBytes);
  auto* top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;  // the stack is aligned as after a call
  *--top = reinterpret_cast<void*>(&Fibre::Enter);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  place_ = top;
}

void Fibre::Enter() {
  Fibre* self = running;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self->resumer_stack_, &self->resumer_stack_bytes_);
#endif
  self->function_(self->argument_);
  self->ended_ = true;
  self->Suspend();
  std::abort();  // nobody resumes what has ended
}

void Fibre::Resume() {
  running = this;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  watched_resumer_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(watched_, kNoOrder);
#endif
  DeviceModelSwitchStack(&resumer_, place_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
  running = nullptr;
}

void Fibre::Suspend() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(ended_ ? nullptr : &fake_stack_, resumer_stack_, resumer_stack_bytes_);
#endif
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_switch_to_fiber(watched_resumer_, kNoOrder);
#endif
  DeviceModelSwitchStack(&place_, resumer_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &resumer_stack_, &resumer_stack_bytes_);
#endif
}

}  // namespace device_model
