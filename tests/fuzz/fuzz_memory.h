/// What a fuzz target's code under test allocates: counted by the sanitizer's hooks, between two
/// marks and on this thread alone.
#pragma once

#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzz_check.h"

namespace tern {

struct FuzzMemory {
  bool counting = false;
  uint64_t allocated = 0;  ///< in all
  int64_t live = 0;        ///< less what was freed, also of memory from before
  int64_t most_live = 0;
};
inline thread_local FuzzMemory fuzz_memory;

inline void fuzz_malloc_hook(const volatile void*, size_t bytes) {
  FuzzMemory& memory = fuzz_memory;
  if (!memory.counting) return;
  memory.allocated += bytes;
  memory.live += static_cast<int64_t>(bytes);
  memory.most_live = std::max(memory.most_live, memory.live);
}
inline void fuzz_free_hook(const volatile void* address) {
  FuzzMemory& memory = fuzz_memory;
  if (!memory.counting || address == nullptr) return;
  memory.live -=
      static_cast<int64_t>(__sanitizer_get_allocated_size(const_cast<const void*>(address)));
}

inline const int fuzz_hooks =
    __sanitizer_install_malloc_and_free_hooks(fuzz_malloc_hook, fuzz_free_hook);

/// Counts what `f` does to memory, on top of `before`.
template <typename F>
FuzzMemory memory_of(F f, const FuzzMemory& before = {}) {
  TERN_FUZZ_CHECK(fuzz_hooks > 0);
  fuzz_memory = before;
  fuzz_memory.counting = true;
  f();
  fuzz_memory.counting = false;
  return fuzz_memory;
}

}  // namespace tern
