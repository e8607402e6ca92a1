// A Python module that says how the compiled ops were built and what this processor can run. It takes no tensors, and
// nothing needs it to run.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "build_config.h"
#include "common/cpu/instruction_set.h"

namespace {

using hybatch::InstructionSet;

std::string Compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

std::vector<std::string> InstructionSets() {
  std::vector<std::string> names;
  for (const InstructionSet supported : hybatch::SupportedInstructionSets()) {
    names.emplace_back(hybatch::Name(supported));
  }
  return names;
}

}  // namespace

PYBIND11_MODULE(_build_info, module) {
  module.doc() = "How hybatch's compiled ops were built.";
  module.attr("compiler") = Compiler();
  module.attr("flags") = kFlags;
  module.attr("cuda_compiler") = kCudaCompiler;
  module.attr("cuda_architectures") = kCudaArchitectures;
  module.attr("torch_target_version") = kTorchTargetVersion;
  module.def("instruction_sets", &InstructionSets,
             "Instruction sets of the CPU kernels that this processor can run, fastest first.");
}
