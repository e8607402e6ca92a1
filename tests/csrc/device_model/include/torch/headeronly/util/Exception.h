#pragma once

#include <sstream>
#include <stdexcept>

namespace torch::headeronly {

template <class... Parts>
[[noreturn]] void Throw(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

}  // namespace torch::headeronly

#define STD_TORCH_CHECK(condition, ...) \
  do { \
    if (!(condition)) ::torch::headeronly::Throw(__VA_ARGS__); \
  } while (false)
