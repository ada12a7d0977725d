/// What tests of the round machine ask of its actions, and the events that they answer with.
#pragma once

#include <cstdint>
#include <utility>
#include <variant>
#include <vector>

#include "coordinator/round_machine.h"

namespace tern {

struct OwnSelector {
  CohortSelector selector;
};
/// A machine with the selector that its rules ask for.
class TestMachine : public OwnSelector, public RoundMachine {
 public:
  TestMachine(const RoundRules& rules, uint32_t first_round, EventSink& sink,
              FleetConfig fleet = {})
      : OwnSelector{CohortSelector(scenario_of(rules, std::move(fleet)), rules.clients)},
        RoundMachine(rules, first_round, selector, sink) {}

 private:
  static Scenario scenario_of(const RoundRules& rules, FleetConfig fleet) {
    fleet.cohort = rules.asked;
    return {.seed = rules.seed, .fleet = std::move(fleet)};
  }
};

/// The actions of one kind.
template <typename T>
std::vector<T> only(const std::vector<RoundAction>& actions) {
  std::vector<T> found;
  for (const RoundAction& action : actions)
    if (const T* one = std::get_if<T>(&action)) found.push_back(*one);
  return found;
}

inline std::vector<uint32_t> clients_of(const std::vector<SendTask>& tasks) {
  std::vector<uint32_t> clients;
  clients.reserve(tasks.size());
  for (const SendTask& task : tasks) clients.push_back(task.client);
  return clients;
}

inline UpdateArrived update_of(const SendTask& task, Status check = {}) {
  return {.message = {.task = task.task, .client = task.client, .report = {.examples = 5}},
          .check = std::move(check)};
}

}  // namespace tern
