// What the CPU kernels take from torch and the environment: threads and the instruction set.

#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <stdexcept>

#include "instruction_set.h"
#include "parallel.h"

namespace hybatch {

inline Parallel TorchThreads() {
  const int workers = static_cast<int>(std::max<uint32_t>(1, torch::stable::get_num_threads()));
  return {workers, [workers](const std::function<void(int)>& body) {
            torch::stable::parallel_for(0, workers, 1, [&body](int64_t begin, int64_t end) {
              for (int64_t worker = begin; worker < end; ++worker) body(static_cast<int>(worker));
            });
          }};
}

inline InstructionSet InstructionSetOrError() {
  try {
    return ChosenInstructionSet();
  } catch (const std::invalid_argument& error) {
    STD_TORCH_CHECK(false, error.what());
  }
  return InstructionSet::kPortable;
}

}  // namespace hybatch
