// What the engine and its tests tell AddressSanitizer beyond what it sees itself; nothing in other builds.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define SUBBYTE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SUBBYTE_ASAN 1
#endif
#endif

#ifdef SUBBYTE_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace subbyte {
namespace {  // a copy per including file: no vague linkage between instruction sets

#ifdef SUBBYTE_ASAN
constexpr bool kAddressSanitizer = true;
// Memory that nobody may touch from now on. Both ends of it have to be 8-byte aligned, or the end of an allocation.
inline void poison(const void* p, std::size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void unpoison(const void* p, std::size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
constexpr bool kAddressSanitizer = false;
inline void poison(const void*, std::size_t) {}
inline void unpoison(const void*, std::size_t) {}
#endif

// Bytes to leave between what shares an allocation, where they can be watched.
constexpr std::size_t kRedZone = 4096, kGap = kAddressSanitizer ? kRedZone : 0;

// Announces what inline assembly is about to read, which AddressSanitizer does not look into.
inline __attribute__((always_inline)) void announce_read([[maybe_unused]] const void* p,
                                                         [[maybe_unused]] std::size_t bytes) {
#ifdef SUBBYTE_ASAN
  const auto* byte = static_cast<const volatile unsigned char*>(p);
  (void)byte[0], (void)byte[bytes - 1];
#endif
}

}  // namespace
}  // namespace subbyte
