#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string_view>

#include "base/program.h"
#include "simulations/cli/commands.h"

namespace tern::cli {
namespace {

#ifdef TERN_WITH_TORCH
bool needs_torch(std::string_view command) {
  return std::ranges::find(kTorchCommands, command, &CommandName::name) != std::end(kTorchCommands);
}

/// Becomes tern-torch, with the same command line and the same process id.
int hand_over(int argc, char** argv, std::string_view command) {
  std::error_code failed;
  const std::filesystem::path itself = std::filesystem::read_symlink("/proc/self/exe", failed);
  if (failed)
    return fail(error(Code::kIo, "/proc/self/exe can't be read: {}", failed.message()),
                wants_json(argc, argv));
  const std::string program = (itself.parent_path() / "tern-torch").string();
  execv(program.c_str(), argv);
  return fail(error(Code::kIo, "'{}' needs {}, which can't be started: {}", command, program,
                    std::strerror(errno)),
              wants_json(argc, argv));
}
#endif

void add_commands(CLI::App& program, int& exit_status) {
#ifdef TERN_WITH_TORCH
  for (const CommandName& command : kTorchCommands)
    program.add_subcommand(command.name, command.meaning);
#else
  add_bench(program, exit_status);
#endif
  add_keys(program, exit_status);
  add_update(program, exit_status);
}

}  // namespace
}  // namespace tern::cli

int main(int argc, char** argv) {
  using namespace tern::cli;
#ifdef TERN_WITH_TORCH
  char** command =
      std::find_if(argv + 1, argv + argc, [](const char* arg) { return arg[0] != '-'; });
  if (command != argv + argc && needs_torch(*command)) return hand_over(argc, argv, *command);
#endif
  return run_command(argc, argv, add_commands);
}
