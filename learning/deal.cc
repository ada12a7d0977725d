#include "learning/deal.h"

#include <numeric>

#include "learning/partition.h"

namespace tern {

namespace {

Status at_partition(Status status) {
  Where where = status.where();
  where.key = "data.partition";
  return std::move(status).at(std::move(where));
}

Dataset pick(const Dataset& from, const std::vector<uint32_t>& indices, size_t features) {
  Dataset picked{.labels_each = from.labels_each};
  picked.inputs.reserve(indices.size() * features);
  picked.labels.reserve(indices.size() * from.labels_each);
  for (const uint32_t i : indices) {
    const auto* row = from.inputs.data() + size_t{i} * features;
    picked.inputs.insert(picked.inputs.end(), row, row + features);
    const auto* labels = from.labels.data() + size_t{i} * from.labels_each;
    picked.labels.insert(picked.labels.end(), labels, labels + from.labels_each);
  }
  return picked;
}

/// One of each example.
std::vector<uint32_t> first_labels(const Dataset& data) {
  std::vector<uint32_t> labels(data.examples());
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = data.labels[i * data.labels_each];
  return labels;
}

}  // namespace

Result<uint32_t> fleet_size(const Scenario& scenario, const DataBundle& data) {
  const Result<PartitionRule> rule = parse_partition(scenario.data.partition);
  if (!rule) return at_partition(rule.error());
  if (rule->kind != PartitionRule::Kind::kNatural) return scenario.fleet.clients;
  const auto natural = static_cast<uint32_t>(data.client_names.size());
  if (scenario.fleet.clients != 0 && scenario.fleet.clients != natural)
    return Status(Code::kInvalidArgument,
                  fmt::format("is {}, but the data have {} natural clients; leave it out",
                              scenario.fleet.clients, natural),
                  {.key = "fleet.clients"});
  return natural;
}

Result<Deal> deal_examples(const Scenario& scenario, const DataBundle& data) {
  TERN_TRY(const uint32_t clients, fleet_size(scenario, data));
  const Result<PartitionRule> rule = parse_partition(scenario.data.partition);
  if (!rule) return at_partition(rule.error());
  const bool by_class = rule->kind != PartitionRule::Kind::kNatural &&
                        rule->kind != PartitionRule::Kind::kIid &&
                        rule->kind != PartitionRule::Kind::kQuantity;
  if (by_class && data.train.labels_each != 1)
    return at_partition(error(Code::kInvalidArgument,
                              "deals by class, and a text has none: natural, iid and "
                              "quantity:ALPHA don't"));
  const std::vector<uint32_t> train_labels = first_labels(data.train),
                              test_labels = first_labels(data.test);
  PartitionRequest request{.labels = train_labels,
                           .natural_client = data.train.client,
                           .classes = static_cast<uint32_t>(data.shape.classes),
                           .clients = clients,
                           .seed = scenario.seed};
  const auto shares = [&]() -> Result<ClientShares> {
    if (rule->kind == PartitionRule::Kind::kDraw)
      return ClientShares::draw(*rule, request, data.train.examples());
    TERN_TRY(auto parts, partition(*rule, request));
    return ClientShares(std::move(parts));
  };
  Deal deal;
  Result<ClientShares> train = shares();
  if (!train) return at_partition(std::move(train).error());
  deal.train = *std::move(train);
  request.labels = test_labels;
  request.natural_client = data.test.client;
  request.for_test = true;
  Result<ClientShares> test = shares();
  if (!test) return at_partition(std::move(test).error());
  deal.test = *std::move(test);
  return deal;
}

Result<std::shared_ptr<const LearningData>> own_share(const ModelConfig& model,
                                                      const DataBundle& data, uint32_t number,
                                                      const std::vector<uint32_t>& train,
                                                      const std::vector<uint32_t>& test) {
  const auto features = static_cast<size_t>(data.shape.features());
  DataBundle own{.train = pick(data.train, train, features),
                 .test = pick(data.test, test, features),
                 .shape = data.shape,
                 .class_names = data.class_names,
                 .client_names = {}};
  std::vector<std::vector<uint32_t>> clients(size_t{number} + 1);
  clients[number].resize(train.size());
  std::iota(clients[number].begin(), clients[number].end(), 0u);
  return make_learning_data(model, std::move(own), std::move(clients));
}

}  // namespace tern
