#include "client/daemon/client_daemon.h"

#include <asio/signal_set.hpp>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <optional>

#include "base/bytes.h"
#include "base/durable_file.h"
#include "base/thread_pool.h"
#include "client/client_session.h"
#include "client/device_work.h"
#include "client/file_client_store.h"
#include "config/deployment.h"
#include "config/model_card.h"
#include "learning/blas.h"
#include "learning/deal.h"
#include "learning/script_file.h"
#include "learning/torch_evaluator.h"
#include "learning/torch_trainer.h"
#include "proto/net/asio_loop.h"
#include "proto/net/zmq_client.h"

namespace tern {

namespace {

constexpr size_t kMaxKeyFile = 4096;

Status at_key(Status status, const char* key) { return std::move(status).at({.key = key}); }

/// client.server_key is the coordinator's public line or a file that holds it, which is relative to
/// the scenario's, as all files there are.
Result<PublicKey> server_key(const std::string& text, const std::string& scenario_file) {
  if (text.starts_with(kPublicKeyPrefix)) {
    Result<PublicKey> key = parse_public_key(text);
    if (!key) return at_key(std::move(key).error(), "client.server_key");
    return key;
  }
  const std::string path = (std::filesystem::path(scenario_file).parent_path() / text).string();
  const Result<std::vector<std::byte>> file = read_file(path, kMaxKeyFile);
  if (!file) return at_key(file.error(), "client.server_key");
  std::string line(reinterpret_cast<const char*>(file->data()), file->size());
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r' || line.back() == ' '))
    line.pop_back();
  Result<PublicKey> key = parse_public_key(line);
  if (!key) return Status(key.error()).at({.file = path, .line = 1});
  return key;
}

/// A device's data: read at the start, cut down to its own share once its number is known.
class Examples {
 public:
  Examples(Scenario scenario, bool evaluator)
      : scenario_(std::move(scenario)), evaluator_(evaluator) {}

  Result<ParameterSchema> read() {
    TERN_TRY(bundle_, load_data(scenario_.data, scenario_.seed));
    return trained_schema(scenario_.model, bundle_->shape);
  }

  Result<DeviceData> share_of(const Welcome& welcome) {
    if (!bundle_) {
      TERN_TRY(bundle_, load_data(scenario_.data, scenario_.seed));
    }
    const DataBundle data = *std::exchange(bundle_, std::nullopt);
    std::vector<uint32_t> train, test;
    if (evaluator_ || scenario_.client.examples == "all") {
      for (uint32_t i = 0; !evaluator_ && i < data.train.examples(); ++i) train.push_back(i);
      for (uint32_t i = 0; i < data.test.examples(); ++i) test.push_back(i);
    } else {
      TERN_CHECK_OK(check_fleet(welcome));
      Scenario scenario = scenario_;
      if (scenario.fleet.clients == 0 && scenario.data.partition != "natural")
        scenario.fleet.clients = welcome.clients;
      TERN_TRY(Deal deal, deal_examples(scenario, data));
      if (welcome.client >= deal.train.clients())
        return at_key(error(Code::kInvalidArgument, "deals to {} clients, this is client {}",
                            deal.train.clients(), welcome.client),
                      "data.partition");
      train = deal.train.of(welcome.client);
      if (welcome.client < deal.test.clients()) test = deal.test.of(welcome.client);
    }
    TERN_TRY(const std::shared_ptr<const LearningData> own,
             own_share(scenario_.model, data, welcome.client, train, test));
    DeviceData device{.test_labels = own->data.test.labels,
                      .classes = static_cast<uint32_t>(data.shape.classes),
                      .examples = static_cast<uint32_t>(train.size())};
    if (!train.empty()) {
      TERN_TRY(device.trainer, make_trainer(own));
    }
    if (!test.empty()) {
      TERN_TRY(device.evaluator, make_evaluator(own));
    }
    return device;
  }

