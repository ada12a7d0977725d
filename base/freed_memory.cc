#include "base/freed_memory.h"

#include <cstdlib>  // says which C library this is

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace tern {

#ifdef __GLIBC__
void keep_freed_memory() {
  // Where glibc's own adjustment would end, which stops as soon as one of them is set.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
}
void give_back_freed_memory() { malloc_trim(0); }
#else
void keep_freed_memory() {}
void give_back_freed_memory() {}
#endif

}  // namespace tern
