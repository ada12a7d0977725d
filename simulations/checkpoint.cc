#include "simulations/checkpoint.h"

#include <cstring>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/sha256.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

constexpr std::string_view kMagic = "TRNCKPT5";
constexpr size_t kJsonAt = 16;  // after magic and length

template <typename T = float>
Result<std::vector<T>> take(ByteReader& reader, size_t count) {
  if (count > reader.left() / sizeof(T)) return error(Code::kCorrupt, "the checkpoint ends early");
  std::vector<T> values(count);
  const auto bytes = reader.take_bytes(count * sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

Result<SenderMemory> take_memory(ByteReader& reader, const ordered_json& lengths) {
  SenderMemory memory;
  TERN_TRY(memory.residual, take(reader, lengths.at(0)));
  TERN_TRY(memory.residual16, take<uint16_t>(reader, lengths.at(1)));
  TERN_TRY(memory.momentum, take(reader, lengths.at(2)));
  TERN_TRY(memory.factors, take(reader, lengths.at(3)));
  return memory;
}

Result<Checkpoint> parse(std::span<const std::byte> file) {
  const ordered_json json = ordered_json::parse(
      reinterpret_cast<const char*>(file.data()) + kJsonAt,
      reinterpret_cast<const char*>(file.data()) + kJsonAt + load<uint64_t>(file.data() + 8));
  ByteReader reader(file.subspan(kJsonAt + load<uint64_t>(file.data() + 8)));
  Checkpoint checkpoint{.identity = {.config_sha256 = json.at("config_sha256"),
                                     .input_sha256 = json.at("input_sha256"),
                                     .environment = json.at("environment")},
                        .fleet = {},
                        .totals = totals_from_json(json.at("totals")),
                        .rows = json.at("rows"),
                        .seconds = json.at("seconds"),
                        .wall_seconds = json.at("wall_seconds")};
  checkpoint.fleet.round = json.at("round");
  checkpoint.fleet.time = Duration(json.at("virtual_nanoseconds").get<int64_t>());
  checkpoint.fleet.model.version = json.at("version");
  TERN_TRY(std::vector<float> parameters, take(reader, json.at("parameters")));
  TERN_TRY(std::vector<float> residual, take(reader, json.at("residual")));
  checkpoint.fleet.model.parameters =
      std::make_shared<const std::vector<float>>(std::move(parameters));
  checkpoint.fleet.model.residual = std::make_shared<const std::vector<float>>(std::move(residual));
  TERN_TRY(checkpoint.fleet.optimizer.momentum, take(reader, json.at("momentum")));
  TERN_TRY(checkpoint.fleet.optimizer.estimate, take<double>(reader, json.at("estimate")));
  for (const auto& [client, weight] :
       json.at("estimate_weights").get<std::map<uint32_t, uint32_t>>())
    checkpoint.fleet.optimizer.estimate_weights[client] = weight;
  const auto& rate = json.at("rate");
  checkpoint.fleet.rate = {
      .bytes = rate.at("bytes"), .nmse = rate.at("nmse"), .square_norms = rate.at("square_norms")};
  checkpoint.fleet.experiences = experiences_from_json(json.at("experiences"));
  for (const auto& base : json.at("bases")) {
    TERN_TRY(std::vector<float> model, take(reader, base.at(1)));
    checkpoint.fleet.model.bases[base.at(0)] =
        std::make_shared<const std::vector<float>>(std::move(model));
  }
  for (const auto& frame : json.at("frames")) {
    const auto bytes = reader.take_bytes(frame.at(1).get<size_t>());
    checkpoint.fleet.model.frames[frame.at(0)] =
        std::make_shared<const Bytes>(bytes.begin(), bytes.end());
  }
  for (const auto& client : json.at("clients")) {
    TERN_TRY(SenderMemory memory, take_memory(reader, client.at(3)));
    checkpoint.fleet.clients[client.at(0)] = {.held_version = client.at(1),
                                              .last_task_round = client.at(2),
                                              .residual_round = client.at(4),
                                              .memory = std::move(memory)};
  }
  if (!reader.ok() || reader.left() != 0)
    return error(Code::kCorrupt, "the checkpoint has the wrong length");
  return checkpoint;
}

}  // namespace

Status write_checkpoint(const std::string& path, const Checkpoint& checkpoint) {
  const FleetState& fleet = checkpoint.fleet;
  // Views of the arrays, in the order in which they follow the JSON.
  std::vector<std::span<const std::byte>> arrays;
  size_t array_bytes = 0;
  const auto add = [&](std::span<const std::byte> bytes) {
    arrays.push_back(bytes);
    array_bytes += bytes.size();
    return bytes.size();
  };
  const auto add_array = [&](const auto& values) {
    add(std::as_bytes(std::span(values)));
    return values.size();
  };
  ordered_json json{{"config_sha256", checkpoint.identity.config_sha256},
                    {"input_sha256", checkpoint.identity.input_sha256},
                    {"environment", checkpoint.identity.environment},
                    {"totals", to_json(checkpoint.totals)},
                    {"rows", checkpoint.rows},
                    {"seconds", checkpoint.seconds},
                    {"wall_seconds", checkpoint.wall_seconds},
                    {"round", fleet.round},
                    {"virtual_nanoseconds", fleet.time.count()},
                    {"version", fleet.model.version}};
  json["parameters"] = add_array(*fleet.model.parameters);
  json["residual"] = add_array(*fleet.model.residual);
  json["momentum"] = add_array(fleet.optimizer.momentum);
  json["estimate"] = add_array(fleet.optimizer.estimate);
  json["estimate_weights"] = fleet.optimizer.estimate_weights;
  // JSON brings a double back to the last bit.
  json["rate"] = {{"bytes", fleet.rate.bytes},
                  {"nmse", fleet.rate.nmse},
                  {"square_norms", fleet.rate.square_norms}};
  json["experiences"] = to_json(fleet.experiences);
  json["bases"] = json["frames"] = ordered_json::array();
  for (const auto& [version, base] : fleet.model.bases)
    json["bases"].push_back({version, add_array(*base)});
  for (const auto& [version, frame] : fleet.model.frames)
    json["frames"].push_back({version, add(*frame)});
  json["clients"] = ordered_json::array();
  // An update that still waits for its verdict isn't kept: what was counted has its verdict before
  // the round ends, the rest comes too late for it and is refused. Without it the client is where
  // that roll-back leaves it.
  for (const auto& [client, state] : fleet.clients)
    json["clients"].push_back(
        {client, state.held_version, state.last_task_round,
         ordered_json::array({add_array(state.memory.residual), add_array(state.memory.residual16),
                              add_array(state.memory.momentum), add_array(state.memory.factors)}),
         state.residual_round});
  const std::string text = json.dump();
  Bytes file;
  file.reserve(kJsonAt + text.size() + array_bytes + sizeof(Digest));
  file.resize(kJsonAt);
  std::memcpy(file.data(), kMagic.data(), kMagic.size());
  store(file.data() + 8, uint64_t{text.size()});
  const auto append = [&](std::span<const std::byte> bytes) {
    file.insert(file.end(), bytes.begin(), bytes.end());
  };
  append(std::as_bytes(std::span(text)));
  for (const auto& bytes : arrays) append(bytes);
  append(sha256(std::span<const std::byte>(file)));
  return write_durably(path, std::span<const std::byte>(file));
}

Result<Checkpoint> read_checkpoint(const std::string& path) {
  TERN_TRY(const std::vector<std::byte> file, read_file(path));
  const auto damaged = [&](std::string_view what) {
    return Status(Code::kCorrupt, std::string(what), {.file = path});
  };
  if (file.size() < kJsonAt + sizeof(Digest) ||
      std::memcmp(file.data(), kMagic.data(), kMagic.size()) != 0)
    return damaged("not a checkpoint of this version of Tern");
  const auto content = std::span(file).first(file.size() - sizeof(Digest));
  const Digest digest = sha256(std::span<const std::byte>(content));
  if (std::memcmp(digest.data(), file.data() + content.size(), sizeof(Digest)) != 0)
    return damaged("the checkpoint is damaged: its SHA-256 doesn't fit");
  if (load<uint64_t>(content.data() + 8) > content.size() - kJsonAt)
    return damaged("the checkpoint ends early");
  try {
    Result<Checkpoint> checkpoint = parse(content);
    if (!checkpoint) return std::move(checkpoint).error().at({.file = path});
    return checkpoint;
  } catch (const nlohmann::json::exception& problem) {
    return damaged(fmt::format("the checkpoint can't be read: {}", problem.what()));
  }
}

}  // namespace tern
