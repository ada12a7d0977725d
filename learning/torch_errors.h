/// Where LibTorch's exceptions end.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <utility>

#include "base/status.h"

namespace tern {

/// Runs `work`, which gives a Result, and turns an exception into kInternal with the first line of
/// its message.
template <typename Work>
auto without_exceptions(Work&& work) -> decltype(work()) {
  try {
    return std::forward<Work>(work)();
  } catch (const c10::Error& e) {
    return error(Code::kInternal, "LibTorch: {}", e.what_without_backtrace());
  } catch (const std::exception& e) {
    return error(Code::kInternal, "LibTorch: {}", e.what());
  }
}

}  // namespace tern
