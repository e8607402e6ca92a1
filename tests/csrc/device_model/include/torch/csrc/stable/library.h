// The dispatcher: a table of functions that take and return values of any type.

#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace torch::stable {

using Value = std::variant<std::monostate, Tensor, int64_t, bool, std::string>;
using BoxedFunction = std::function<std::vector<Tensor>(std::span<const Value>)>;

template <class T>
struct Unboxed {
  static const T& Of(const Value& value) { return std::get<T>(value); }
};
template <>
struct Unboxed<std::optional<Tensor>> {
  static std::optional<Tensor> Of(const Value& value) {
    if (std::holds_alternative<std::monostate>(value)) return std::nullopt;
    return std::get<Tensor>(value);
  }
};

inline std::vector<Tensor> Results(const Tensor& tensor) { return {tensor}; }
template <class... Tensors>
std::vector<Tensor> Results(const std::tuple<Tensors...>& tensors) {
  return std::apply([](const auto&... each) { return std::vector<Tensor>{each...}; }, tensors);
}

// Optional tensors at the end may be left out, as the schemas have it.
inline const Value& Given(std::span<const Value> values, size_t place) {
  static const Value none;
  return place < values.size() ? values[place] : none;
}

template <class Result, class... Arguments, size_t... kPlaces>
std::vector<Tensor> CallUnboxed(Result (*function)(Arguments...), std::span<const Value> values,
                                std::index_sequence<kPlaces...>) {
  constexpr size_t kFewest = (0 + ... + !std::is_same_v<std::remove_cvref_t<Arguments>, std::optional<Tensor>>);
  if (values.size() < kFewest || values.size() > sizeof...(Arguments)) headeronly::Throw("an op is called with ", values.size(), " arguments");
  if constexpr (std::is_void_v<Result>) {
    function(Unboxed<std::remove_cvref_t<Arguments>>::Of(Given(values, kPlaces))...);
    return {};
  } else {
    return Results(function(Unboxed<std::remove_cvref_t<Arguments>>::Of(Given(values, kPlaces))...));
  }
}

template <class Result, class... Arguments>
BoxedFunction Boxed(Result (*function)(Arguments...)) {
  return [function](std::span<const Value> values) {
    return CallUnboxed(function, values, std::index_sequence_for<Arguments...>());
  };
}

class Library {
 public:
  void impl(const char* name, BoxedFunction function);
};

using Definition = void (*)(Library&);
bool Define(Definition definition);

}  // namespace torch::stable

#define TORCH_BOX(function) ::torch::stable::Boxed(function)
#define STABLE_TORCH_LIBRARY_IMPL(space, key, library) \
  static void DefineOps(::torch::stable::Library& library); \
  static const bool ops_are_defined = ::torch::stable::Define(&DefineOps); \
  static void DefineOps(::torch::stable::Library& library)
