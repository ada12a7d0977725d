/// What a fuzz target asserts: a failure is a crash that libFuzzer keeps.
#pragma once

#include <cstdio>
#include <cstdlib>

#define TERN_FUZZ_CHECK(condition)                                                  \
  do {                                                                              \
    if (!(condition)) {                                                             \
      std::fprintf(stderr, "%s:%d: %s is false\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                 \
    }                                                                               \
  } while (false)
