// Reading of .subbyte files (docs/spec/artifact.md): the third reader beside Python's, for programs without Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "subbyte/engine.h"

namespace subbyte {

// What a file holds. The first four are the arguments of Model.
struct Artifact {
  std::vector<ValueDesc> values;
  std::vector<NodeDesc> nodes;
  int input = 0;
  std::vector<int> outputs;

  std::vector<std::string> classes;               // names of the first output's elements; empty: none are stored
  std::string preprocessing, recipe, provenance;  // JSON
};

// Throws std::invalid_argument, naming what is wrong, for a file that is damaged, hostile or of another version;
// takes no memory that the file only claims to need.
Artifact read_artifact(const std::string& path);
Artifact read_artifact(const std::uint8_t* data, std::size_t size);

}  // namespace subbyte
