#include "simulations/remote_place.h"

#include <algorithm>
#include <utility>

#include "base/append_bytes.h"
#include "client/client_state_bytes.h"

namespace tern {

namespace {

/// Tasks begin from the newest version and, where clients are late, from a few before it.
constexpr size_t kRemoteModelsKept = 4;

enum class Request : uint8_t { kModel, kTrain, kEncode, kEvaluate, kEnd };

std::vector<std::byte> begin(Request request) {
  std::vector<std::byte> message;
  append(message, request);
  return message;
}

void append_text(std::vector<std::byte>& to, std::string_view text) {
  append_array(to, std::span<const char>(text));
}

/// As long as the message says: this end trusts the other one with its memory.
template <typename T>
bool take_any(ByteReader& reader, std::vector<T>& values) {
  return take_array(reader, reader.left() / sizeof(T), values);
}

bool take_text(ByteReader& reader, std::string& text) {
  std::vector<char> characters;
  if (!take_any(reader, characters)) return false;
  text.assign(characters.begin(), characters.end());
  return true;
}

Status unreadable() {
  return error(Code::kCorrupt, "a message between the processes of this job can't be read");
}

// A reply begins with how it went.
std::vector<std::byte> begin_reply(const Status& status) {
  std::vector<std::byte> reply;
  append(reply, status.code());
  append_text(reply, status.message());
  append_text(reply, status.where().file);
  append(reply, status.where().line);
  append_text(reply, status.where().key);
  return reply;
}

Status take_status(ByteReader& reader) {
  const auto code = reader.take<Code>();
  std::string message;
  Where where;
  if (!take_text(reader, message) || !take_text(reader, where.file)) return unreadable();
  where.line = reader.take<int>();
  if (!take_text(reader, where.key)) return unreadable();
  return code == Code::kOk ? Status() : Status(code, std::move(message), std::move(where));
}

}  // namespace

RemotePlace::~RemotePlace() { (void)channel_->send(begin(Request::kEnd)); }

Result<std::vector<std::byte>> RemotePlace::ask(std::span<const std::byte> request) {
  TERN_CHECK_OK(channel_->send(request));
  return channel_->receive();
}

Status RemotePlace::bring(const ModelView& model) {
  if (std::ranges::find(there_, model.sha256) != there_.end()) return {};
  std::vector<std::byte> message = begin(Request::kModel);
  append(message, model.sha256);
  append_array(message, model.parameters);
  TERN_CHECK_OK(channel_->send(message));
  there_.push_back(model.sha256);
  if (there_.size() > kRemoteModelsKept) there_.pop_front();
  return {};
}

Result<TrainReport> RemotePlace::train(const TrainTask& task, const ModelView& base) {
  TERN_CHECK_OK(bring(base));
  std::vector<std::byte> request = begin(Request::kTrain);
  append(request, base.sha256);
  append(request, task);
  TERN_TRY(const std::vector<std::byte> bytes, ask(request));
  ByteReader reply(bytes);
  TERN_CHECK_OK(take_status(reply));
  const auto report = reply.take<TrainReport>();
  if (!reply.ok()) return unreadable();
  return report;
}

Result<PendingUpdate> RemotePlace::encode(const Codec& codec, const FrameMeta& meta,
                                          const SenderMemory& memory, ResidualStore store) {
  std::vector<std::byte> request = begin(Request::kEncode);
  append_text(request, codec.spec());
  append(request, meta);
  append(request, store);
  append_memory(request, memory);
  TERN_TRY(const std::vector<std::byte> bytes, ask(request));
  ByteReader reply(bytes);
  TERN_CHECK_OK(take_status(reply));
  PendingUpdate pending;
  if (!take_any(reply, pending.frame) || !take_memory(reply, elements_, pending.next))
    return unreadable();
  return pending;
}

Result<EvaluationPart> RemotePlace::evaluate(const ModelView& model, size_t part) {
  TERN_CHECK_OK(bring(model));
  std::vector<std::byte> request = begin(Request::kEvaluate);
  append(request, model.sha256);
  append(request, uint64_t{part});
  TERN_TRY(const std::vector<std::byte> bytes, ask(request));
  ByteReader reply(bytes);
  TERN_CHECK_OK(take_status(reply));
  EvaluationPart result;
  if (!take_any(reply, result.predicted) || !take_any(reply, result.loss)) return unreadable();
  return result;
}

namespace {

class Server {
 public:
  Server(WorkPlace& place, size_t elements) : place_(place), elements_(elements) {}

