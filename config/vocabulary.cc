#include "config/vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <system_error>
#include <utility>

#include "compression/updates/codec.h"
#include "compression/updates/ladder.h"
#include "config/downlink.h"
#include "config/model_card.h"
#include "config/rate_rule.h"
#include "config/selection_rule.h"

namespace tern {
namespace {

/// The field at the end of a path of members.
template <auto... Path>
constexpr auto& at(Scenario& scenario) {
  return (scenario.*....*Path);
}

constexpr Range at_least(double low) { return {.low = low}; }
constexpr Range above(double low) { return {.low = low, .open_low = true}; }
constexpr Range kShareOfOne = {.low = 0, .high = 1, .open_low = true};
constexpr Range kBetweenZeroAndOne = {.low = 0, .high = 1, .open_low = true, .open_high = true};
constexpr Range kPositiveTime = {.low = 0, .high = 1e9, .open_low = true};
constexpr Range kProbability = {.low = 0, .high = 1, .open_high = true};
constexpr Range kMomentum = {.low = 0, .high = 1, .open_high = true};

constexpr std::string_view kSources[] = {"fashion-mnist", "idx", "cifar", "leaf", "text", "csv"};
constexpr std::string_view kOptimizers[] = {"sgd"};
constexpr std::string_view kStrategies[] = {"fedavg"};
constexpr std::string_view kSchedules[] = {"synchronous", "late-credit", "fedbuff"};
constexpr std::string_view kResidualStores[] = {"float32", "bfloat16"};
constexpr std::string_view kEvaluators[] = {"clients", "attached", "none"};
constexpr std::string_view kExamples[] = {"partition", "all"};

constexpr std::string_view kModels[] = {"logistic",  "mlp-2nn",  "cnn",       "resnet8-gn",
                                        "char-lstm", "char-gpt", kScriptModel};

constexpr Condition kScript = {[](const Scenario& s) { return s.model.name == kScriptModel; },
                               "with model.name = \"torchscript\""};
constexpr Condition kCsv = {[](const Scenario& s) { return s.data.source == "csv"; },
                            "with data.source = \"csv\""};
constexpr Condition kText = {[](const Scenario& s) { return s.data.source == "text"; },
                             "with data.source = \"text\""};
constexpr Condition kWithoutTestPart = {
    [](const Scenario& s) {
      return (s.data.source == "csv" && s.data.test_path.empty()) || s.data.source == "text";
    },
    "with data.source = \"text\", or \"csv\" without data.test_path"};
constexpr Condition kStandardized = {
    [](const Scenario& s) { return s.data.source != "text"; },
    "with images and columns of numbers, not with data.source = \"text\""};
constexpr Condition kAsynchronous = {[](const Scenario& s) { return s.fleet.asynchronous(); },
                                     "with fleet.schedule = \"late-credit\" or \"fedbuff\""};
constexpr Condition kSynchronous = {[](const Scenario& s) { return !s.fleet.asynchronous(); },
                                    "with fleet.schedule = \"synchronous\""};
constexpr Condition kRateControl = {
    [](const Scenario& s) { return s.compression.rate_control.on(); },
    "with one of compression.rate_control.budget_bytes, .mean_bytes, .deadline and .mean_error"};

// clang-format off
constexpr Key kVocabulary[] = {
    {.name = "seed", .type = KeyType::kInteger, .field = &at<&Scenario::seed>,
     .meaning = "all reproducible randomness follows from it",
     .range = at_least(0)},
    {.name = "rounds", .type = KeyType::kInteger, .field = &at<&Scenario::rounds>,
     .meaning = "rounds of the run",
     .range = at_least(1), .required = true},

    {.name = "data.source", .type = KeyType::kChoice, .field = &at<&Scenario::data, &DataConfig::source>,
     .meaning = "where the examples come from",
     .choices = kSources, .required = true},
    {.name = "data.path", .type = KeyType::kPath, .field = &at<&Scenario::data, &DataConfig::path>,
     .meaning = "file (csv) or folder (the others), relative to the scenario's file"},
    {.name = "data.test_path", .type = KeyType::kPath, .field = &at<&Scenario::data, &DataConfig::test_path>,
     .meaning = "a second file with the test examples",
     .applies = kCsv},
    {.name = "data.label", .type = KeyType::kText, .field = &at<&Scenario::data, &DataConfig::label>,
     .meaning = "the column that holds the class",
     .applies = kCsv},
    {.name = "data.client", .type = KeyType::kText, .field = &at<&Scenario::data, &DataConfig::client>,
     .meaning = "the column that holds the client",
     .applies = kCsv},
    {.name = "data.test_fraction", .type = KeyType::kNumber, .field = &at<&Scenario::data, &DataConfig::test_fraction>,
     .meaning = "share of each client's examples that is kept for testing",
     .range = kBetweenZeroAndOne, .applies = kWithoutTestPart},
    {.name = "data.window", .type = KeyType::kInteger, .field = &at<&Scenario::data, &DataConfig::window>,
     .meaning = "characters of an example",
     .range = {.low = 2, .high = 4096}, .applies = kText},
    {.name = "data.standardize", .type = KeyType::kBoolean, .field = &at<&Scenario::data, &DataConfig::standardize>,
     .meaning = "inputs get mean 0 and variance 1",
     .applies = kStandardized},
    {.name = "data.partition", .type = KeyType::kPartition, .field = &at<&Scenario::data, &DataConfig::partition>,
     .meaning = "how the examples are dealt to the clients",
     .required = true},

    {.name = "fleet.clients", .type = KeyType::kInteger, .field = &at<&Scenario::fleet, &FleetConfig::clients>,
     .meaning = "clients of the fleet; required but for natural partitions",
     .range = at_least(1), .zero_is_none = true},
    {.name = "fleet.cohort", .type = KeyType::kInteger, .field = &at<&Scenario::fleet, &FleetConfig::cohort>,
     .meaning = "updates that a round wants",
     .range = at_least(1), .required = true},
    {.name = "fleet.schedule", .type = KeyType::kChoice, .field = &at<&Scenario::fleet, &FleetConfig::schedule>,
     .meaning = "what becomes of tasks that outlive their round: refused, counted later, or counted later with others asked in their place at once",
     .choices = kSchedules},
    {.name = "fleet.selection", .type = KeyType::kSelection, .field = &at<&Scenario::fleet, &FleetConfig::selection>,
     .meaning = "how the clients of a round are chosen among those that are there"},
    {.name = "fleet.over_select", .type = KeyType::kNumber, .field = &at<&Scenario::fleet, &FleetConfig::over_select>,
     .meaning = "clients asked for each update wanted; with fedbuff, tasks under way",
     .range = at_least(1)},
    {.name = "fleet.max_staleness", .type = KeyType::kInteger, .field = &at<&Scenario::fleet, &FleetConfig::max_staleness>,
     .meaning = "rounds that a task may outlive its own before it is given up",
     .range = at_least(0), .applies = kAsynchronous},
    {.name = "fleet.min_updates", .type = KeyType::kInteger, .field = &at<&Scenario::fleet, &FleetConfig::min_updates>,
     .meaning = "with fewer at the deadline the round is void; default: the cohort",
     .range = at_least(1), .zero_is_none = true},
    {.name = "fleet.deadline", .type = KeyType::kDuration, .field = &at<&Scenario::fleet, &FleetConfig::deadline_seconds>,
     .meaning = "when a round closes at the latest; default: never",
     .range = kPositiveTime},
    {.name = "fleet.deadline_quantile", .type = KeyType::kNumber, .field = &at<&Scenario::fleet, &FleetConfig::deadline_quantile>,
     .meaning = "a round closes after 1.5 times what this share of the known clients needs, or at fleet.deadline if that is sooner",
     .range = kShareOfOne, .applies = kSynchronous},
    {.name = "fleet.max_examples", .type = KeyType::kInteger, .field = &at<&Scenario::fleet, &FleetConfig::max_examples>,
     .meaning = "an update that claims more examples is refused; default: what the largest client holds",
     .range = at_least(1), .zero_is_none = true},
    {.name = "fleet.uplink_bytes_per_s", .type = KeyType::kRate, .field = &at<&Scenario::fleet, &FleetConfig::uplink>,
     .meaning = "what the clients' links carry upwards; drawn for each client from the seed; default: not known"},
    {.name = "fleet.downlink_bytes_per_s", .type = KeyType::kRate, .field = &at<&Scenario::fleet, &FleetConfig::downlink>,
     .meaning = "in a simulation, what they carry downwards; default: downloads take no time"},
    {.name = "fleet.samples_per_s", .type = KeyType::kRate, .field = &at<&Scenario::fleet, &FleetConfig::speed>,
     .meaning = "in a simulation, how fast clients train; default: training takes no time"},
    {.name = "fleet.round_trip", .type = KeyType::kDuration, .field = &at<&Scenario::fleet, &FleetConfig::round_trip_seconds>,
     .meaning = "in a simulation, how long a word and its answer are on the way; default: no time",
     .range = kPositiveTime},
    {.name = "fleet.drop_out", .type = KeyType::kNumber, .field = &at<&Scenario::fleet, &FleetConfig::drop_out>,
     .meaning = "in a simulation, the share of tasks whose device gives up in the middle of training",
     .range = kProbability},
    {.name = "fleet.devices", .type = KeyType::kPath, .field = &at<&Scenario::fleet, &FleetConfig::devices>,
     .meaning = "in a simulation, a CSV file of what each device trains and sends in a second"},
    {.name = "fleet.availability", .type = KeyType::kPath, .field = &at<&Scenario::fleet, &FleetConfig::availability>,
     .meaning = "in a simulation, a CSV file of when each device can be asked; default: always"},

    {.name = "model.name", .type = KeyType::kChoice, .field = &at<&Scenario::model, &ModelConfig::name>,
     .meaning = "what is trained",
     .choices = kModels, .required = true},
    {.name = "model.script", .type = KeyType::kPath, .field = &at<&Scenario::model, &ModelConfig::script>,
     .meaning = "a TorchScript file, which those who train run; a coordinator needs only model.initial",
     .applies = kScript},
    {.name = "model.initial", .type = KeyType::kPath, .field = &at<&Scenario::model, &ModelConfig::initial>,
     .meaning = "a .safetensors file to start from; default: computed from the seed, or the script's own"},
    {.name = "model.input", .type = KeyType::kShape, .field = &at<&Scenario::model, &ModelConfig::input>,
     .meaning = "shape of one example; a coordinator needs it, elsewhere the data tell"},
    {.name = "model.classes", .type = KeyType::kInteger, .field = &at<&Scenario::model, &ModelConfig::classes>,
     .meaning = "classes to tell apart; a coordinator needs it, elsewhere the data tell",
     .range = at_least(2), .zero_is_none = true},

    {.name = "training.optimizer", .type = KeyType::kChoice, .field = &at<&Scenario::optimizer>,
     .meaning = "what a client steps with",
     .choices = kOptimizers},
    {.name = "training.learning_rate", .type = KeyType::kNumber, .field = &at<&Scenario::training, &TrainingPlan::learning_rate>,
     .meaning = "step size on the clients",
     .range = above(0)},
    {.name = "training.momentum", .type = KeyType::kNumber, .field = &at<&Scenario::training, &TrainingPlan::momentum>,
     .meaning = "momentum within a task",
     .range = kMomentum},
    {.name = "training.weight_decay", .type = KeyType::kNumber, .field = &at<&Scenario::training, &TrainingPlan::weight_decay>,
     .meaning = "L2 penalty added to gradients",
     .range = at_least(0)},
    {.name = "training.batch_size", .type = KeyType::kInteger, .field = &at<&Scenario::training, &TrainingPlan::batch_size>,
     .meaning = "examples of a minibatch",
     .range = at_least(1)},
    {.name = "training.local_epochs", .type = KeyType::kInteger, .field = &at<&Scenario::training, &TrainingPlan::local_epochs>,
     .meaning = "passes over a client's examples in a task",
     .range = at_least(0), .zero_is_none = true},
    {.name = "training.local_steps", .type = KeyType::kInteger, .field = &at<&Scenario::training, &TrainingPlan::local_steps>,
     .meaning = "minibatches in a task, instead of local_epochs",
     .range = at_least(0), .zero_is_none = true},

    {.name = "strategy.name", .type = KeyType::kChoice, .field = &at<&Scenario::strategy, &StrategyConfig::name>,
     .meaning = "how updates become the next model",
     .choices = kStrategies},
    {.name = "strategy.server_learning_rate", .type = KeyType::kNumber,
     .field = &at<&Scenario::strategy, &StrategyConfig::server_learning_rate>,
     .meaning = "step size on the server",
     .range = above(0)},
    {.name = "strategy.server_momentum", .type = KeyType::kNumber, .field = &at<&Scenario::strategy, &StrategyConfig::server_momentum>,
     .meaning = "momentum over the rounds",
     .range = kMomentum},
    {.name = "strategy.server_average_every", .type = KeyType::kInteger,
     .field = &at<&Scenario::strategy, &StrategyConfig::server_average_every>,
     .meaning = "each so many versions the model becomes the mean of these versions",
     .range = at_least(2), .zero_is_none = true},
    {.name = "strategy.norm_bound", .type = KeyType::kNumber, .field = &at<&Scenario::strategy, &StrategyConfig::norm_bound>,
     .meaning = "an update with a larger L2 norm is refused",
     .range = above(0)},
    {.name = "strategy.staleness_exponent", .type = KeyType::kNumber,
     .field = &at<&Scenario::strategy, &StrategyConfig::staleness_exponent>,
     .meaning = "an update from a model that is t versions old is scaled by (1 + t) to the power of minus this",
     .range = {.low = 0, .high = 8}, .applies = kAsynchronous},

    {.name = "compression.up", .type = KeyType::kCodec, .field = &at<&Scenario::compression, &CompressionConfig::up>,
     .meaning = "codec of the clients' updates"},
    {.name = "compression.down", .type = KeyType::kDownlink, .field = &at<&Scenario::compression, &CompressionConfig::down>,
     .meaning = "codec of the server's deltas; with keyframes of what lies between them; auto: chains and keyframes by how often a client comes"},
    {.name = "compression.keyframe", .type = KeyType::kChains, .field = &at<&Scenario::compression, &CompressionConfig::keyframe>,
     .meaning = "codecs of the keyframes of each level, the most frequent first; with ef the last level's follow each other, without they are coded from the start"},
    {.name = "compression.keyframe_every", .type = KeyType::kPeriods, .field = &at<&Scenario::compression, &CompressionConfig::keyframe_every>,
     .meaning = "versions from one keyframe to the next, for each level"},
    {.name = "compression.allow_biased", .type = KeyType::kBoolean, .field = &at<&Scenario::compression, &CompressionConfig::allow_biased>,
     .meaning = "accept a biased chain without ef"},

    {.name = "compression.error_feedback.warmup", .type = KeyType::kSchedule,
     .field = &at<&Scenario::compression, &CompressionConfig::error_feedback, &ErrorFeedbackConfig::warmup>,
     .meaning = "rates of compression.up in the first rounds, as rate:rounds"},
    {.name = "compression.error_feedback.warmup_down", .type = KeyType::kSchedule,
     .field = &at<&Scenario::compression, &CompressionConfig::error_feedback, &ErrorFeedbackConfig::warmup_down>,
     .meaning = "rates of compression.down in the first rounds, as rate:rounds"},
    {.name = "compression.error_feedback.stale_after", .type = KeyType::kInteger,
     .field = &at<&Scenario::compression, &CompressionConfig::error_feedback, &ErrorFeedbackConfig::stale_after>,
     .meaning = "rounds without a task after which a residual is halved",
     .range = at_least(1)},
    {.name = "compression.error_feedback.store", .type = KeyType::kChoice,
     .field = &at<&Scenario::compression, &CompressionConfig::error_feedback, &ErrorFeedbackConfig::store>,
     .meaning = "how clients keep their residuals",
     .choices = kResidualStores},

    {.name = "compression.rate_control.budget_bytes", .type = KeyType::kInteger,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::budget_bytes>,
     .meaning = "each client sends the most accurate frame of at most so many bytes",
     .range = at_least(1), .zero_is_none = true},
    {.name = "compression.rate_control.mean_bytes", .type = KeyType::kInteger,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::mean_bytes>,
     .meaning = "a round's frames have at most so many bytes on average, more of them where the client's update moves the mean more",
     .range = at_least(1), .zero_is_none = true},
    {.name = "compression.rate_control.deadline", .type = KeyType::kDuration,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::deadline_seconds>,
     .meaning = "each client sends the most accurate frame that its link carries in this time",
     .range = kPositiveTime},
    {.name = "compression.rate_control.mean_error", .type = KeyType::kNumber,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::mean_error>,
     .meaning = "each round gets the shortest deadline at which its mean has at most this squared error over squared norm",
     .range = above(0)},
    {.name = "compression.rate_control.worst_error", .type = KeyType::kNumber,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::worst_error>,
     .meaning = "no client's frame has more than this, times its share in what moves the mean; default: no bound",
     .range = above(0), .applies = kRateControl},
    {.name = "compression.rate_control.ladder", .type = KeyType::kLadder,
     .field = &at<&Scenario::compression, &CompressionConfig::rate_control, &RateControlConfig::ladder>,
     .meaning = "the chains to choose from; default: unbiased ones from 270 times fewer bytes to lossless, with mean_bytes those of compression.up at other rates",
     .applies = kRateControl},

    {.name = "evaluation.every", .type = KeyType::kInteger, .field = &at<&Scenario::evaluation, &EvaluationConfig::every>,
     .meaning = "rounds from one evaluation to the next",
     .range = at_least(1)},

    {.name = "target.accuracy", .type = KeyType::kNumber, .field = &at<&Scenario::target, &TargetConfig::accuracy>,
     .meaning = "report when, and at how many bytes, it was first reached",
     .range = kShareOfOne},

    {.name = "server.listen", .type = KeyType::kText, .field = &at<&Scenario::server, &ServerConfig::listen>,
     .meaning = "where the coordinator listens, such as \"tcp://0.0.0.0:7700\""},
    {.name = "server.state_dir", .type = KeyType::kPath, .field = &at<&Scenario::server, &ServerConfig::state_dir>,
     .meaning = "folder of what the coordinator must not lose"},
    {.name = "server.key", .type = KeyType::kPath, .field = &at<&Scenario::server, &ServerConfig::key>,
     .meaning = "file of the coordinator's secret key"},
    {.name = "server.clients", .type = KeyType::kPath, .field = &at<&Scenario::server, &ServerConfig::clients>,
     .meaning = "file with the public keys of the clients that may join"},
    {.name = "server.start_when", .type = KeyType::kInteger, .field = &at<&Scenario::server, &ServerConfig::start_when>,
     .meaning = "clients to wait for before the first round; default: those that a round asks",
     .range = at_least(1), .zero_is_none = true},
    {.name = "server.evaluate", .type = KeyType::kChoice, .field = &at<&Scenario::server, &ServerConfig::evaluate>,
     .meaning = "who evaluates: the clients, a process attached for it, or nobody",
     .choices = kEvaluators},
    {.name = "server.plan_lifetime", .type = KeyType::kDuration,
     .field = &at<&Scenario::server, &ServerConfig::plan_lifetime_seconds>,
     .meaning = "how long after a plan is signed clients take it",
     .range = {.low = 10, .high = 1e9}},
    {.name = "server.keep_rounds", .type = KeyType::kInteger, .field = &at<&Scenario::server, &ServerConfig::keep_rounds>,
     .meaning = "rounds whose updates the journal keeps, so that they can be replayed; 0: all"},
    {.name = "server.joins_per_s", .type = KeyType::kInteger, .field = &at<&Scenario::server, &ServerConfig::joins_per_s>,
     .meaning = "after an outage clients wait so long that no more of them come back in a second; 0: no bound"},

    {.name = "client.connect", .type = KeyType::kText, .field = &at<&Scenario::client, &ClientConfig::connect>,
     .meaning = "where the coordinator is, such as \"tcp://coordinator.example:7700\""},
    {.name = "client.server_key", .type = KeyType::kText, .field = &at<&Scenario::client, &ClientConfig::server_key>,
     .meaning = "the coordinator's public key, or a file that holds it"},
    {.name = "client.key", .type = KeyType::kPath, .field = &at<&Scenario::client, &ClientConfig::key>,
     .meaning = "file of this client's secret key"},
    {.name = "client.state_dir", .type = KeyType::kPath, .field = &at<&Scenario::client, &ClientConfig::state_dir>,
     .meaning = "folder of what this client must not lose"},
    {.name = "client.examples", .type = KeyType::kChoice, .field = &at<&Scenario::client, &ClientConfig::examples>,
     .meaning = "which of the examples are this client's: its share of data.partition, or all",
     .choices = kExamples},
    {.name = "client.data_path", .type = KeyType::kPath, .field = &at<&Scenario::client, &ClientConfig::data_path>,
     .meaning = "takes the place of data.path on this client"},
    {.name = "client.give_up_after", .type = KeyType::kDuration,
     .field = &at<&Scenario::client, &ClientConfig::give_up_after_seconds>,
     .meaning = "how long to look for the coordinator; default: for ever",
     .range = kPositiveTime},
};
// clang-format on

/// The last part of a name: "fleet.cohort" -> "cohort".
std::string_view leaf_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? name : name.substr(dot + 1);
}

/// Insertions, deletions and replacements between two short words (Levenshtein).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

/// The candidate that was probably meant; empty when none is near.
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  // Long words would only cost time: no name comes near them.
  if (word.size() > 64) return best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (std::string_view candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

/// A double that TOML reads back as the same float: the shortest digits, never an integer.
std::string toml_float(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

template <typename T>
std::optional<T> whole_number(std::string_view text) {
  T value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string shown(const Value& value) {
  struct Visitor {
    std::string operator()(int64_t v) const { return fmt::format("{}", v); }
    std::string operator()(double v) const { return toml_float(v); }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const std::string& v) const {
      return v.size() <= 100 ? toml_string(v) : fmt::format("a string of {} bytes", v.size());
    }
    std::string operator()(const OtherValue& v) const { return std::string(v.kind); }
  };
  return std::visit(Visitor{}, value);
}

Status refused(const Key& key, const Value& value) {
  std::string message = fmt::format("must be {}, not {}", expectation(key), shown(value));
  if (const std::string* text = std::get_if<std::string>(&value)) {
    const std::string_view near = nearest(*text, key.choices);
    if (!near.empty()) message += fmt::format("; did you mean \"{}\"?", near);
  }
  return Status(Code::kInvalidArgument, std::move(message));
}

/// 10 or "10 100".
std::optional<std::vector<uint32_t>> periods_of(const Value& value) {
  std::vector<uint32_t> periods;
  const auto add = [&](const std::optional<int64_t>& period) {
    if (!period || *period < 2 || *period > std::numeric_limits<int32_t>::max()) return false;
    periods.push_back(static_cast<uint32_t>(*period));
    return true;
  };
  if (const int64_t* number = std::get_if<int64_t>(&value)) {
    if (!add(*number)) return std::nullopt;
    return periods;
  }
  const std::string* given = std::get_if<std::string>(&value);
  if (given == nullptr) return std::nullopt;
  for (std::string_view text = *given; !text.empty();) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0 && !add(whole_number<int64_t>(text.substr(0, end)))) return std::nullopt;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (periods.empty()) return std::nullopt;
  return periods;
}

bool spelled_as_partition(std::string_view text) {
  if (text == "iid" || text == "natural") return true;
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const std::string_view kind = text.substr(0, colon);
  const std::string_view argument = text.substr(colon + 1);
  if (kind == "shards") {
    const std::optional<uint32_t> shards = whole_number<uint32_t>(argument);
    return shards && *shards >= 1;
  }
  if (kind == "draw") {
    const size_t second = argument.find(':');
    const std::optional<uint32_t> examples = whole_number<uint32_t>(argument.substr(0, second));
    if (!examples || *examples == 0) return false;
    if (second == std::string_view::npos) return true;
    const std::optional<double> alpha = whole_number<double>(argument.substr(second + 1));
    return alpha && above(0).contains(*alpha);
  }
  if (kind != "dirichlet" && kind != "quantity") return false;
  const std::optional<double> alpha = whole_number<double>(argument);
  return alpha && above(0).contains(*alpha);
}

std::optional<double> parse_duration(std::string_view text) {
  double count = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (failure != std::errc()) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<size_t>(end - text.data()));
  if (unit == "ms") return count / 1000;
  if (unit == "s") return count;
  if (unit == "m") return count * 60;
  if (unit == "h") return count * 3600;
  return std::nullopt;
}

std::optional<std::vector<WarmUpStep>> parse_schedule(std::string_view text) {
  std::vector<WarmUpStep> steps;
  while (!text.empty()) {
    if (text.front() == ' ') {
      text.remove_prefix(1);
      continue;
    }
    const std::string_view step = text.substr(0, text.find(' '));
    text.remove_prefix(step.size());
    const size_t colon = step.find(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const std::optional<double> rate = whole_number<double>(step.substr(0, colon));
    const std::optional<uint32_t> rounds = whole_number<uint32_t>(step.substr(colon + 1));
    if (!rate || !kShareOfOne.contains(*rate) || !rounds || *rounds < 1) return std::nullopt;
    steps.push_back({*rate, *rounds});
  }
  return steps;
}

/// Calls `visit` with a reference to the key's field.
template <typename Visit>
auto with_field(const Key& key, Scenario& scenario, Visit&& visit) {
  return std::visit([&](auto accessor) { return visit(accessor(scenario)); }, key.field);
}

Status assign_integer(const Key& key, int64_t value, Scenario& scenario) {
  return with_field(key, scenario, [&](auto& field) -> Status {
    using T = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<T, uint32_t> || std::is_same_v<T, uint64_t>) {
      if (static_cast<double>(value) < key.range.low) return refused(key, value);
      if (static_cast<uint64_t>(value) > std::numeric_limits<T>::max())
        return error(Code::kInvalidArgument, "must be an integer, at most {}, not {}",
                     std::numeric_limits<T>::max(), value);
      field = static_cast<T>(value);
      return {};
    } else {
      return error(Code::kInternal, "the vocabulary's row of '{}' has a wrong field", key.name);
    }
  });
}

template <typename Wanted, typename Given>
Status assign_as(const Key& key, Given&& value, Scenario& scenario) {
  return with_field(key, scenario, [&](auto& field) -> Status {
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, Wanted> ||
                  std::is_same_v<std::decay_t<decltype(field)>, std::optional<Wanted>>) {
      field = std::forward<Given>(value);
      return {};
    } else {
      return error(Code::kInternal, "the vocabulary's row of '{}' has a wrong field", key.name);
    }
  });
}

}  // namespace

