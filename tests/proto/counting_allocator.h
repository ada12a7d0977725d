/// Counts what its program allocates: counting_allocator.cc replaces operator new.
#pragma once

#include <cstddef>

namespace tern {

/// Bytes that operator new has given out so far, on all threads.
size_t allocated_bytes();

/// Bytes that `f` allocates, also what it frees again.
template <typename F>
size_t spent_by(F f) {
  const size_t before = allocated_bytes();
  f();
  return allocated_bytes() - before;
}

}  // namespace tern
