// JSON without its ambiguities, read straight into what the caller expects: no tree is built, so that a text takes no
// more memory than its strings. Strict as docs/spec/artifact.md says: no key twice, no NaN or infinity, no lone
// surrogate, at most 32 levels and 32 digits. Everything throws std::invalid_argument.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace subbyte {

class Json {
 public:
  // `text` outlives the reader. Throws unless it is UTF-8.
  explicit Json(std::string_view text);

  // Reads an object: member(key) must read that key's value.
  template <typename F>
  void object(F&& member) {
    std::set<std::string> seen;
    open('{');
    for (bool first = true; more('}', first); first = false) {
      const std::string key = string();
      if (!seen.insert(key).second) fail("an object names a key twice");
      expect(':');
      member(key);
    }
  }

  // Reads an array: item() must read one element.
  template <typename F>
  void array(F&& item) {
    open('[');
    for (bool first = true; more(']', first); first = false) item();
  }

  std::string string();
  std::vector<std::int64_t> integers(std::size_t most);  // an array of at most so many
  std::int64_t integer();  // refuses 1.0 and 1e3
  double number();
  bool boolean();
  bool null();  // whether the value is null, which is then read
  void skip();  // one value of any kind, checked like the others
  void end();   // nothing but spaces may follow

  [[noreturn]] static void fail(const std::string& what);

 private:
  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;

  char peek();
  void expect(char c);
  void open(char c);
  bool more(char close, bool first);
  bool word(std::string_view wanted);
  std::string_view digits();
  unsigned hex4();
  void escape(std::string& result);
};

}  // namespace subbyte
