// A file of its own: where the compiler could inline these, it would take std::free for a mistake.
#include "tests/proto/counting_allocator.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<size_t> allocated = 0;

}  // namespace

void* operator new(size_t bytes) {
  allocated += bytes;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace tern {

size_t allocated_bytes() { return allocated; }

}  // namespace tern
