#include "simulations/prepare.h"

#include <algorithm>

#include "base/durable_file.h"
#include "base/rng.h"
#include "base/safetensors.h"
#include "base/sha256.h"
#include "compression/updates/error_feedback.h"
#include "compression/updates/ladder.h"
#include "config/chain_fit.h"
#include "config/downlink.h"
#include "config/model_card.h"
#include "coordinator/strategies/fedavg.h"
#include "coordinator/versions.h"
#include "learning/dataset.h"
#include "learning/deal.h"
#include "learning/partition.h"
#include "learning/script_file.h"
#include "proto/parts.h"
#include "simulations/client_states.h"
#include "simulations/rate_preview.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

/// A value of the file that doesn't fit the data, or what else is wrong with a key.
Status at_key(Status status, const char* key) {
  Where where = status.where();
  where.key = key;
  return std::move(status).at(std::move(where));
}

Result<std::vector<float>> read_initial(const std::string& path, const ParameterSchema& schema) {
  std::vector<float> parameters(schema.elements());
  const auto failed = [&](Status status) {
    return Status(status.code() == Code::kOutOfRange ? Code::kInvalidArgument : status.code(),
                  fmt::format("{}: {}", path, status.message()), {.key = "model.initial"});
  };
  Result<std::vector<std::byte>> file = read_file(path);
  if (!file) return failed(std::move(file).error());
  if (Status status = from_safetensors(*file, schema, parameters); !status.ok())
    return failed(std::move(status));
  if (Status status = round_to_grid(parameters); !status.ok()) return failed(std::move(status));
  return parameters;
}

/// What the scenario says of the shape of the data, for those who don't have them, is true.
Status check_shape_given(const ModelConfig& model, const TaskShape& shape) {
  if (const std::string input = input_shape_text(shape.input);
      !model.input.empty() && model.input != input)
    return Status(Code::kInvalidArgument,
                  fmt::format("is {}, but the data have {}", model.input, input),
                  {.key = "model.input"});
  if (model.classes != 0 && model.classes != shape.classes)
    return Status(Code::kInvalidArgument,
                  fmt::format("is {}, but the data have {}", model.classes, shape.classes),
                  {.key = "model.classes"});
  return {};
}

}  // namespace

