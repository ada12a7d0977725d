#include "simulations/checkpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <map>
#include <utility>

#include "base/bytes.h"
#include "base/rng.h"
#include "base/sha256.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

constexpr SqliteDatabase::Format kFormat{
    .kind = 0x5452434B,  // "TRCK"
    .version = 1,
    .schema =
        "CREATE TABLE checkpoint(piece INTEGER PRIMARY KEY, sha256 BLOB NOT NULL,"
        " content BLOB NOT NULL) STRICT;"
        // The checksum before the state, so that it is found without reading that.
        "CREATE TABLE clients(client INTEGER PRIMARY KEY, sha256 BLOB NOT NULL,"
        " state BLOB NOT NULL) STRICT",
    .large_transactions = true};
/// SQLite's longest value is a gigabyte.
constexpr size_t kPieceBytes = size_t{64} << 20;

template <typename T = float>
Result<std::vector<T>> take(ByteReader& reader, size_t count) {
  if (count > reader.left() / sizeof(T)) return error(Code::kCorrupt, "ends early");
  std::vector<T> values(count);
  const auto bytes = reader.take_bytes(count * sizeof(T));
  if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

/// Of a row: of its number and its bytes.
Digest digest_of(int64_t number, std::span<const std::byte> bytes) {
  const Digest content = sha256(bytes);
  std::array<std::byte, sizeof number + sizeof(Digest)> both{};
  store(both.data(), number);
  std::ranges::copy(std::as_bytes(std::span(content)), both.begin() + sizeof number);
  return sha256(std::span<const std::byte>(both));
}

uint64_t beginning(std::span<const std::byte> digest) {
  return digest.size() < sizeof(uint64_t) ? 0 : load<uint64_t>(digest.data());
}

Result<Checkpoint> parse(std::span<const std::byte> file, uint64_t& clients,
                         uint64_t& clients_sum) {
  ByteReader reader(file);
  const auto text = reader.take_bytes(reader.take<uint64_t>());
  const auto* json_at = reinterpret_cast<const char*>(text.data());
  const ordered_json json = ordered_json::parse(json_at, json_at + text.size());
  clients = json.at("clients");
  clients_sum = json.at("clients_sum");
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
  if (json.contains("lag")) {
    checkpoint.fleet.optimizer.steps = json.at("steps");
    TERN_TRY(checkpoint.fleet.optimizer.lag, take(reader, json.at("lag")));
  }
  TERN_TRY(checkpoint.fleet.optimizer.estimate, take<double>(reader, json.at("estimate")));
  for (const auto& [client, weight] :
       json.at("estimate_weights").get<std::map<uint32_t, uint32_t>>())
    checkpoint.fleet.optimizer.estimate_weights[client] = weight;
  const auto& rate = json.at("rate");
  checkpoint.fleet.rate = {
      .bytes = rate.at("bytes"),
      .nmse = rate.at("nmse"),
      .square_norms = rate.value("square_moves", std::map<uint32_t, double>())};
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
  if (!reader.ok() || reader.left() != 0) return error(Code::kCorrupt, "has the wrong length");
  return checkpoint;
}

/// Everything but what clients remember: the length of the JSON, the JSON (scalars and the lengths
/// of what follows), raw arrays.
class Writer {
 public:
  explicit Writer(SqliteDatabase& database) : database_(database) {}

  Status write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto now = bytes.first(std::min(bytes.size(), kPieceBytes - piece_.size()));
      piece_.insert(piece_.end(), now.begin(), now.end());
      bytes = bytes.subspan(now.size());
      if (piece_.size() == kPieceBytes) TERN_CHECK_OK(end_piece());
    }
    return {};
  }
  Status end_piece() {
    if (!insert_) {
      TERN_TRY(insert_, database_.prepare("INSERT INTO checkpoint VALUES(?, ?, ?)"));
    }
    const Digest digest = digest_of(pieces_, piece_);
    insert_->bind(1, pieces_++).bind(2, digest).bind(3, piece_);
    TERN_TRY([[maybe_unused]] const bool row, insert_->step());
    piece_.clear();
    return {};
  }

 private:
  SqliteDatabase& database_;
  std::optional<SqliteStatement> insert_;
  int64_t pieces_ = 0;
  std::vector<std::byte> piece_;
};

Status write(Writer& writer, const Checkpoint& checkpoint, uint64_t clients, uint64_t clients_sum) {
  const FleetState& fleet = checkpoint.fleet;
  // Views of the arrays, in the order in which they follow the JSON.
  std::vector<std::span<const std::byte>> arrays;
  const auto add = [&](std::span<const std::byte> bytes) {
    arrays.push_back(bytes);
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
                    {"version", fleet.model.version},
                    {"clients", clients},
                    {"clients_sum", clients_sum}};
  json["parameters"] = add_array(*fleet.model.parameters);
  json["residual"] = add_array(*fleet.model.residual);
  json["momentum"] = add_array(fleet.optimizer.momentum);
  if (fleet.optimizer.steps > 0) {
    json["steps"] = fleet.optimizer.steps;
    json["lag"] = add_array(fleet.optimizer.lag);
  }
  json["estimate"] = add_array(fleet.optimizer.estimate);
  json["estimate_weights"] = fleet.optimizer.estimate_weights;
  // JSON brings a double back to the last bit.
  json["rate"] = {{"bytes", fleet.rate.bytes},
                  {"nmse", fleet.rate.nmse},
                  {"square_moves", fleet.rate.square_norms}};
  json["experiences"] = to_json(fleet.experiences);
  json["bases"] = json["frames"] = ordered_json::array();
  for (const auto& [version, base] : fleet.model.bases)
    json["bases"].push_back({version, add_array(*base)});
  for (const auto& [version, frame] : fleet.model.frames)
    json["frames"].push_back({version, add(*frame)});
  const std::string text = json.dump();
  const auto length = uint64_t{text.size()};
  TERN_CHECK_OK(writer.write(std::as_bytes(std::span(&length, 1))));
  TERN_CHECK_OK(writer.write(std::as_bytes(std::span(text))));
  for (const auto& bytes : arrays) TERN_CHECK_OK(writer.write(bytes));
  return writer.end_piece();
}

}  // namespace