bool Range::contains(double value) const {
  return std::isfinite(value) && (open_low ? value > low : value >= low) &&
         (open_high ? value < high : value <= high);
}

std::span<const Key> vocabulary() { return kVocabulary; }

const Key* find_key(std::string_view name) {
  const auto found = std::find_if(std::begin(kVocabulary), std::end(kVocabulary),
                                  [&](const Key& key) { return key.name == name; });
  return found == std::end(kVocabulary) ? nullptr : found;
}

std::string_view table_of(std::string_view name) {
  const size_t dot = name.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : name.substr(0, dot);
}

bool is_table(std::string_view name) {
  return !name.empty() &&
         std::any_of(std::begin(kVocabulary), std::end(kVocabulary), [&](const Key& key) {
           return key.name.size() > name.size() && key.name.starts_with(name) &&
                  key.name[name.size()] == '.';
         });
}

bool is_deployment_table(std::string_view name) { return name == "server" || name == "client"; }

std::string expectation(const Key& key) {
  const auto with_range = [&](std::string text) {
    const char* joint = ", ";
    if (std::isfinite(key.range.low)) {
      text +=
          fmt::format("{}{} {}", joint, key.range.open_low ? "above" : "at least", key.range.low);
      joint = " and ";
    }
    if (std::isfinite(key.range.high))
      text +=
          fmt::format("{}{} {}", joint, key.range.open_high ? "below" : "at most", key.range.high);
    return text;
  };
  switch (key.type) {
    case KeyType::kInteger:
      return with_range("an integer");
    case KeyType::kNumber:
      return with_range("a finite number");
    case KeyType::kBoolean:
      return "true or false";
    case KeyType::kChoice:
      return key.choices.size() == 1 ? toml_string(key.choices.front())
                                     : fmt::format("one of {}", fmt::join(key.choices, ", "));
    case KeyType::kText:
      return "a string that is not empty";
    case KeyType::kPath:
      return "a path";
    case KeyType::kPartition:
      return "one of iid, shards:K (K at least 1), dirichlet:ALPHA, quantity:ALPHA (ALPHA above "
             "0), draw:N or draw:N:ALPHA, natural";
    case KeyType::kCodec:
      return "a codec such as \"ef | topk:0.01 | ternary | rice\"";
    case KeyType::kDownlink:
      return "a codec such as \"ef | topk:0.01 | ternary | rice\", or auto";
    case KeyType::kShape:
      return "a shape such as \"1x28x28\" (channels, height, width) or \"784\" (features)";
    case KeyType::kDuration:
      return with_range("a duration such as \"60s\" (units: ms, s, m, h)");
    case KeyType::kSchedule:
      return "a list of rate:rounds such as \"0.25:3 0.06:3\" (rates above 0 and at most 1, rounds "
             "at least 1)";
    case KeyType::kSelection:
      return "one of uniform, weighted, round-robin, power-of-choice:D (D candidates for each "
             "client "
             "asked, 1 to 1e6), oort";
    case KeyType::kRate:
      return "a rate for all clients such as \"125000\", or \"loguniform:LOW..HIGH\" such as "
             "\"loguniform:1e4..1e6\" (1 to 1e15 a second)";
    case KeyType::kChains:
      return "a codec for each level of keyframes, with ';' between them, such as \"ef | topk:0.02 "
             "| "
             "ternary | rice\"";
    case KeyType::kPeriods:
      return "a number of versions such as 10, or one for each level of keyframes such as \"10 "
             "100\"";
    case KeyType::kLadder:
      return "chains with ';' between them such as \"rotate:1024 | randk:0.1 | eden:1; float32\"";
  }
  return {};
}