  /// Nothing for a request that has no answer.
  Result<std::vector<std::byte>> answer(Request request, ByteReader& reader) {
    if (request == Request::kModel) return keep(reader);
    if (request == Request::kTrain) return train(reader);
    if (request == Request::kEncode) return encode(reader);
    if (request == Request::kEvaluate) return evaluate(reader);
    return unreadable();
  }

 private:
  struct Kept {
    Digest sha256{};
    std::vector<float> parameters;
  };

  Result<std::vector<std::byte>> keep(ByteReader& reader) {
    if (models_.size() == kRemoteModelsKept) models_.pop_front();
    Kept& model = models_.emplace_back();
    model.sha256 = reader.take<Digest>();
    if (!take_any(reader, model.parameters)) return unreadable();
    return std::vector<std::byte>();
  }
  Result<ModelView> find(ByteReader& reader) const {
    const auto found = std::ranges::find(models_, reader.take<Digest>(), &Kept::sha256);
    if (found == models_.end()) return unreadable();
    return ModelView{found->parameters, found->sha256};
  }
  Result<std::vector<std::byte>> train(ByteReader& reader) {
    TERN_TRY(const ModelView base, find(reader));
    const auto task = reader.take<TrainTask>();
    if (!reader.ok()) return unreadable();
    const Result<TrainReport> report = place_.train(task, base);
    std::vector<std::byte> reply = begin_reply(report ? Status() : report.error());
    if (report) append(reply, *report);
    return reply;
  }
  Result<std::vector<std::byte>> encode(ByteReader& reader) {
    std::string spec;
    SenderMemory memory;
    if (!take_text(reader, spec)) return unreadable();
    const auto meta = reader.take<FrameMeta>();
    const auto store = reader.take<ResidualStore>();
    if (!take_memory(reader, elements_, memory)) return unreadable();
    TERN_TRY(const Codec codec, Codec::parse(spec));
    const Result<PendingUpdate> pending = place_.encode(codec, meta, memory, store);
    std::vector<std::byte> reply = begin_reply(pending ? Status() : pending.error());
    if (!pending) return reply;
    append_array<std::byte>(reply, pending->frame);
    append_memory(reply, pending->next);
    return reply;
  }
  Result<std::vector<std::byte>> evaluate(ByteReader& reader) {
    TERN_TRY(const ModelView model, find(reader));
    const auto part = reader.take<uint64_t>();
    if (!reader.ok()) return unreadable();
    const Result<EvaluationPart> result = place_.evaluate(model, part);
    std::vector<std::byte> reply = begin_reply(result ? Status() : result.error());
    if (!result) return reply;
    append_array<uint32_t>(reply, result->predicted);
    append_array<float>(reply, result->loss);
    return reply;
  }

  WorkPlace& place_;
  const size_t elements_;
  std::deque<Kept> models_;
};

}  // namespace

Status serve_work(WorkChannel& channel, WorkPlace& place, size_t elements) {
  Server server(place, elements);
  for (;;) {
    TERN_TRY(const std::vector<std::byte> bytes, channel.receive());
    ByteReader reader(bytes);
    const auto request = reader.take<Request>();
    if (request == Request::kEnd) return {};
    TERN_TRY(const std::vector<std::byte> reply, server.answer(request, reader));
    if (!reply.empty()) TERN_CHECK_OK(channel.send(reply));
  }
}

}  // namespace tern
