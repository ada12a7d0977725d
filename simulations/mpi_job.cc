#include "simulations/mpi_job.h"

#include <cstdlib>

#ifdef TERN_WITH_MPI
#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "base/append_bytes.h"
#include "base/version.h"
#include "config/load.h"
#include "learning/blas.h"
#include "simulations/remote_place.h"
#endif

namespace tern {

namespace {

bool started_by_mpirun() {
  const auto is_set = [](const char* name) { return std::getenv(name) != nullptr; };
  return is_set("OMPI_COMM_WORLD_SIZE") || is_set("PMI_RANK") || is_set("PMIX_RANK");
}

}  // namespace

#ifndef TERN_WITH_MPI

Result<std::unique_ptr<MpiJob>> MpiJob::join() {
  if (!started_by_mpirun()) return nullptr;
  return error(Code::kUnsupported,
               "mpirun started this program, but it was built without MPI: install libopenmpi-dev "
               "and build again");
}

#else

namespace {

/// An int counts the bytes of a message.
constexpr size_t kChunkBytes = size_t{1} << 30;
/// Between looks at whether a message has come: at first, and at most. MPI itself would wait with a
/// core of its own.
constexpr auto kFirstLook = std::chrono::microseconds(20),
               kLastLook = std::chrono::microseconds(500);

/// Between two processes; messages of different tags don't meet.
class MpiChannel : public WorkChannel {
 public:
  MpiChannel(int rank, int tag) : rank_(rank), tag_(tag) {}

  Status send(std::span<const std::byte> message) override {
    const auto length = uint64_t{message.size()};
    MPI_Send(&length, sizeof length, MPI_BYTE, rank_, tag_, MPI_COMM_WORLD);
    for (; !message.empty(); message = message.subspan(std::min(message.size(), kChunkBytes)))
      MPI_Send(message.data(), static_cast<int>(std::min(message.size(), kChunkBytes)), MPI_BYTE,
               rank_, tag_, MPI_COMM_WORLD);
    return {};  // MPI ends the program when the other one is gone
  }
  Result<std::vector<std::byte>> receive() override {
    uint64_t length = 0;
    receive_into(std::as_writable_bytes(std::span(&length, 1)));
    std::vector<std::byte> message(length);
    for (size_t at = 0; at < length; at += kChunkBytes)
      receive_into(std::span(message).subspan(at, std::min<size_t>(length - at, kChunkBytes)));
    return message;
  }

 private:
  void receive_into(std::span<std::byte> bytes) {
    int there = 0;
    MPI_Message message;
    for (auto pause = kFirstLook; there == 0;) {
      MPI_Improbe(rank_, tag_, MPI_COMM_WORLD, &there, &message, MPI_STATUS_IGNORE);
      if (there != 0) break;
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, kLastLook);
    }
    MPI_Mrecv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, &message, MPI_STATUS_IGNORE);
  }

  const int rank_, tag_;
};

constexpr int kSetupTag = 0;  // the workers' are behind it

/// What a process says of itself once it has prepared a scenario.
struct Introduction {
  Status status;
  uint32_t workers = 0;
  std::string input_sha256;
  std::string program;  ///< what the bits of training depend on
  std::string host;
};

