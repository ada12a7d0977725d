/// What `--json` prints.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tern::cli {

/// On standard output, indented. Text that is no UTF-8, such as a file's name, is printed with
/// U+FFFD in place of the rest.
inline void print_json(const nlohmann::ordered_json& value) {
  fmt::print("{}\n", value.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

}  // namespace tern::cli
