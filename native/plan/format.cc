// Formats as texts.
#include "subbyte/engine.h"

namespace subbyte {

std::string format_text(const Format& format) {
  const char* kind = format.kind == Kind::kInt ? "int" : format.kind == Kind::kUint ? "uint" : "fp";
  const char* book = !format.book ? "" : format.kind == Kind::kUint ? "+levels" : "+book";
  return kind + std::to_string(format.bits) + book;
}

}  // namespace subbyte
