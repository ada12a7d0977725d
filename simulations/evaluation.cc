#include "simulations/evaluation.h"

#include <algorithm>

namespace tern {

namespace {

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

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
  uint32_t all_right = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    ++of_class[labels[i]];
    ++as_class[predicted[i]];
    if (predicted[i] != labels[i]) continue;
    ++right[labels[i]];
    ++all_right;
  }
  result.accuracy = share(all_right, static_cast<double>(labels.size()));
  double f1_sum = 0;
  uint32_t occurring = 0;
  for (uint32_t c = 0; c < classes; ++c) {
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

  std::vector<double> accuracies;
  for (size_t client = 0; client < clients.size(); ++client) {
    if (clients[client].empty()) continue;
    const auto hits = std::ranges::count_if(clients[client],
                                            [&](uint32_t i) { return predicted[i] == labels[i]; });
    const auto examples = static_cast<uint32_t>(clients[client].size());
    result.clients.push_back(
        {static_cast<uint32_t>(client), examples, share(static_cast<double>(hits), examples)});
    accuracies.push_back(result.clients.back().accuracy);
  }
  std::ranges::sort(accuracies);
  const size_t worst = (accuracies.size() + 9) / 10;
  double worst_sum = 0;
  for (size_t i = 0; i < worst; ++i) worst_sum += accuracies[i];
  result.worst_decile_client_accuracy = share(worst_sum, static_cast<double>(worst));
  return result;
}

}  // namespace tern
