// The ops that registration.cu registers, for callers without C++: arguments are copied into memory of the model's, and
// back where the op may have written to them.

#include <torch/csrc/stable/library.h>

#include <map>
#include <numeric>

#include "block.h"
#include "watch.h"

namespace torch::stable {

namespace {

size_t ElementBytes(ScalarType type) {
  switch (type) {
    case ScalarType::Byte:
    case ScalarType::Char:
    case ScalarType::Bool:
      return 1;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    case ScalarType::Int:
    case ScalarType::Float:
      return 4;
    default:
      return 8;
  }
}

int64_t Product(const std::vector<int64_t>& sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

std::map<std::string, BoxedFunction>& Ops() {
  static std::map<std::string, BoxedFunction> ops;
  return ops;
}

}  // namespace

// As torch has it, no memory at all is a null pointer; any other begins as NaNs.
Memory::Memory(size_t bytes, size_t misalignment) : allocation_(nullptr), data_(nullptr), bytes_(bytes) {
  if (bytes == 0) return;
  if (posix_memalign(&allocation_, 256, misalignment + bytes) != 0) throw std::bad_alloc();
  std::memset(allocation_, 0xff, misalignment + bytes);
  data_ = static_cast<char*>(allocation_) + misalignment;
}

Memory::~Memory() {
  device_model::Unpoison(data_, bytes_);
  std::free(allocation_);
}

Tensor::Tensor(std::vector<int64_t> sizes, ScalarType type, size_t misalignment)
    : sizes_(std::move(sizes)),
      type_(type),
      memory_(std::make_shared<Memory>(static_cast<size_t>(Product(sizes_)) * ElementBytes(type), misalignment)) {}

int64_t Tensor::numel() const { return Product(sizes_); }

void Library::impl(const char* name, BoxedFunction function) { Ops()[name] = std::move(function); }

bool Define(Definition definition) {
  Library library;
  definition(library);
  return true;
}

}  // namespace torch::stable

namespace {

using torch::stable::ScalarType;
using torch::stable::Tensor;
using torch::stable::Value;

enum ArgumentKind : int32_t { kNone, kTensor, kInteger, kBoolean, kText };
constexpr int kMostDims = 4;

struct Argument {
  ArgumentKind kind;
  int32_t type;  // of the elements
  int32_t dims;
  int64_t sizes[kMostDims];
  int64_t integer;
  const char* text;
  void* data;
};

std::vector<Tensor> results;
std::string error;

Value ValueOf(const Argument& argument) {
  switch (argument.kind) {
    case kNone:
      return std::monostate();
    case kInteger:
      return argument.integer;
    case kBoolean:
      return argument.integer != 0;
    case kText:
      return std::string(argument.text);
    case kTensor:
      break;
  }
  Tensor tensor({argument.sizes, argument.sizes + argument.dims}, static_cast<ScalarType>(argument.type),
                reinterpret_cast<uintptr_t>(argument.data) % 16);
  if (tensor.bytes() > 0) std::memcpy(const_cast<void*>(tensor.const_data_ptr()), argument.data, tensor.bytes());
  return tensor;
}

void CopyBack(const Value& value, const Argument& argument) {
  const Tensor* tensor = std::get_if<Tensor>(&value);
  if (tensor == nullptr || !tensor->written() || tensor->bytes() == 0) return;
  std::memcpy(argument.data, tensor->const_data_ptr(), tensor->bytes());
}

}  // namespace

extern "C" {

void DeviceModelConfigure(const device_model::Options* options) { device_model::options = *options; }

// The number of results, or -1: see DeviceModelError.
int32_t DeviceModelCall(const char* op, const Argument* arguments, int32_t count) {
  results.clear();
  try {
    std::vector<Value> values;
    for (int32_t i = 0; i < count; ++i) values.push_back(ValueOf(arguments[i]));
    const auto found = torch::stable::Ops().find(op);
    if (found == torch::stable::Ops().end()) throw std::runtime_error(std::string("no op is called ") + op);
    results = found->second(values);
    for (int32_t i = 0; i < count; ++i) CopyBack(values[i], arguments[i]);
  } catch (const std::exception& exception) {
    error = exception.what();
    return -1;
  }
  return static_cast<int32_t>(results.size());
}

const char* DeviceModelError() { return error.c_str(); }

// Valid until the next call.
void DeviceModelResult(int32_t number, Argument* result) {
  const Tensor& tensor = results.at(static_cast<size_t>(number));
  *result = {kTensor, static_cast<int32_t>(tensor.scalar_type()), static_cast<int32_t>(tensor.dim()), {}, 0, nullptr,
             const_cast<void*>(tensor.const_data_ptr())};
  for (int64_t dim = 0; dim < tensor.dim(); ++dim) result->sizes[dim] = tensor.size(dim);
}
}