 private:
  /// With another seed or another number of clients the examples would be dealt in another way, and
  /// two clients could train on the same ones.
  Status check_fleet(const Welcome& welcome) const {
    if (welcome.seed != scenario_.seed)
      return at_key(error(Code::kInvalidArgument,
                          "is {} here, the coordinator's run has {}: the examples would be dealt "
                          "in another way",
                          scenario_.seed, welcome.seed),
                    "seed");
    if (scenario_.fleet.clients != 0 && scenario_.fleet.clients != welcome.clients)
      return at_key(error(Code::kInvalidArgument,
                          "is {} here, the coordinator's run has {}: the examples would be dealt "
                          "in another way",
                          scenario_.fleet.clients, welcome.clients),
                    "fleet.clients");
    if (welcome.partition != scenario_.data.partition)
      return at_key(error(Code::kInvalidArgument,
                          "is \"{}\" here, the coordinator's run has \"{}\": the examples would be "
                          "dealt in another way",
                          scenario_.data.partition, welcome.partition),
                    "data.partition");
    return {};
  }

  const Scenario scenario_;
  const bool evaluator_;
  std::optional<DataBundle> bundle_;
};

}  // namespace

Result<bool> run_client(const LoadedScenario& loaded, const ClientDaemonOptions& options,
                        EventSink& events) {
  Scenario scenario = loaded.scenario;
  TERN_CHECK_OK(check_client(scenario));
  if (!scenario.client.data_path.empty()) scenario.data.path = scenario.client.data_path;
  TERN_TRY(const SecretKey key, SecretKey::load(scenario.client.key));
  TERN_TRY(const PublicKey server, server_key(scenario.client.server_key, loaded.file));
  TERN_TRY(const FolderLock lock, FolderLock::acquire(scenario.client.state_dir));
  if (!make_math_serial()) events.on({"no_openblas", {}});
  Examples examples(scenario, options.evaluator);
  TERN_TRY(const ParameterSchema schema, examples.read());

  std::optional<Result<bool>> ended;
  DeviceWork work(schema, [&](const Welcome& welcome) { return examples.share_of(welcome); });
  TERN_TRY(FileClientStore store,
           FileClientStore::open(scenario.client.state_dir + "/client.state", schema.hash(),
                                 schema.elements(),
                                 [&]() -> const HeldModels& { return work.models(); }));
  work.keep_models(store.take_models());
  std::atomic<bool> working = false;
  auto pool = std::make_unique<ThreadPool>(
      1, ThreadPool::Hooks{.job_begins = [&](size_t) { working = true; },
                           .job_ended = [&](size_t) { working = false; }});
  AsioLoop loop(*pool);
  TERN_TRY(const std::unique_ptr<ZmqContext> context, ZmqContext::open());
  ZmqClient transport(loop, *context,
                      {.server = scenario.client.connect,
                       .server_key = server.curve,
                       .own = {key.public_key().curve, key.curve_secret()}});
  ClientSetup setup{.schema_hash = schema.hash(), .plans = std::make_shared<PlanCheck>(server)};
  if (scenario.client.give_up_after_seconds)
    setup.give_up_after = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(*scenario.client.give_up_after_seconds));
  setup.jitter_seed = tern::load<uint64_t>(key.public_key().curve.data());
  const std::unique_ptr<ClientSession> session = ClientSession::make(
      std::move(setup), loop, transport, work, store, events, [&](Status status) {
        ended = status.ok() ? Result<bool>(false) : Result<bool>(tl::unexpected(std::move(status)));
        loop.stop();
      });
  asio::signal_set signals(loop.context(), SIGTERM, SIGINT);
  signals.async_wait([&](const asio::error_code& failure, int number) {
    if (failure) return;
    signals.clear();  // the next one ends the program as usual
    events.on({"signal", {{"name", number == SIGTERM ? "SIGTERM" : "SIGINT"}}});
    session->stop();
    // Training can take hours, and nobody waits for it any more. What has to last is on the disk.
    if (working && options.end_now) options.end_now();
    ended = true;
    loop.stop();
  });
  session->start();
  if (!ended) loop.run();
  pool.reset();  // first: its job uses all the rest
  return *std::move(ended);
}

}  // namespace tern
