#include "coordinator/run_records.h"

#include <cstring>

#include "base/bytes.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

constexpr size_t kLengthBytes = 4;

// ---- Numbers and arrays that JSON has no form for

Digest digest_from(const std::string& hex) {
  Digest digest{};
  if (hex.size() != 2 * digest.size()) throw std::invalid_argument("a hash of another length");
  for (size_t i = 0; i < digest.size(); ++i)
    digest[i] = static_cast<std::byte>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  return digest;
}

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

/// The bytes behind a record's JSON.
struct Behind {
  std::span<const std::byte> bytes;
  const MappedFile* file = nullptr;  // that they are in, if any
};

/// Takes arrays off the front of bytes; a file's don't stay in memory.
class ArrayReader {
 public:
  explicit ArrayReader(const Behind& behind) : reader_(behind.bytes), file_(behind.file) {}
  template <typename T>
  std::vector<T> take(const ordered_json& length) {
    const auto count = length.get<size_t>();
    if (count > reader_.left() / sizeof(T)) throw std::length_error("an array ends early");
    std::vector<T> values(count);
    const auto bytes = reader_.take_bytes(count * sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    if (file_ != nullptr) file_->release();
    return values;
  }
  SharedFloats take_floats(const ordered_json& length) {
    return std::make_shared<const std::vector<float>>(take<float>(length));
  }
  size_t left() const { return reader_.left(); }

 private:
  ByteReader reader_;
  const MappedFile* file_;
};

// ---- Each record as JSON and the bytes behind it

struct Packed {
  uint32_t round = 0;
  ordered_json json;
  std::vector<std::span<const std::byte>> bytes{};  // the record's

