#include "coordinator/client_evaluation.h"

#include <utility>

#include "coordinator/views/evaluation.h"

namespace tern {

void ClientEvaluation::begin(std::map<uint32_t, TaskId> asked) {
  asked_ = std::move(asked);
  reports_.clear();
  under_way_ = true;
}

std::optional<TaskId> ClientEvaluation::task_of(uint32_t number) const {
  const auto found = asked_.find(number);
  if (found == asked_.end()) return std::nullopt;
  return found->second;
}

Status ClientEvaluation::report(uint32_t number, const EvaluationReport& report, uint32_t classes,
                                uint32_t test_examples) {
  asked_.erase(number);
  TERN_CHECK_OK(check_report(report, classes));
  uint64_t examples = 0;
  for (const uint32_t count : report.examples) examples += count;
  if (examples != test_examples)
    return error(Code::kInvalidArgument, "a report on {} examples, the client announced {}",
                 examples, test_examples);
  reports_.emplace(number, report).first->second.client = number;
  return {};
}

std::optional<std::vector<EvaluationReport>> ClientEvaluation::take_if_over() {
  if (!under_way_ || !asked_.empty()) return std::nullopt;
  under_way_ = false;
  std::vector<EvaluationReport> reports;
  reports.reserve(reports_.size());
  for (auto& [number, report] : reports_) reports.push_back(std::move(report));
  return reports;
}

}  // namespace tern