std::string unknown_name_message(std::string_view name) {
  // In "fleeet.cohort" it is the table that's unknown.
  const std::string_view whole = name;
  while (!table_of(name).empty() && !is_table(table_of(name))) name = table_of(name);
  const std::string_view table = table_of(name);
  std::vector<std::string_view> keys;
  std::vector<std::string_view> tables;
  for (const Key& key : kVocabulary) {
    std::string_view rest = key.name;
    if (!table.empty()) {
      if (!rest.starts_with(table) || rest.size() == table.size() || rest[table.size()] != '.')
        continue;
      rest.remove_prefix(table.size() + 1);
    }
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos)
      keys.push_back(rest);
    else if (tables.empty() || tables.back() != rest.substr(0, dot))
      tables.push_back(rest.substr(0, dot));
  }

  std::string message =
      name == whole ? "unknown name" : fmt::format("there is no table '{}'", name);
  std::string_view near = nearest(leaf_of(name), keys);
  // A right key in a wrong table; of several the first, since deployments come last.
  if (near.empty()) {
    const auto elsewhere =
        std::find_if(std::begin(kVocabulary), std::end(kVocabulary),
                     [&](const Key& key) { return leaf_of(key.name) == leaf_of(name); });
    if (elsewhere != std::end(kVocabulary)) near = elsewhere->name;
  }
  if (near.empty()) near = nearest(leaf_of(name), tables);
  if (!near.empty()) message += fmt::format("; did you mean {}?", near);
  message += message.back() == '?' ? " " : "; ";
  if (table.empty())
    message += "The top level has ";
  else
    message += fmt::format("[{}] has ", table);
  message += fmt::format("{}", fmt::join(keys, ", "));
  if (!tables.empty())
    message +=
        fmt::format(" and the table{} {}", tables.size() == 1 ? "" : "s", fmt::join(tables, ", "));
  return message;
}