  size_t length() const {
    size_t sum = 0;
    for (const auto& piece : bytes) sum += piece.size();
    return sum;
  }
};

ordered_json to_json(const RunOrigin& origin) {
  return {{"run_id", origin.run_id},
          {"config_sha256", origin.config_sha256},
          {"schema_hash", origin.schema_hash},
          {"clients", origin.clients},
          {"start_sha256", to_hex(origin.start_sha256)}};
}

RunOrigin origin_from(const ordered_json& json) {
  return {.run_id = json.at("run_id"),
          .config_sha256 = json.at("config_sha256"),
          .schema_hash = json.at("schema_hash"),
          .clients = json.at("clients"),
          .start_sha256 = digest_from(json.at("start_sha256"))};
}

Packed pack(const RunOrigin& origin) { return {0, to_json(origin)}; }

Packed pack(const RoundRecord& record) {
  ordered_json json{{"version", record.version},
                    {"largest_examples", record.largest_examples},
                    {"chains", record.chains},
                    {"asked", ordered_json::array()}};
  for (const RoundRecord::Asked& asked : record.asked)
    json["asked"].push_back({asked.client, asked.chain, asked.nmse});
  return {record.round, std::move(json)};
}

Packed pack(const UpdateRecord& record) {
  const TrainReport& report = record.message.report;
  return {record.round,
          {{"client", record.message.client},
           {"task", record.message.task},
           {"version", record.version},
           {"weight", record.weight},
           {"seconds", record.seconds ? ordered_json(*record.seconds) : ordered_json(nullptr)},
           {"examples", report.examples},
           {"samples_trained", report.samples_trained},
           {"steps", report.steps},
           {"mean_loss", report.mean_loss}},
          record.transfer ? std::vector{bytes_of(*record.transfer)}
                          : std::vector<std::span<const std::byte>>()};
}

Packed pack(const RefusedRecord& record) {
  return {record.round,
          {{"client", record.client}, {"task", record.task}, {"reason", record.reason}},
          {}};
}

Packed pack(const ClosedRecord& record) {
  return {record.round,
          {{"counted", record.counted}, {"void", record.is_void}, {"late", record.late}}};
}

Packed pack(const VersionRecord& record) {
  return {record.round, {{"version", record.version}, {"sha256", to_hex(record.sha256)}}};
}

Packed pack(const EndedRecord& record) { return {record.round, {{"notes", record.notes}}}; }

Packed pack(const StateRecord& record) {
  const CoordinatorState& state = record.state;
  Packed packed{.round = state.round, .json = {}, .bytes = {}};
  const auto add = [&](const auto& values) {
    packed.bytes.push_back(bytes_of(values));
    return values.size();
  };
  packed.json = {{"origin", to_json(record.origin)},
                 {"notes", record.notes},
                 {"version", state.model.version},
                 {"parent_sha256", to_hex(state.parent_sha256)},
                 {"largest_examples", state.largest_examples}};
  packed.json["parameters"] = add(*state.model.parameters);
  packed.json["residual"] = add(*state.model.residual);
  packed.json["momentum"] = add(state.optimizer.momentum);
  if (state.optimizer.steps > 0) {
    packed.json["steps"] = state.optimizer.steps;
    packed.json["lag"] = add(state.optimizer.lag);
  }
  packed.json["estimate"] = add(state.optimizer.estimate);
  packed.json["estimate_weights"] = state.optimizer.estimate_weights;
  // JSON brings a double back to the last bit.
  packed.json["rate"] = {{"bytes", state.rate.bytes},
                         {"nmse", state.rate.nmse},
                         {"square_moves", state.rate.square_norms}};
  packed.json["experiences"] = to_json(state.experiences);
  packed.json["bases"] = packed.json["frames"] = ordered_json::array();
  for (const auto& [version, base] : state.model.bases)
    packed.json["bases"].push_back({version, add(*base)});
  for (const auto& [version, frame] : state.model.frames)
    packed.json["frames"].push_back({version, add(*frame)});
  packed.json["fates"] = ordered_json::array();
  for (const auto& [client, last] : record.fates)
    packed.json["fates"].push_back({client, last.task, static_cast<int>(last.fate)});
  if (record.open.empty()) return packed;
  packed.json["open"] = ordered_json::array();
  for (const auto& [client, open] : record.open)
    packed.json["open"].push_back({client, open.task, open.round, open.version});
  return packed;
}

Packed pack(const AskedRecord& record) { return {record.round, {{"client", record.client}}}; }

RunRecord unpack(uint32_t kind, uint32_t round, const ordered_json& json, const Behind& behind) {
  switch (kind) {
    case 1:
      return origin_from(json);
    case 2: {
      RoundRecord record{.round = round,
                         .version = json.at("version"),
                         .largest_examples = json.at("largest_examples"),
                         .chains = json.at("chains")};
      for (const auto& asked : json.at("asked"))
        record.asked.push_back({asked.at(0), asked.at(1), asked.at(2)});
      return record;
    }
    case 3:
      return UpdateRecord{
          .round = round,
          .version = json.at("version"),
          .weight = json.at("weight"),
          .seconds = json.at("seconds").is_null() ? std::nullopt
                                                  : std::optional(json.at("seconds").get<double>()),
          .message = {.task = json.at("task"),
                      .client = json.at("client"),
                      .report = {.examples = json.at("examples"),
                                 .samples_trained = json.at("samples_trained"),
                                 .steps = json.at("steps"),
                                 .mean_loss = json.at("mean_loss")}},
          .transfer = std::make_shared<const Bytes>(behind.bytes.begin(), behind.bytes.end()),
          .blob = nullptr};
    case 4:
      return RefusedRecord{.round = round,
                           .client = json.at("client"),
                           .task = json.at("task"),
                           .reason = json.at("reason")};
    case 5:
      return ClosedRecord{.round = round,
                          .counted = json.at("counted"),
                          .is_void = json.at("void"),
                          .late = json.at("late")};
    case 6:
      return VersionRecord{
          .round = round, .version = json.at("version"), .sha256 = digest_from(json.at("sha256"))};
    case 7:
      return EndedRecord{.round = round, .notes = json.at("notes")};
    case kStateKind: {
      StateRecord record{.origin = origin_from(json.at("origin")), .notes = json.at("notes")};
      ArrayReader arrays(behind);
      CoordinatorState& state = record.state;
      state.round = round;
      state.parent_sha256 = digest_from(json.at("parent_sha256"));
      state.largest_examples = json.at("largest_examples");
      state.model.version = json.at("version");
      state.model.parameters = arrays.take_floats(json.at("parameters"));
      state.model.residual = arrays.take_floats(json.at("residual"));
      state.optimizer.momentum = arrays.take<float>(json.at("momentum"));
      if (json.contains("lag")) {
        state.optimizer.steps = json.at("steps");
        state.optimizer.lag = arrays.take<float>(json.at("lag"));
      }
      state.optimizer.estimate = arrays.take<double>(json.at("estimate"));
      state.optimizer.estimate_weights = json.at("estimate_weights");
      const auto& rate = json.at("rate");
      state.rate = {.bytes = rate.at("bytes"),
                    .nmse = rate.at("nmse"),
                    .square_norms = rate.value("square_moves", std::map<uint32_t, double>())};
      state.experiences = experiences_from_json(json.at("experiences"));
      for (const auto& base : json.at("bases"))
        state.model.bases[base.at(0)] = arrays.take_floats(base.at(1));
      for (const auto& frame : json.at("frames"))
        state.model.frames[frame.at(0)] =
            std::make_shared<const Bytes>(arrays.take<std::byte>(frame.at(1)));
      for (const auto& last : json.at("fates"))
        record.fates[last.at(0)] = {last.at(1), static_cast<Fate>(last.at(2).get<uint8_t>())};
      if (json.contains("open"))
        for (const auto& open : json.at("open"))
          record.open[open.at(0)] = {
              .task = open.at(1), .round = open.at(2), .version = open.at(3)};
      if (arrays.left() != 0) throw std::length_error("bytes are left over");
      return record;
    }
    case 9:
      return AskedRecord{.round = round, .client = json.at("client")};
    default:
      throw std::invalid_argument(fmt::format("no record has the kind {}", kind));
  }
}

struct Opened {
  ordered_json json;
  std::span<const std::byte> bytes;
};

/// Throws what nlohmann::json throws, too.
Opened open_body(std::span<const std::byte> body) {
  if (body.size() < kLengthBytes) throw std::length_error("it is cut off");
  const size_t length = load<uint32_t>(body.data());
  if (length > body.size() - kLengthBytes) throw std::length_error("it is cut off");
  const auto* text = reinterpret_cast<const char*>(body.data()) + kLengthBytes;
  return {ordered_json::parse(text, text + length), body.subspan(kLengthBytes + length)};
}

Status unreadable(const JournalRecord& row, const std::exception& problem) {
  return error(Code::kCorrupt, "the record of kind {} in round {} can't be read: {}", row.kind,
               row.round, problem.what());
}

/// The blob of a record's bytes, if they are in one.
Result<std::optional<Digest>> keep_blob(Journal& journal, const RunRecord& record,
                                        const Packed& packed) {
  if (const auto* update = std::get_if<UpdateRecord>(&record); update && update->blob) {
    TERN_TRY(const Digest digest, update->blob->keep());
    return digest;
  }
  if (packed.length() <= kInlineBytes) return std::nullopt;
  if (packed.bytes.size() == 1) {
    TERN_TRY(const Digest digest, journal.blobs().put(packed.bytes.front()));
    return digest;
  }
  TERN_TRY(BlobWriter blob, journal.blobs().begin());
  for (const auto& piece : packed.bytes) TERN_CHECK_OK(blob.append(piece));
  TERN_TRY(const Digest digest, blob.keep());
  return digest;
}

}  // namespace