Result<PreparedScenario> prepare(const Scenario& original) {
  PreparedScenario prepared{.scenario = original};
  Scenario& scenario = prepared.scenario;
  FleetConfig& fleet = scenario.fleet;
  if (const Result<PartitionRule> rule = parse_partition(scenario.data.partition); !rule)
    return at_key(rule.error(), "data.partition");
  if (!fleet.devices.empty() &&
      !(fleet.uplink.empty() && fleet.downlink.empty() && fleet.speed.empty()))
    return Status(Code::kInvalidArgument,
                  "does not go together with fleet.samples_per_s, uplink_bytes_per_s and "
                  "downlink_bytes_per_s: the file says these of each device",
                  {.key = "fleet.devices"});
  if (scenario.compression.rate_control.needs_links() && fleet.uplink.empty() &&
      fleet.devices.empty())
    return Status(Code::kInvalidArgument,
                  "needs fleet.uplink_bytes_per_s or fleet.devices: in a simulation nothing else "
                  "says what the "
                  "clients' links carry",
                  {.key = scenario.compression.rate_control.deadline_seconds
                              ? "compression.rate_control.deadline"
                              : "compression.rate_control.mean_error"});
  TERN_TRY(DataBundle data, load_data(scenario.data, scenario.seed));
  TERN_CHECK_OK(check_shape_given(scenario.model, data.shape));
  TERN_TRY(fleet.clients, fleet_size(scenario, data));
  if (clients_asked(fleet) > fleet.clients)
    return Status(
        Code::kInvalidArgument,
        fmt::format("a round asks {} clients (cohort {} x over_select {}), the fleet has {}",
                    clients_asked(fleet), fleet.cohort, fleet.over_select, fleet.clients),
        {.key = "fleet.cohort"});
  TERN_TRY(prepared.traces, read_device_traces(fleet));
  if (scenario.compression.rate_control.needs_links() &&
      std::ranges::any_of(prepared.traces.devices,
                          [](const DeviceCapacity& device) { return device.up_bytes == 0; }))
    return Status(Code::kInvalidArgument,
                  fmt::format("{}: has neither uplink_bytes_per_s nor communication, which "
                              "compression.rate_control needs",
                              fleet.devices),
                  {.key = "fleet.devices"});
  if (const uint32_t most = most_at_once(prepared.traces, fleet.clients),
      wanted = std::max(1u, fleet.min_updates);
      most < wanted)
    return Status(Code::kInvalidArgument,
                  fmt::format("{}: at most {} of {} clients are there at once, a round needs {} "
                              "(fleet.min_updates)",
                              fleet.availability, most, fleet.clients, wanted),
                  {.key = "fleet.availability"});
  TERN_TRY(Deal deal, deal_examples(scenario, data));
  prepared.test_clients = deal.test.dealt();
  prepared.largest_examples = std::max(1u, deal.train.largest());
  if (fleet.max_examples != 0) {
    if (prepared.largest_examples > fleet.max_examples)
      return Status(Code::kInvalidArgument,
                    fmt::format("is {}, but there is a client with {} examples", fleet.max_examples,
                                prepared.largest_examples),
                    {.key = "fleet.max_examples"});
    prepared.largest_examples = fleet.max_examples;
  }
  const uint32_t largest_weight =
      fleet.equal_weights() ? 1
                            : fedavg_weight(prepared.largest_examples,
                                            fedavg_weight_shift(prepared.largest_examples));
  prepared.bounds = {.norm_bound = scenario.strategy.norm_bound,
                     .largest_weights = uint64_t{fleet.cohort} * largest_weight};
  if (const auto fits = FixedPointAccumulator::make(0, prepared.bounds); !fits)
    return at_key(fits.error(), "strategy.norm_bound");

  Result<std::shared_ptr<const LearningData>> made =
      make_learning_data(scenario.model, std::move(data), std::move(deal.train));
  if (!made) {
    const bool located = !made.error().where().key.empty() || !made.error().where().file.empty();
    return located ? std::move(made).error() : at_key(std::move(made).error(), "model.name");
  }
  prepared.data = *std::move(made);
  TERN_CHECK_OK(check_chains(scenario.compression, prepared.data->schema));
  if (!scenario.model.initial.empty()) {
    TERN_TRY(prepared.initial, read_initial(scenario.model.initial, prepared.data->schema));
  } else if (scenario.model.name == kScriptModel) {
    TERN_TRY(ScriptFile script, read_script(scenario.model.script));
    prepared.initial = std::move(script.parameters);
    if (Status status = round_to_grid(prepared.initial); !status.ok())
      return std::move(status).at({.file = scenario.model.script});
  }
  return prepared;
}

std::vector<double> uplinks_of(const PreparedScenario& prepared) {
  const std::vector<DeviceCapacity>& devices = prepared.traces.devices;
  std::vector<double> uplinks(devices.empty() ? 0 : prepared.scenario.fleet.clients);
  for (size_t client = 0; client < uplinks.size(); ++client)
    uplinks[client] = devices[client % devices.size()].up_bytes;
  return uplinks;
}

std::string input_sha256(const PreparedScenario& prepared) {
  std::string digests;
  const auto add = [&](auto values) {
    digests += to_hex(sha256(std::as_bytes(std::span(values))));
  };
  for (const Dataset* part : {&prepared.data->data.train, &prepared.data->data.test}) {
    add(std::span<const float>(part->inputs));
    add(std::span<const uint32_t>(part->labels));
  }
  for (const auto& client : prepared.data->clients.dealt()) add(std::span<const uint32_t>(client));
  add(std::span<const float>(prepared.initial));
  // What a script computes isn't in its parameters. One that is gone will be missed by the trainer.
  if (const Result<std::vector<std::byte>> script = read_file(prepared.scenario.model.script);
      script)
    add(std::span<const std::byte>(*script));
  for (const DeviceCapacity& device : prepared.traces.devices) add(std::span(&device, 1));
  for (const Availability& one : prepared.traces.availabilities) {
    add(std::span(&one.period, 1));
    add(std::span<const Availability::Window>(one.windows));
  }
  return to_hex(sha256(std::string_view(digests)));
}