std::string program_description() {
  return fmt::format("tern {}, {}, LibTorch {}", kVersion, blas_description(), libtorch_version());
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

Status send_text(MpiChannel& channel, std::string_view text) {
  return channel.send(std::as_bytes(std::span(text)));
}
Result<std::string> receive_text(MpiChannel& channel) {
  TERN_TRY(const std::vector<std::byte> bytes, channel.receive());
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

class Job : public MpiJob {
 public:
  Job() {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    MPI_Comm same_machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &same_machine);
    MPI_Comm_size(same_machine, &here_);
    MPI_Comm_free(&same_machine);
  }
  ~Job() override {
    for (int other = 1; leads() && other < size_; ++other) {
      MpiChannel channel(other, kSetupTag);
      (void)send_text(channel, "");
    }
    MPI_Finalize();
  }

  bool leads() const override { return rank_ == 0; }
  size_t here() const override { return static_cast<size_t>(here_); }
  void end_all() override { MPI_Abort(MPI_COMM_WORLD, 1); }

  Result<std::vector<std::shared_ptr<WorkPlace>>> open(const PreparedScenario& prepared,
                                                       std::string& warning) override {
    const std::string text = print_scenario(prepared.scenario);
    for (int other = 1; other < size_; ++other) {
      MpiChannel channel(other, kSetupTag);
      TERN_CHECK_OK(send_text(channel, text));
    }
    std::vector<uint32_t> workers;  // of each of the others
    Status status;
    const std::string input = size_ > 1 ? input_sha256(prepared) : "";
    for (int other = 1; other < size_; ++other) {
      MpiChannel channel(other, kSetupTag);
      TERN_TRY(Introduction its, receive_introduction(channel));
      const std::string name = fmt::format("rank {} on {}", other, its.host);
      if (its.status.ok() && its.input_sha256 != input)
        its.status = Status(Code::kInvalidArgument, "its data are not those of rank 0",
                            {.key = "data.path"});
      if (!its.status.ok() && status.ok()) status = std::move(its.status).within(name);
      if (its.program != program_description() && warning.empty())
        warning = fmt::format(
            "{} computes with {}, rank 0 with {}: the model's bits depend on who "
            "trains whom",
            name, its.program, program_description());
      workers.push_back(its.workers);
    }
    for (int other = 1; other < size_; ++other) {
      MpiChannel channel(other, kSetupTag);
      TERN_CHECK_OK(send_text(channel, status.ok() ? "begin" : "wait"));
    }
    if (!status.ok()) return status;
    std::vector<std::shared_ptr<WorkPlace>> places;
    for (int other = 1; other < size_; ++other)
      for (uint32_t worker = 0; worker < workers[static_cast<size_t>(other - 1)]; ++worker)
        places.push_back(std::make_shared<RemotePlace>(
            std::make_unique<MpiChannel>(other, kSetupTag + 1 + static_cast<int>(worker)),
            prepared.data->schema.elements()));
    return places;
  }

  Status serve(size_t workers, const std::function<void(const Status&)>& broken) override {
    MpiChannel setup(0, kSetupTag);
    for (;;) {
      TERN_TRY(const std::string text, receive_text(setup));
      if (text.empty()) return {};
      Introduction self{.program = program_description(), .host = host_name()};
      self.workers = static_cast<uint32_t>(workers);
      std::vector<std::unique_ptr<LocalPlace>> places;
      size_t elements = 0;
      self.status = [&]() -> Status {
        TERN_TRY(const Scenario scenario, parse_scenario(text, "the scenario of rank 0"));
        TERN_TRY(const PreparedScenario prepared, prepare(scenario));
        elements = prepared.data->schema.elements();
        self.input_sha256 = input_sha256(prepared);
        while (places.size() < workers) {
          TERN_TRY(std::unique_ptr<LocalPlace> place, LocalPlace::make(prepared.data));
          places.push_back(std::move(place));
        }
        return {};
      }();
      TERN_CHECK_OK(send_introduction(setup, self));
      TERN_TRY(const std::string word, receive_text(setup));
      if (word != "begin") continue;
      std::vector<std::jthread> threads;
      for (size_t i = 0; i < places.size(); ++i)
        threads.emplace_back([&, i] {
          MpiChannel channel(0, kSetupTag + 1 + static_cast<int>(i));
          if (const Status end = serve_work(channel, *places[i], elements); !end.ok()) broken(end);
        });
    }
  }

 private:
  static Status send_introduction(MpiChannel& channel, const Introduction& self) {
    std::vector<std::byte> bytes;
    append(bytes, self.status.code());
    append(bytes, self.workers);
    const std::string reason = self.status.ok() ? "" : self.status.describe();
    for (const std::string* text : {&reason, &self.input_sha256, &self.program, &self.host})
      append_array(bytes, std::span<const char>(*text));
    return channel.send(bytes);
  }
  static Result<Introduction> receive_introduction(MpiChannel& channel) {
    TERN_TRY(const std::vector<std::byte> bytes, channel.receive());
    ByteReader reader(bytes);
    const auto code = reader.take<Code>();
    Introduction its;
    its.workers = reader.take<uint32_t>();
    std::array<std::vector<char>, 4> texts;
    for (std::vector<char>& text : texts)
      if (!take_array(reader, reader.left(), text))
        return error(Code::kCorrupt, "what another process says of itself can't be read");
    const auto string_of = [](const std::vector<char>& text) {
      return std::string(text.begin(), text.end());
    };
    if (code != Code::kOk) its.status = Status(code, string_of(texts[0]));
    its.input_sha256 = string_of(texts[1]);
    its.program = string_of(texts[2]);
    its.host = string_of(texts[3]);
    return its;
  }

  int rank_ = 0, size_ = 1, here_ = 1;
};

}  // namespace

Result<std::unique_ptr<MpiJob>> MpiJob::join() {
  if (!started_by_mpirun()) return nullptr;
  int provided = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided);
  if (provided < MPI_THREAD_MULTIPLE) {
    MPI_Finalize();
    return error(Code::kUnsupported, "this MPI library can't be called by several threads");
  }
  return std::make_unique<Job>();
}

#endif

}  // namespace tern
