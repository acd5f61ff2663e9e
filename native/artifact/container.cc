#include "artifact/container.h"

#include <stdexcept>
#include <string_view>
#include <vector>

#include "artifact/json.h"

namespace subbyte {
namespace {

constexpr std::size_t kLengthBytes = 8, kMaxHeader = 4 << 20, kMaxFile = std::size_t{2} << 30, kMaxTensors = 16;

[[noreturn]] void fail(const std::string& text) { throw std::invalid_argument(text); }

std::size_t width_of(const std::string& dtype) {
  if (dtype == "U8" || dtype == "I8") return 1;
  if (dtype == "F16") return 2;
  if (dtype == "I32" || dtype == "F32") return 4;
  fail("a tensor has an unknown dtype");
}

struct Entry {
  std::string dtype;
  std::vector<std::int64_t> shape, offsets;
};

Entry read_entry(Json& json) {
  Entry e;
  int fields = 0;
  json.object([&](const std::string& key) {
    ++fields;
    if (key == "dtype") {
      e.dtype = json.string();
    } else if (key == "shape") {
      e.shape = json.integers(1);
    } else if (key == "data_offsets") {
      e.offsets = json.integers(2);
    } else {
      fail("a tensor needs exactly dtype, shape and data_offsets");
    }
  });
  const bool complete = fields == 3 && e.shape.size() == 1 && e.offsets.size() == 2;
  if (!complete || e.shape[0] < 1 || e.shape[0] > static_cast<std::int64_t>(kMaxFile)) fail("a tensor is no vector");
  return e;
}

}  // namespace

Container read_container(const std::uint8_t* data, std::size_t size) {
  if (size > kMaxFile) fail("it is larger than an artifact may be");
  std::uint64_t length = 0;
  if (size < kLengthBytes) fail("it is too short");
  for (std::size_t i = 0; i < kLengthBytes; ++i) length |= static_cast<std::uint64_t>(data[i]) << (8 * i);
  if (length > kMaxHeader || length > size - kLengthBytes) {
    fail("it does not begin with a header as an artifact does, or it is truncated");
  }
  const std::uint8_t* body = data + kLengthBytes + length;
  const std::size_t body_size = size - kLengthBytes - static_cast<std::size_t>(length);

  Container result;
  std::size_t offset = 0;
  Json json({reinterpret_cast<const char*>(data) + kLengthBytes, static_cast<std::size_t>(length)});
  json.object([&](const std::string& name) {
    if (name == "__metadata__") {
      json.object([&](const std::string& key) { result.metadata[key] = json.string(); });
      return;
    }
    if (result.tensors.size() == kMaxTensors) fail("it has too many tensors");
    const Entry e = read_entry(json);
    const std::size_t width = width_of(e.dtype), count = static_cast<std::size_t>(e.shape[0]);
    const std::size_t end = offset + count * width;
    if (e.offsets[0] != static_cast<std::int64_t>(offset) || e.offsets[1] != static_cast<std::int64_t>(end) ||
        offset % width != 0 || end > body_size) {
      fail("a tensor does not lie where the one before it ends");
    }
    const bool bytes = name == "graph" || name == "coded" || name == "rest";
    if (name != e.dtype && !(bytes && e.dtype == "U8")) fail("it has a tensor that no artifact has");
    result.tensors[name] = {body + offset, count, count * width};
    offset = end;
  });
  json.end();
  if (offset != body_size) fail("its tensors do not fill the file");
  return result;
}

}  // namespace subbyte