Result<double> remembered_bytes(const PreparedScenario& prepared) {
  const Scenario& scenario = prepared.scenario;
  TERN_TRY(const Codec up, Codec::parse(scenario.compression.up));
  bool remembers = up.error_feedback();
  if (scenario.compression.rate_control.on()) {
    TERN_TRY(const std::vector<Codec> chains,
             parse_ladder(scenario.compression.rate_control.ladder));
    remembers = remembers || std::ranges::any_of(chains, &Codec::error_feedback);
  }
  if (!remembers) return 0;
  const double residual = scenario.compression.error_feedback.store == "bfloat16" ? 2 : 4;
  const double momentum = up.feedback() == Feedback::kDgc ? 4 : 0;
  const double clients = std::min<double>(
      scenario.fleet.clients, double{1} * scenario.rounds * clients_asked(scenario.fleet));
  return clients * (residual + momentum) * static_cast<double>(prepared.data->schema.elements());
}

Result<ordered_json> estimate_cost(const PreparedScenario& prepared, size_t workers) {
  const Scenario& scenario = prepared.scenario;
  const size_t n = prepared.data->schema.elements();
  TERN_TRY(const Codec up, Codec::parse(scenario.compression.up));
  TERN_TRY(const std::vector<Codec> down, downlink_codecs(scenario.compression));
  CodecScratch scratch;
  std::vector<float> sample(n);
  Rng rng(scenario.seed, Purpose::kTest);
  for (float& value : sample) value = static_cast<float>(rng.normal());
  const auto part_bytes = [&](const Codec& codec) -> Result<size_t> {
    TERN_TRY(const PendingUpdate pending,
             encode_update(codec, {}, prepared.data->schema, sample, {}, scratch));
    const std::span<const std::byte> frame(pending.frame);
    return total_bytes(split_into_parts(TransferKind::kUpdate, 0, {&frame, 1}));
  };
  TERN_TRY(const size_t one_chain_bytes, part_bytes(up));
  TERN_TRY(const ordered_json rates, preview_rates(prepared));
  const double up_bytes =
      rates.is_null() ? static_cast<double>(one_chain_bytes) : rates["mean_bytes"].get<double>();
  const auto asked = static_cast<double>(clients_asked(scenario.fleet));
  // Versions from one task of a client to the next, on average.
  const double missed = scenario.fleet.clients / asked;
  const VersionTree tree = version_tree(scenario.compression);
  ordered_json down_bytes = ordered_json::array();
  double download = 0;
  for (size_t level = 0; level < down.size(); ++level) {
    TERN_TRY(const size_t bytes, part_bytes(down[level]));
    down_bytes.push_back(bytes);
    download += static_cast<double>(bytes) * expected_frames(tree, level, missed);
  }
  download = std::min(download, 4.0 * static_cast<double>(n));
  const double examples =
      static_cast<double>(prepared.data->clients.total()) / prepared.data->clients.clients();
  const double samples =
      scenario.training.local_steps > 0
          ? double{1} * scenario.training.local_steps * scenario.training.batch_size
          : examples * scenario.training.local_epochs;
  const double rounds = scenario.rounds;
  TERN_TRY(const double remembered, remembered_bytes(prepared));
  const double on_disk = remembered > ClientStates::kMemoryBytes ? remembered : 0;
  const DataBundle& data = prepared.data->data;
  // Model, replica, version 0, residual, step; for each worker update, accumulator and what the
  // trainer keeps; the examples; what clients remember.
  const double memory =
      4.0 * static_cast<double>(n) *
          (6 + 2 * static_cast<double>(tree.periods.size()) + 6 * static_cast<double>(workers)) +
      4.0 * static_cast<double>(data.train.inputs.size() + data.train.labels.size() +
                                data.test.inputs.size() + data.test.labels.size()) +
      std::min<double>(remembered, ClientStates::kMemoryBytes);
  return ordered_json{{"parameters", n},
                      {"clients", scenario.fleet.clients},
                      {"update_bytes", up_bytes},
                      {"delta_bytes", down_bytes},
                      {"download_bytes", download},
                      {"bytes_up", rounds * asked * up_bytes},
                      {"bytes_down", rounds * asked * download},
                      {"samples", rounds * asked * samples},
                      {"memory_bytes", memory},
                      {"disk_bytes", on_disk},
                      {"rate_control", rates}};
}

}  // namespace tern