Result<std::vector<std::optional<Digest>>> append_records(Journal& journal,
                                                          const std::vector<RunRecord>& records) {
  std::vector<Bytes> bodies;
  std::vector<JournalRecord> rows;
  std::vector<std::optional<Digest>> blobs;
  bodies.reserve(records.size());
  rows.reserve(records.size());
  blobs.reserve(records.size());
  for (const RunRecord& record : records) {
    Packed packed = std::visit([](const auto& r) { return pack(r); }, record);
    TERN_TRY(const std::optional<Digest> blob, keep_blob(journal, record, packed));
    blobs.push_back(blob);
    if (blob) packed.json["blob"] = to_hex(*blob);
    const std::string text = packed.json.dump();
    Bytes& body = bodies.emplace_back(kLengthBytes + text.size());
    store(body.data(), static_cast<uint32_t>(text.size()));
    std::memcpy(body.data() + kLengthBytes, text.data(), text.size());
    if (!blob)
      for (const auto& piece : packed.bytes) body.insert(body.end(), piece.begin(), piece.end());
    rows.push_back(
        {.kind = static_cast<uint32_t>(record.index() + 1), .round = packed.round, .body = body});
  }
  TERN_TRY([[maybe_unused]] const uint64_t last, journal.append(rows));
  return blobs;
}

Result<RunRecord> parse_record(const JournalRecord& row, const BlobStore& blobs) {
  try {
    const Opened opened = open_body(row.body);
    if (!opened.json.contains("blob"))
      return unpack(row.kind, row.round, opened.json, {.bytes = opened.bytes});
    TERN_TRY(const MappedFile blob, blobs.get(digest_from(opened.json.at("blob"))));
    return unpack(row.kind, row.round, opened.json, {.bytes = blob.bytes(), .file = &blob});
  } catch (const std::exception& problem) {
    return unreadable(row, problem);
  }
}

Result<std::optional<Digest>> blob_of(const JournalRecord& row) {
  try {
    const Opened opened = open_body(row.body);
    if (!opened.json.contains("blob")) return std::nullopt;
    return digest_from(opened.json.at("blob"));
  } catch (const std::exception& problem) {
    return unreadable(row, problem);
  }
}

}  // namespace tern
