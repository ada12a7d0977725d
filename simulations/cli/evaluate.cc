#include <CLI/CLI.hpp>
#include <cstdlib>

#include "base/durable_file.h"
#include "base/log_view.h"
#include "base/program.h"
#include "base/safetensors.h"
#include "client/daemon/client_daemon.h"
#include "config/load.h"
#include "coordinator/views/evaluation.h"
#include "coordinator/views/summary.h"
#include "learning/blas.h"
#include "learning/torch_evaluator.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/print_json.h"
#include "simulations/prepare.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct EvaluateArguments {
  std::string file;
  std::string model;
  std::string attach;
  std::vector<std::string> set;
  bool json = false;
};

/// A model file on the scenario's test data.
Result<ordered_json> evaluate_file(const Scenario& scenario, const std::string& model) {
  TERN_TRY(const PreparedScenario prepared, prepare(scenario));
  TERN_TRY(const std::vector<std::byte> file, read_file(model));
  const ParameterSchema& schema = prepared.data->schema;
  std::vector<float> parameters(schema.elements());
  if (Status status = from_safetensors(file, schema, parameters); !status.ok())
    return std::move(status).at({.file = model});
  TERN_TRY(const std::unique_ptr<Evaluator> evaluator, make_evaluator(prepared.data));
  if (evaluator->part_count() == 0)
    return Status(Code::kInvalidArgument, "there are no test examples", {.key = "data.source"});
  std::vector<EvaluationPart> parts;
  for (size_t part = 0; part < evaluator->part_count(); ++part) {
    TERN_TRY(EvaluationPart result, evaluator->evaluate(parameters, part));
    parts.push_back(std::move(result));
  }
  const DataBundle& data = prepared.data->data;
  const Evaluation evaluation =
      summarize_evaluation(parts, data.test.labels, static_cast<uint32_t>(data.shape.classes),
                           prepared.test_clients, data.test.labels_each);
  return evaluation_json(evaluation, {.classes = data.class_names, .clients = data.client_names});
}

int attach(const EvaluateArguments& arguments) {
  std::vector<std::string> set = arguments.set;
  set.push_back("client.connect=" + arguments.attach);
  const Result<LoadedScenario> loaded = load_with_overrides(arguments.file, set);
  if (!loaded) return fail(loaded.error(), arguments.json);
  LogView log(stderr, "");
  const Result<bool> interrupted =
      run_client(*loaded, {.evaluator = true, .end_now = [] { std::_Exit(kInterrupted); }}, log);
  if (!interrupted) return fail(loaded->locate(interrupted.error()), arguments.json);
  return *interrupted ? kInterrupted : kOk;
}

int evaluate(const EvaluateArguments& arguments) {
  if (arguments.model.empty() == arguments.attach.empty())
    return fail(error(Code::kInvalidArgument,
                      "say either --model FILE or --attach ENDPOINT; see tern evaluate --help"),
                arguments.json);
  if (!arguments.attach.empty()) return attach(arguments);
  const Result<LoadedScenario> loaded = load_with_overrides(arguments.file, arguments.set);
  if (!loaded) return fail(loaded.error(), arguments.json);
  (void)make_math_serial();
  const Result<ordered_json> result = evaluate_file(loaded->scenario, arguments.model);
  if (!result) return fail(loaded->locate(result.error()), arguments.json);
  if (arguments.json) {
    print_json(*result);
    return kOk;
  }
  fmt::print("{}\n  accuracy     {:.4f}\n  loss         {:.4f}\n  macro F1     {:.4f}\n",
             arguments.model, (*result)["accuracy"].get<double>(), (*result)["loss"].get<double>(),
             (*result)["macro_f1"].get<double>());
  for (const auto& figures : (*result)["classes"])
    fmt::print("  {:<12} recall {:.4f}, precision {:.4f}, {} examples\n",
               figures["name"].get<std::string>(), figures["recall"].get<double>(),
               figures["precision"].get<double>(), figures["examples"].get<uint32_t>());
  return kOk;
}

}  // namespace

void add_evaluate(CLI::App& program, int& exit_status) {
  auto arguments = std::make_shared<EvaluateArguments>();
  CLI::App* command = program.add_subcommand(kEvaluate.name, kEvaluate.meaning);
  command->add_option("FILE", arguments->file, "Scenario, a TOML file")->required();
  command->add_option("--model", arguments->model, "A .safetensors file")->type_name("FILE");
  command
      ->add_option("--attach", arguments->attach,
                   "Evaluate for the coordinator there, until its run is finished")
      ->type_name("ENDPOINT");
  command->add_option("--set", arguments->set, "Override a key")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  command->footer(
      "An attached evaluator is on the coordinator's list as one (tern keys allow --evaluator) and "
      "takes key, server_key and state_dir from the [client] table; the coordinator asks it when "
      "server.evaluate is \"attached\".\n"
      "Examples:\n"
      "  tern evaluate run.toml --model out/first/model.safetensors\n"
      "  tern evaluate run.toml --attach tcp://10.0.0.1:7700 --set client.key=evaluator.key");
  command->callback([arguments, &exit_status] { exit_status = evaluate(*arguments); });
}

}  // namespace tern::cli
