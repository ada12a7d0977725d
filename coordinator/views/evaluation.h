/// Figures of a model on the test data.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"
#include "proto/training.h"

namespace tern {

struct ClassFigures {
  uint32_t examples = 0;  ///< at most 2^32 - 1; of texts, characters
  double recall = 0;      ///< the share of the class's examples that are recognized
  double precision = 0;
  double f1 = 0;
};

struct ClientFigures {
  uint32_t client = 0;
  uint32_t examples = 0;  ///< of texts, characters
  double accuracy = 0;
  double loss = 0;  ///< mean cross-entropy in nats
};

struct Evaluation {
  double accuracy = 0;  ///< a fraction
  double loss = 0;      ///< mean cross-entropy in nats
  double macro_f1 = 0;  ///< mean over the classes that occur in the test data
  double worst_decile_client_accuracy =
      0;  ///< mean of the lowest tenth (rounded up) of the clients with test data
  std::vector<ClassFigures> classes;
  std::vector<ClientFigures> clients;  ///< those with test data
};

/// `parts` cover `labels` in order; `clients` says which test examples are whose, and an example
/// has `labels_each` labels. Sums run in a fixed order.
Evaluation summarize_evaluation(std::span<const EvaluationPart> parts,
                                std::span<const uint32_t> labels, uint32_t classes,
                                std::span<const std::vector<uint32_t>> clients,
                                uint32_t labels_each = 1);

/// Is a hostile report possible? Errors: kInvalidArgument.
Status check_report(const EvaluationReport& report, uint32_t classes);
/// The same figures from checked reports of clients, or of one evaluator (a client number from
/// `clients` on) that holds all test data. Sums run in the order given.
Evaluation summarize_reports(std::span<const EvaluationReport> reports, uint32_t classes,
                             uint32_t clients);

}  // namespace tern
