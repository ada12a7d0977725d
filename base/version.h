/// Tern's version, from the project() line of the top-level CMakeLists.txt.
#pragma once

namespace tern {

inline constexpr const char* kVersion = TERN_VERSION;

}  // namespace tern
