#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "base/durable_file.h"
#include "base/program.h"
#include "base/safetensors.h"
#include "learning/script_file.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/tensor_file.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct ModelArguments {
  std::string script;
  std::string out;
  bool json = false;
};

Result<ordered_json> import_script(const ModelArguments& arguments) {
  if (!arguments.out.empty()) TERN_CHECK_OK(check_new_file(arguments.out));
  TERN_TRY(const ScriptFile file, read_script(arguments.script));
  if (!arguments.out.empty())
    TERN_CHECK_OK(write_durably(
        arguments.out, std::span<const std::byte>(to_safetensors(file.schema, file.parameters))));
  ordered_json tensors = ordered_json::array();
  for (const TensorSpec& tensor : file.schema.tensors())
    tensors.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
  return ordered_json{{"parameters", file.schema.elements()},
                      {"schema", fmt::format("{:016x}", file.schema.hash())},
                      {"tensors", std::move(tensors)}};
}

int import(const ModelArguments& arguments) {
  const Result<ordered_json> result = import_script(arguments);
  if (!result) return fail(result.error(), arguments.json, kBadInput);
  if (arguments.json) {
    fmt::print("{}\n", result->dump(2));
    return kOk;
  }
  for (const auto& tensor : (*result)["tensors"])
    fmt::print("  {:<40} [{}]\n", tensor["name"].get<std::string>(),
               fmt::join(tensor["shape"].get<std::vector<int64_t>>(), ", "));
  fmt::print("{} parameters, schema {}\n", (*result)["parameters"].get<uint64_t>(),
             (*result)["schema"].get<std::string>());
  return kOk;
}

}  // namespace

void add_model(CLI::App& program, int& exit_status) {
  CLI::App* model = program.add_subcommand(kModel.name, kModel.meaning);
  model->require_subcommand(1);
  auto arguments = std::make_shared<ModelArguments>();
  CLI::App* command =
      model->add_subcommand("import", "Check a TorchScript file and show its parameters");
  command->add_option("FILE", arguments->script, "A TorchScript file")->required();
  command
      ->add_option("--out", arguments->out,
                   "Write the parameters here, for a coordinator's model.initial")
      ->type_name("FILE.safetensors");
  command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  command->footer(
      "A TorchScript file is code that runs here: import only your own. docs/your-model.md says "
      "how "
      "to write one.\n"
      "Example:\n"
      "  tern model import net.pt --out net.safetensors");
  command->callback([arguments, &exit_status] { exit_status = import(*arguments); });
}

}  // namespace tern::cli
