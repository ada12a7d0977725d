#include "learning/client_shares.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "learning/partition_draws.h"

namespace tern {

ClientShares::ClientShares(std::vector<std::vector<uint32_t>> dealt)
    : clients_(static_cast<uint32_t>(dealt.size())),
      dealt_(std::make_shared<const std::vector<std::vector<uint32_t>>>(std::move(dealt))) {}

Result<ClientShares> ClientShares::draw(const PartitionRule& rule, const PartitionRequest& request,
                                        size_t train_examples) {
  const size_t n = request.labels.size();
  if (request.clients == 0)
    return error(Code::kInvalidArgument, "a partition needs at least one client");
  if (n == 0 && !request.for_test)
    return error(Code::kInvalidArgument, "there is no example to draw from");
  auto drawn = std::make_shared<Drawn>();
  std::vector<uint32_t> counts(request.classes);
  for (size_t i = 0; i < n; ++i) {
    if (request.labels[i] >= request.classes)
      return error(Code::kInvalidArgument, "example {} has label {} of {} classes", i,
                   request.labels[i], request.classes);
    ++counts[request.labels[i]];
  }
  drawn->seed = request.seed;
  drawn->for_test = request.for_test;
  drawn->alpha = rule.alpha;
  drawn->examples = rule.examples;
  if (request.for_test)
    drawn->examples =
        n == 0 ? 0
               : static_cast<uint32_t>(std::max<uint64_t>(
                     1, uint64_t{rule.examples} * n / std::max<uint64_t>(train_examples, 1)));
  drawn->by_class.resize(n);
  std::iota(drawn->by_class.begin(), drawn->by_class.end(), 0u);
  std::ranges::stable_sort(drawn->by_class, {}, [&](uint32_t i) { return request.labels[i]; });
  drawn->class_starts.push_back(0);
  for (const uint32_t count : counts)
    drawn->class_starts.push_back(drawn->class_starts.back() + count);
  ClientShares shares;
  shares.clients_ = request.clients;
  shares.drawn_ = std::move(drawn);
  return shares;
}

uint32_t ClientShares::examples(uint32_t client) const {
  return drawn_ ? drawn_->examples : static_cast<uint32_t>((*dealt_)[client].size());
}

uint32_t ClientShares::largest() const {
  if (drawn_) return drawn_->examples;
  uint32_t largest = 0;
  for (const auto& client : dealt())
    largest = std::max(largest, static_cast<uint32_t>(client.size()));
  return largest;
}

uint64_t ClientShares::total() const {
  if (drawn_) return uint64_t{clients_} * drawn_->examples;
  uint64_t total = 0;
  for (const auto& client : dealt()) total += client.size();
  return total;
}

const std::vector<std::vector<uint32_t>>& ClientShares::dealt() const {
  static const std::vector<std::vector<uint32_t>> none;
  return dealt_ ? *dealt_ : none;
}

std::vector<uint32_t> ClientShares::of(uint32_t client) const {
  if (!drawn_) return dealt()[client];
  const size_t classes = drawn_->class_starts.size() - 1;
  const auto stream = [&](PartitionDraw draw) {
    return Rng(drawn_->seed, Purpose::kPartition, static_cast<uint32_t>(draw), client);
  };
  // Training and testing draw the same mix; what has no examples is left out of it.
  std::vector<double> mix(classes);
  Rng mixing = stream(PartitionDraw::kMix);
  for (double& share : mix) share = log_gamma_variate(mixing, drawn_->alpha);
  for (size_t c = 0; c < classes; ++c)
    if (drawn_->class_starts[c] == drawn_->class_starts[c + 1])
      mix[c] = -std::numeric_limits<double>::infinity();
  std::vector<uint32_t> examples(drawn_->examples);
  if (examples.empty()) return examples;
  to_shares(mix);
  std::partial_sum(mix.begin(), mix.end(), mix.begin());
  Rng drawing = stream(drawn_->for_test ? PartitionDraw::kTestExamples : PartitionDraw::kExamples);
  for (uint32_t& example : examples) {
    // Below the last sum, which may differ a little from 1; an empty class has the sum of the one
    // before it, so it isn't found.
    const double point = drawing.uniform() * mix.back();
    const auto c = static_cast<size_t>(std::ranges::upper_bound(mix, point) - mix.begin());
    const uint32_t start = drawn_->class_starts[c];
    example = drawn_->by_class[start + drawing.below(drawn_->class_starts[c + 1] - start)];
  }
  std::ranges::sort(examples);
  return examples;
}

}  // namespace tern
