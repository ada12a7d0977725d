#include "coordinator/views/evaluation.h"

#include <algorithm>
#include <numeric>

namespace tern {

namespace {

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

using Counts = std::span<const uint32_t>;

uint64_t sum(Counts counts) { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }

/// Accuracy, macro F1 and the figures of each class, from counts by class.
void add_class_figures(Counts of_class, Counts as_class, Counts right, Evaluation& result) {
  result.accuracy = share(static_cast<double>(sum(right)), static_cast<double>(sum(of_class)));
  double f1_sum = 0;
  uint32_t occurring = 0;
  for (size_t c = 0; c < of_class.size(); ++c) {
    ClassFigures figures{.examples = of_class[c],
                         .recall = share(right[c], of_class[c]),
                         .precision = share(right[c], as_class[c])};
    figures.f1 = share(2.0 * right[c], double{1} * of_class[c] + as_class[c]);
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
                                std::span<const std::vector<uint32_t>> clients) {
  std::vector<uint32_t> predicted;
  predicted.reserve(labels.size());
  double loss = 0;
  for (const EvaluationPart& part : parts) {
    predicted.insert(predicted.end(), part.predicted.begin(), part.predicted.end());
    for (const float example : part.loss) loss += example;
  }
  Evaluation result;
  result.loss = share(loss, static_cast<double>(labels.size()));

  std::vector<uint32_t> of_class(classes), as_class(classes), right(classes);
  for (size_t i = 0; i < labels.size(); ++i) {
    ++of_class[labels[i]];
    ++as_class[predicted[i]];
    if (predicted[i] == labels[i]) ++right[labels[i]];
  }
  add_class_figures(of_class, as_class, right, result);
  for (size_t client = 0; client < clients.size(); ++client) {
    if (clients[client].empty()) continue;
    const auto hits = std::ranges::count_if(clients[client],
                                            [&](uint32_t i) { return predicted[i] == labels[i]; });
    const auto examples = static_cast<uint32_t>(clients[client].size());
    result.clients.push_back(
        {static_cast<uint32_t>(client), examples, share(static_cast<double>(hits), examples)});
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
  if (sum(report.predicted) != sum(report.examples) || !(report.loss_sum >= 0))
    return error(Code::kInvalidArgument, "a report whose figures don't add up");
  return {};
}

Evaluation summarize_reports(std::span<const EvaluationReport> reports, uint32_t classes,
                             uint32_t clients) {
  Evaluation result;
  std::vector<uint32_t> of_class(classes), as_class(classes), right(classes);
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
      result.clients.push_back(
          {report.client, static_cast<uint32_t>(examples),
           share(static_cast<double>(sum(report.correct)), static_cast<double>(examples))});
  }
  result.loss = share(loss, static_cast<double>(sum(of_class)));
  add_class_figures(of_class, as_class, right, result);
  add_worst_decile(result);
  return result;
}

}  // namespace tern
