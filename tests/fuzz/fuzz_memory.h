/// What a fuzz target's code under test allocates, between two marks and on this thread alone:
/// counted by the hooks of AddressSanitizer, or without it by operator new (replay.cc).
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define TERN_FUZZ_SANITIZER_HOOKS
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TERN_FUZZ_SANITIZER_HOOKS
#endif
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzz_check.h"

#if defined(TERN_FUZZ_SANITIZER_HOOKS) && __has_include(<sanitizer/allocator_interface.h>)
#include <sanitizer/allocator_interface.h>
#elif defined(TERN_FUZZ_SANITIZER_HOOKS)
// g++ 12 has the functions without the header.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, size_t),
                                                         void (*)(const volatile void*));
extern "C" size_t __sanitizer_get_allocated_size(const volatile void*);
#endif

namespace tern {

struct FuzzMemory {
  bool counting = false;
  uint64_t allocated = 0;  ///< in all
  int64_t live = 0;        ///< less what was freed, also of memory from before
  int64_t most_live = 0;
};
inline thread_local FuzzMemory fuzz_memory;

inline void fuzz_count_new(size_t bytes) {
  FuzzMemory& memory = fuzz_memory;
  if (!memory.counting) return;
  memory.allocated += bytes;
  memory.live += static_cast<int64_t>(bytes);
  memory.most_live = std::max(memory.most_live, memory.live);
}
inline void fuzz_count_delete(size_t bytes) {
  FuzzMemory& memory = fuzz_memory;
  if (memory.counting) memory.live -= static_cast<int64_t>(bytes);
}

#ifdef TERN_FUZZ_SANITIZER_HOOKS
inline void fuzz_malloc_hook(const volatile void*, size_t bytes) { fuzz_count_new(bytes); }
inline void fuzz_free_hook(const volatile void* address) {
  if (fuzz_memory.counting && address != nullptr)
    fuzz_count_delete(__sanitizer_get_allocated_size(const_cast<const void*>(address)));
}

inline const int kFuzzHooks =
    __sanitizer_install_malloc_and_free_hooks(fuzz_malloc_hook, fuzz_free_hook);
#else
inline const int kFuzzHooks = 1;
#endif

/// Counts what `f` does to memory, on top of `before`.
template <typename F>
FuzzMemory memory_of(F f, const FuzzMemory& before = {}) {
  TERN_FUZZ_CHECK(kFuzzHooks > 0);
  fuzz_memory = before;
  fuzz_memory.counting = true;
  f();
  fuzz_memory.counting = false;
  return fuzz_memory;
}

}  // namespace tern
