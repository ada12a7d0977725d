/// An evaluation of the published model by those who hold test data.
/// Threads: the loop's thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "base/status.h"
#include "proto/messages.h"

namespace tern {

/// Who was asked, and what they have reported. It is over when nobody is waited for any more: all
/// have reported, failed, gone, or were given up.
class ClientEvaluation {
 public:
  /// Of clients and evaluators, by number; in place of the last one.
  void begin(std::map<uint32_t, TaskId> asked);
  /// Nothing when it isn't waited for.
  std::optional<TaskId> task_of(uint32_t number) const;
  /// Who is still waited for.
  const std::map<uint32_t, TaskId>& asked() const { return asked_; }

  void give_up(uint32_t number) { asked_.erase(number); }
  void give_up_all() { asked_.clear(); }
  /// It is no longer waited for. `test_examples`: what it has announced. Errors: kInvalidArgument,
  /// a report that can't be; it doesn't count.
  Status report(uint32_t number, const EvaluationReport& report, uint32_t classes,
                uint32_t test_examples);

  /// Once for each begin(), when it is over: what was reported, by number.
  std::optional<std::vector<EvaluationReport>> take_if_over();

 private:
  bool under_way_ = false;
  std::map<uint32_t, TaskId> asked_;
  std::map<uint32_t, EvaluationReport> reports_;
};

}  // namespace tern