Value value_of_text(const Key& key, std::string_view text) {
  switch (key.type) {
    case KeyType::kInteger:
      if (const auto value = whole_number<int64_t>(text)) return *value;
      break;
    case KeyType::kPeriods:
      if (const auto value = whole_number<int64_t>(text)) return *value;
      break;
    case KeyType::kNumber:
      if (const auto value = whole_number<double>(text)) return *value;
      break;
    case KeyType::kBoolean:
      if (text == "true" || text == "false") return text == "true";
      break;
    default:
      // Quotes are not needed, but who writes them means a string.
      if (text.size() >= 2 && text.front() == text.back() &&
          (text.front() == '"' || text.front() == '\''))
        text = text.substr(1, text.size() - 2);
      break;
  }
  return std::string(text);
}

Status assign(const Key& key, const Value& value, Scenario& scenario) {
  if (key.type == KeyType::kInteger) {
    const int64_t* number = std::get_if<int64_t>(&value);
    return number == nullptr ? refused(key, value) : assign_integer(key, *number, scenario);
  }
  if (key.type == KeyType::kBoolean) {
    const bool* flag = std::get_if<bool>(&value);
    return flag == nullptr ? refused(key, value) : assign_as<bool>(key, *flag, scenario);
  }
  if (key.type == KeyType::kNumber) {
    double number = 0;
    if (const double* real = std::get_if<double>(&value))
      number = *real;
    else if (const int64_t* integer = std::get_if<int64_t>(&value))
      number = static_cast<double>(*integer);
    else
      return refused(key, value);
    if (!key.range.contains(number)) return refused(key, value);
    return assign_as<double>(key, number, scenario);
  }

  if (key.type == KeyType::kPeriods) {
    std::optional<std::vector<uint32_t>> periods = periods_of(value);
    if (!periods) return refused(key, value);
    return assign_as<std::vector<uint32_t>>(key, std::move(*periods), scenario);
  }

  const std::string* text = std::get_if<std::string>(&value);
  if (text == nullptr) return refused(key, value);
  if (key.type == KeyType::kDuration) {
    const std::optional<double> seconds = parse_duration(*text);
    if (!seconds || !key.range.contains(*seconds)) return refused(key, value);
    return assign_as<double>(key, *seconds, scenario);
  }
  if (key.type == KeyType::kSchedule) {
    std::optional<std::vector<WarmUpStep>> steps = parse_schedule(*text);
    if (!steps) return refused(key, value);
    return assign_as<std::vector<WarmUpStep>>(key, std::move(*steps), scenario);
  }
  if (key.type == KeyType::kCodec || (key.type == KeyType::kDownlink && *text != kAuto)) {
    TERN_TRY(const Codec codec, Codec::parse(*text));
    return assign_as<std::string>(key, codec.spec(), scenario);
  }
  if (key.type == KeyType::kRate) {
    const std::optional<RateRule> rule = parse_rate_rule(*text);
    if (!rule) return refused(key, value);
    return assign_as<std::string>(key, rate_text(*rule), scenario);
  }
  if (key.type == KeyType::kSelection) {
    const std::optional<SelectionRule> rule = parse_selection_rule(*text);
    if (!rule) return refused(key, value);
    return assign_as<std::string>(key, selection_text(*rule), scenario);
  }
  if (key.type == KeyType::kChains) {
    TERN_TRY(const std::vector<Codec> chains, parse_chains(*text));
    return assign_as<std::string>(key, print_chains(chains), scenario);
  }
  if (key.type == KeyType::kLadder) {
    TERN_TRY(const std::vector<Codec> chains, parse_ladder(*text));
    return assign_as<std::string>(key, print_chains(chains), scenario);
  }
  bool fits = !text->empty();
  if (key.type == KeyType::kChoice)
    fits = std::find(key.choices.begin(), key.choices.end(), *text) != key.choices.end();
  if (key.type == KeyType::kPartition) fits = spelled_as_partition(*text);
  if (key.type == KeyType::kShape) {
    const std::optional<std::vector<int64_t>> shape = parse_input_shape(*text);
    if (!shape) return refused(key, value);
    return assign_as<std::string>(key, input_shape_text(*shape), scenario);
  }
  if (!fits) return refused(key, value);
  return assign_as<std::string>(key, *text, scenario);
}

