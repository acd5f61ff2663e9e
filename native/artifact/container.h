// The container of an artifact: a safetensors file of vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace subbyte {

// One vector of the body.
struct Tensor {
  const std::uint8_t* data = nullptr;
  std::size_t count = 0, bytes = 0;
};

struct Container {
  std::map<std::string, std::string> metadata;
  std::map<std::string, Tensor> tensors;  // views of the bytes that were read
};

// Throws std::invalid_argument unless the tensors tile the body exactly, in order and aligned.
Container read_container(const std::uint8_t* data, std::size_t size);

}  // namespace subbyte
