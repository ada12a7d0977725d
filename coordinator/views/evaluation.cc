#include "coordinator/views/evaluation.h"

#include <algorithm>
#include <cfloat>
#include <numeric>

namespace tern {

namespace {

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

/// By class; 64 bits, so that no number of clients can make a sum wrap.
using Counts = std::vector<uint64_t>;

template <typename Numbers>
uint64_t sum(const Numbers& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

/// Accuracy, macro F1 and the figures of each class, from counts by class.
void add_class_figures(const Counts& of_class, const Counts& as_class, const Counts& right,
                       Evaluation& result) {
  result.accuracy = share(static_cast<double>(sum(right)), static_cast<double>(sum(of_class)));
  double f1_sum = 0;
  uint32_t occurring = 0;
  for (size_t c = 0; c < of_class.size(); ++c) {
    const auto all = static_cast<double>(of_class[c]), found = static_cast<double>(as_class[c]),
               hits = static_cast<double>(right[c]);
    ClassFigures figures{
        .examples = static_cast<uint32_t>(std::min<uint64_t>(of_class[c], UINT32_MAX)),
        .recall = share(hits, all),
        .precision = share(hits, found),
        .f1 = share(2 * hits, all + found)};
    if (of_class[c] > 0) {
      ++occurring;
      f1_sum += figures.f1;
    }
    result.classes.push_back(figures);
  }
  result.macro_f1 = share(f1_sum, occurring);
}

void add_worst_decile(Evaluation& result) {
  std::vector<double> accuracies;
  accuracies.reserve(result.clients.size());
  for (const ClientFigures& client : result.clients) accuracies.push_back(client.accuracy);
  std::ranges::sort(accuracies);
  const size_t worst = (accuracies.size() + 9) / 10;
  double worst_sum = 0;
  for (size_t i = 0; i < worst; ++i) worst_sum += accuracies[i];
  result.worst_decile_client_accuracy = share(worst_sum, static_cast<double>(worst));
}

}  // namespace

Evaluation summarize_evaluation(std::span<const EvaluationPart> parts,
                                std::span<const uint32_t> labels, uint32_t classes,
                                std::span<const std::vector<uint32_t>> clients,
                                uint32_t labels_each) {
  std::vector<uint32_t> predicted;
  std::vector<float> losses;
  predicted.reserve(labels.size());
  losses.reserve(labels.size());
  double loss = 0;
  for (const EvaluationPart& part : parts) {
    predicted.insert(predicted.end(), part.predicted.begin(), part.predicted.end());
    losses.insert(losses.end(), part.loss.begin(), part.loss.end());
    for (const float example : part.loss) loss += example;
  }
  Evaluation result;
  result.loss = share(loss, static_cast<double>(labels.size()));

  Counts of_class(classes), as_class(classes), right(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    ++of_class[labels[i]];
    ++as_class[predicted[i]];
    if (predicted[i] == labels[i]) ++right[labels[i]];
  }
  add_class_figures(of_class, as_class, right, result);
  for (size_t client = 0; client < clients.size(); ++client) {
    if (clients[client].empty()) continue;
    size_t hits = 0;
    double client_loss = 0;
    for (const uint32_t example : clients[client])
      for (size_t i = size_t{example} * labels_each; i < (size_t{example} + 1) * labels_each; ++i) {
        hits += predicted[i] == labels[i];
        client_loss += losses[i];
      }
    const size_t seen = clients[client].size() * labels_each;
    result.clients.push_back(
        {.client = static_cast<uint32_t>(client),
         .examples = static_cast<uint32_t>(seen),
         .accuracy = share(static_cast<double>(hits), static_cast<double>(seen)),
         .loss = share(client_loss, static_cast<double>(seen))});
  }
  add_worst_decile(result);
  return result;
}

Status check_report(const EvaluationReport& report, uint32_t classes) {
  if (report.examples.size() != classes || report.predicted.size() != classes ||
      report.correct.size() != classes)
    return error(Code::kInvalidArgument, "a report on {} classes, the task has {}",
                 report.examples.size(), classes);
  for (uint32_t c = 0; c < classes; ++c)
    if (report.correct[c] > std::min(report.examples[c], report.predicted[c]))
      return error(Code::kInvalidArgument, "a report with more hits than examples of class {}", c);
  // Each example's loss is a float: of however many reports, their sum is a number.
  const double most_loss = static_cast<double>(sum(report.examples)) * double{FLT_MAX};
  if (sum(report.predicted) != sum(report.examples) || !(report.loss_sum >= 0) ||
      report.loss_sum > most_loss)
    return error(Code::kInvalidArgument, "a report whose figures don't add up");
  return {};
}

Evaluation summarize_reports(std::span<const EvaluationReport> reports, uint32_t classes,
                             uint32_t clients) {
  Evaluation result;
  Counts of_class(classes), as_class(classes), right(classes);
  double loss = 0;
  for (const EvaluationReport& report : reports) {
    loss += report.loss_sum;
    for (uint32_t c = 0; c < classes; ++c) {
      of_class[c] += report.examples[c];
      as_class[c] += report.predicted[c];
      right[c] += report.correct[c];
    }
    const uint64_t examples = sum(report.examples);
    if (report.client < clients && examples > 0)
      result.clients.push_back({.client = report.client,
                                .examples = static_cast<uint32_t>(examples),
                                .accuracy = share(static_cast<double>(sum(report.correct)),
                                                  static_cast<double>(examples)),
                                .loss = share(report.loss_sum, static_cast<double>(examples))});
  }
  result.loss = share(loss, static_cast<double>(sum(of_class)));
  add_class_figures(of_class, as_class, right, result);
  add_worst_decile(result);
  return result;
}

}  // namespace tern
