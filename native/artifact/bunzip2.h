// Decompression of one bzip2 stream, of which an artifact holds its graph's description.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace subbyte {

// The text of a complete stream of `size` bytes. Never makes more than `most` bytes, whatever the data claims.
// Throws std::invalid_argument if it is damaged, ends early, is followed by more, or expands to more.
std::string bunzip2(const std::uint8_t* data, std::size_t size, std::size_t most);

}  // namespace subbyte
