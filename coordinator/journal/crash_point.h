/// Where a crash is worth trying. With TERN_CRASH_AT=N in its environment a process kills itself
/// with SIGKILL, as a power cut of its own, at the N-th crash point that it comes to; without the
/// variable a crash point does nothing. tools/kill9 goes through all of them. Threads: safe.
#pragma once

namespace tern {

void crash_point();

}  // namespace tern
