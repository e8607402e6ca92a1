// What a sanitizer is told of the model: which memory nobody may touch, and under ThreadSanitizer, which is blind to
// the model's own code, who waits for whom and what the copy engine and the tensor cores read and write.

#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

#ifdef DEVICE_MODEL_THREAD_SANITIZER
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace device_model {

inline void Poison([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(from, bytes);
#endif
}

inline void Unpoison([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(from, bytes);
#endif
}

// What happened before a Release of an address happened before what comes after an Acquire of it.
inline void Acquire([[maybe_unused]] const void* of) {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_acquire(const_cast<void*>(of));
#endif
}

inline void Release([[maybe_unused]] const void* of) {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_release(const_cast<void*>(of));
#endif
}

// An access that the device makes for the kernel.
inline void Reads([[maybe_unused]] const void* from, [[maybe_unused]] size_t bytes) {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_read_range(const_cast<void*>(from), bytes);
#endif
}

inline void Writes([[maybe_unused]] const void* to, [[maybe_unused]] size_t bytes) {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
  __tsan_write_range(const_cast<void*>(to), bytes);
#endif
}

// While it lives, library functions that the model calls make no accesses of the kernel's.
class Unwatched {
 public:
  Unwatched() {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
    AnnotateIgnoreReadsBegin("", 0);
    AnnotateIgnoreWritesBegin("", 0);
#endif
  }
  ~Unwatched() {
#ifdef DEVICE_MODEL_THREAD_SANITIZER
    AnnotateIgnoreWritesEnd("", 0);
    AnnotateIgnoreReadsEnd("", 0);
#endif
  }
  Unwatched(const Unwatched&) = delete;
  Unwatched& operator=(const Unwatched&) = delete;
};

}  // namespace device_model