std::optional<std::string> print_value(const Key& key, const Scenario& scenario) {
  if (key.applies.holds != nullptr && !key.applies.holds(scenario)) return std::nullopt;
  using Text = std::optional<std::string>;
  struct Printer {
    const Key& key;
    Text operator()(uint32_t v) const { return (*this)(uint64_t{v}); }
    Text operator()(uint64_t v) const {
      if (v == 0 && key.zero_is_none) return std::nullopt;
      return fmt::format("{}", v);
    }
    Text operator()(double v) const {
      if (key.type == KeyType::kDuration) return toml_string(fmt::format("{}s", v));
      return toml_float(v);
    }
    Text operator()(bool v) const { return v ? "true" : "false"; }
    Text operator()(const std::string& v) const {
      if (v.empty()) return std::nullopt;
      return toml_string(v);
    }
    Text operator()(const std::optional<double>& v) const { return v ? (*this)(*v) : std::nullopt; }
    Text operator()(const std::vector<uint32_t>& v) const {
      if (v.empty()) return std::nullopt;
      if (v.size() == 1) return fmt::format("{}", v.front());
      return toml_string(fmt::format("{}", fmt::join(v, " ")));
    }
    Text operator()(const std::vector<WarmUpStep>& v) const {
      if (v.empty()) return std::nullopt;
      std::vector<std::string> steps;
      steps.reserve(v.size());
      for (const WarmUpStep& step : v)
        steps.push_back(fmt::format("{}:{}", step.rate, step.rounds));
      return toml_string(fmt::format("{}", fmt::join(steps, " ")));
    }
  };
  const Printer printer{key};
  // The accessors only form a reference; printing doesn't write through it.
  return with_field(key, const_cast<Scenario&>(scenario),
                    [&](const auto& field) -> Text { return printer(field); });
}

std::string toml_string(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        result += "\\\"";
        break;
      case '\\':
        result += "\\\\";
        break;
      case '\n':
        result += "\\n";
        break;
      case '\t':
        result += "\\t";
        break;
      case '\r':
        result += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
          result += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
        else
          result += c;
    }
  }
  return result + '"';
}

}  // namespace tern
