/// The one vocabulary of simulations and deployments: a TOML file as plain structs. Defaults are
/// those of the fields here. config/vocabulary.cc lists every key with its type, range and meaning;
/// nothing else knows the spelling of a key.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proto/training.h"

namespace tern {

struct DataConfig {
  std::string source;          ///< fashion-mnist | idx | cifar | leaf | text | csv
  std::string path;            ///< file (csv) or folder (the others); absolute after load
  std::string test_path;       ///< csv: a second file with the test examples
  std::string label;           ///< csv: the column that holds the class
  std::string client;          ///< csv: the column that holds the client, for partition = "natural"
  double test_fraction = 0.2;  ///< csv without test_path, text: kept for testing, per client
  uint32_t window = 80;        ///< text: characters of an example
  bool standardize = true;
  std::string
      partition;  ///< iid | shards:K | dirichlet:ALPHA | quantity:ALPHA | draw:N[:ALPHA] | natural
};

struct FleetConfig {
  uint32_t clients = 0;  ///< 0: not given (allowed with natural)
  uint32_t cohort = 0;
  std::string schedule = "synchronous";  ///< synchronous | late-credit | fedbuff
  std::string selection = "uniform";     ///< see selection_rule.h
  double over_select = 1.0;
  uint32_t max_staleness = 20;  ///< rounds that a task may outlive its own; not when synchronous
  uint32_t min_updates = 0;     ///< 0: not given; resolved to cohort
  std::optional<double> deadline_seconds = {};
  std::optional<double> deadline_quantile = {};  ///< of the fleet's known times; see selector.h
  uint32_t max_examples = 0;                     ///< that a client may hold; 0: not given
  std::string uplink;    ///< bytes a second that clients send; see rate_rule.h; empty: unknown
  std::string downlink;  ///< and receive, in a simulation
  std::string speed;     ///< samples a second that they train on, in a simulation
  std::optional<double> round_trip_seconds = {};  ///< in a simulation
  double drop_out = 0;                            ///< share of tasks, in a simulation
  std::string devices;       ///< file of what each device does, in a simulation; device_traces.h
  std::string availability;  ///< file of when it can be asked, likewise

  /// Updates count in whatever round they arrive in.
  bool asynchronous() const { return schedule != "synchronous"; }
  /// Whose examples decide how often it is asked mustn't weigh by them as well.
  bool equal_weights() const { return selection == "weighted"; }
};

/// Clients that a round asks: over_select x cohort, rounded up. A product that is whole but for
/// rounding (1.1 x 10 in binary is a little over 11) counts as whole. At most 2^53.
inline uint64_t clients_asked(const FleetConfig& fleet) {
  const double asked = std::ceil(fleet.over_select * fleet.cohort * (1 - 1e-12));
  return static_cast<uint64_t>(std::fmin(asked, 0x1p53));
}

struct ModelConfig {
  std::string name;      ///< logistic | mlp-2nn | cnn | torchscript
  std::string script;    ///< a TorchScript file, of torchscript
  std::string initial;   ///< a .safetensors file; empty: computed from the seed
  std::string input;     ///< shape of one example, such as 1x28x28; empty: the data tell
  uint32_t classes = 0;  ///< 0: the data tell
};

struct StrategyConfig {
  std::string name = "fedavg";
  double server_learning_rate = 1.0;
  double server_momentum = 0.0;
  uint32_t server_average_every = 0;  ///< versions; 0: never
  double norm_bound = 1024.0;
  double staleness_exponent = 0.5;
};

/// "0.25:3 0.06:3": these rates for these many rounds of the run, then the rate of the spec.
struct WarmUpStep {
  double rate = 0;
  uint32_t rounds = 0;
};

struct ErrorFeedbackConfig {
  std::vector<WarmUpStep> warmup;
  std::vector<WarmUpStep> warmup_down;
  uint32_t stale_after = 50;
  std::string store = "float32";
};

/// One chain for each client of a round. At most one of the first four is given; with none of them
/// all clients use compression.up.
struct RateControlConfig {
  uint64_t budget_bytes = 0;                    ///< of each frame; 0: not given
  uint64_t mean_bytes = 0;                      ///< of a frame, on a round's average; 0: not given
  std::optional<double> deadline_seconds = {};  ///< of each transfer
  std::optional<double> mean_error = {};        ///< that a round's mean may have
  std::optional<double> worst_error = {};       ///< that one client may have
  std::string ladder;                           ///< canonical; filled in when rate control is on

  bool on() const { return budget_bytes > 0 || mean_bytes > 0 || deadline_seconds || mean_error; }
  /// The budget follows from what the client's link carries.
  bool needs_links() const { return deadline_seconds || mean_error; }
};

struct CompressionConfig {
  std::string up = "float32";  ///< canonical codec spec after load
  std::string down = "float32";
  std::string keyframe;                  ///< chains of each level of keyframes; empty: none
  std::vector<uint32_t> keyframe_every;  ///< versions from one to the next, of each level
  bool allow_biased = false;             ///< accept a biased chain without `ef`
  ErrorFeedbackConfig error_feedback;
  RateControlConfig rate_control;
};

struct EvaluationConfig {
  uint32_t every = 10;
};

struct TargetConfig {
  std::optional<double> accuracy = {};
};

/// What only a coordinator reads. Not given, wherever the field is empty.
struct ServerConfig {
  std::string listen;       ///< endpoint
  std::string state_dir;    ///< absolute after load, like all paths
  std::string key;          ///< file of the secret key
  std::string clients;      ///< file of the allow-list
  uint32_t start_when = 0;  ///< clients to wait for; 0: not given; resolved to clients_asked when
                            ///< any key of the table is given
  std::string evaluate = "clients";  ///< clients | attached | none
  double plan_lifetime_seconds = 600;
  uint32_t keep_rounds = 100;  ///< that the journal keeps to be replayed; 0: all
  uint32_t joins_per_s = 500;  ///< of clients after an outage, at most; 0: no bound
};

/// What only a client reads.
struct ClientConfig {
  std::string connect;     ///< endpoint
  std::string server_key;  ///< the coordinator's public line, or a file that holds it
  std::string key;
  std::string state_dir;
  std::string examples = "partition";  ///< partition | all
  std::string data_path;               ///< takes the place of data.path
  std::optional<double> give_up_after_seconds = {};
};

struct Scenario {
  uint64_t seed = 1;
  uint32_t rounds = 0;
  DataConfig data;
  FleetConfig fleet;
  ModelConfig model;
  std::string optimizer = "sgd";
  TrainingPlan training;
  StrategyConfig strategy;
  CompressionConfig compression;
  EvaluationConfig evaluation;
  TargetConfig target;
  ServerConfig server;
  ClientConfig client;
};

}  // namespace tern
