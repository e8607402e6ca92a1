// Functions that can be left in their midst and gone on with: what CUDA threads are here.

#pragma once

#include <cstddef>

namespace device_model {

class Fibre {
 public:
  Fibre();
  ~Fibre();
  Fibre(const Fibre&) = delete;
  Fibre& operator=(const Fibre&) = delete;

  // The function will be called with the argument by the first Resume. What ran before, if it has not ended, is given
  // up where it stands.
  void Start(void (*function)(void*), void* argument);

  void Resume();   // runs it until it suspends itself or ends
  void Suspend();  // by the fibre itself
  bool ended() const { return ended_; }

 private:
  static void Enter();

  char* stack_;
  void* place_ = nullptr;  // its stack pointer while it does not run
  void* resumer_ = nullptr;
  void (*function_)(void*) = nullptr;
  void* argument_ = nullptr;
  bool ended_ = true;
  void* watched_ = nullptr;          // ThreadSanitizer's view of it
  void* watched_resumer_ = nullptr;  // and of who resumed it
  void* fake_stack_ = nullptr;       // AddressSanitizer's
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
};

}  // namespace device_model