Result<CheckpointFile> CheckpointFile::open(std::string path) {
  CheckpointFile file(std::move(path));
  std::error_code ignored;
  if (!file.path_.empty() && std::filesystem::exists(file.path_, ignored))
    TERN_CHECK_OK(file.open_database());
  return file;
}

Status CheckpointFile::open_database() {
  TERN_TRY(database_, SqliteDatabase::open(path_, kFormat));
  TERN_TRY(read_client_, database_->prepare("SELECT sha256, state FROM clients WHERE client = ?"));
  TERN_TRY(write_client_, database_->prepare("INSERT OR REPLACE INTO clients VALUES(?, ?, ?)"));
  TERN_TRY(SqliteStatement all, database_->prepare("SELECT client, sha256 FROM clients"));
  for (;;) {
    TERN_TRY(const bool row, all.step());
    if (!row) return {};
    clients_[static_cast<uint32_t>(all.integer(0))] = beginning(all.bytes(1));
  }
}

Status CheckpointFile::begin() {
  if (!database_) TERN_CHECK_OK(open_database());
  if (!in_transaction_) TERN_CHECK_OK(database_->run("BEGIN IMMEDIATE"));
  in_transaction_ = true;
  return {};
}

uint64_t CheckpointFile::sum_of_clients() const {
  uint64_t sum = 0;
  for (const auto& [client, digest] : clients_) sum += mix(client, digest);
  return sum;
}

Result<std::optional<Checkpoint>> CheckpointFile::read() {
  if (!database_) return std::nullopt;
  const auto damaged = [&](std::string_view what) {
    return Status(Code::kCorrupt, fmt::format("the checkpoint {}", what), {.file = path_});
  };
  TERN_TRY(SqliteStatement pieces,
           database_->prepare("SELECT piece, sha256, content FROM checkpoint ORDER BY piece"));
  std::vector<std::byte> content;
  bool any = false;
  for (;;) {
    TERN_TRY(const bool row, pieces.step());
    if (!row) break;
    any = true;
    const auto bytes = pieces.bytes(2);
    if (!std::ranges::equal(pieces.bytes(1), digest_of(pieces.integer(0), bytes)))
      return damaged("is damaged: its SHA-256 doesn't fit");
    content.insert(content.end(), bytes.begin(), bytes.end());
  }
  if (!any) return std::nullopt;
  try {
    uint64_t clients = 0, clients_sum = 0;
    Result<Checkpoint> checkpoint = parse(content, clients, clients_sum);
    if (!checkpoint) return damaged(checkpoint.error().message());
    if (clients != clients_.size() || clients_sum != sum_of_clients())
      return damaged("has other clients than were saved with it");
    return *std::move(checkpoint);
  } catch (const nlohmann::json::exception& problem) {
    return damaged(fmt::format("can't be read: {}", problem.what()));
  }
}

Status CheckpointFile::save(const Checkpoint& checkpoint) {
  TERN_CHECK_OK(begin());
  TERN_CHECK_OK(database_->run("DELETE FROM checkpoint"));
  Writer writer(*database_);
  TERN_CHECK_OK(write(writer, checkpoint, clients_.size(), sum_of_clients()));
  TERN_CHECK_OK(database_->run("COMMIT"));
  in_transaction_ = false;
  return {};
}

Result<std::vector<std::byte>> CheckpointFile::client(uint32_t client) {
  if (!clients_.contains(client)) return std::vector<std::byte>();
  TERN_TRY(const bool found, read_client_->bind(1, client).step());
  const auto state = found ? read_client_->bytes(1) : std::span<const std::byte>();
  const bool whole = found && std::ranges::equal(read_client_->bytes(0), digest_of(client, state));
  std::vector<std::byte> bytes(state.begin(), state.end());
  read_client_->reset();
  if (!whole)
    return Status(Code::kCorrupt, fmt::format("what client {} remembers is damaged", client),
                  {.file = path_});
  return bytes;
}

Status CheckpointFile::put_client(uint32_t client, std::span<const std::byte> state) {
  TERN_CHECK_OK(begin());
  const Digest digest = digest_of(client, state);
  write_client_->bind(1, client).bind(2, digest).bind(3, state);
  TERN_TRY([[maybe_unused]] const bool row, write_client_->step());
  clients_[client] = beginning(digest);
  return {};
}

}  // namespace tern
