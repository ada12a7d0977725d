#include "coordinator/round_machine.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <set>

namespace tern {

Schedule schedule_of(const FleetConfig& fleet) {
  if (fleet.schedule == "late-credit") return Schedule::kLateCredit;
  if (fleet.schedule == "fedbuff") return Schedule::kFedBuff;
  return Schedule::kSynchronous;
}

RoundMachine::RoundMachine(const RoundRules& rules, uint32_t first_round,
                           const CohortSelector& selector, EventSink& sink)
    : rules_(rules), selector_(selector), sink_(sink), round_(first_round - 1) {}

std::vector<RoundAction> RoundMachine::on(const RoundEvent& event, TimePoint now) {
  return std::visit([&](const auto& e) { return handle(e, now); }, event);
}

RoundMachine::Actions RoundMachine::handle(const BeginRound& event, TimePoint now) {
  if (state_ != State::kBetweenRounds) return {};
  Actions actions;
  if (stop_ || round_ >= rules_.rounds) {
    state_ = State::kFinished;
    const bool stopped = round_ < rules_.rounds;
    sink_.on({"run_finished", {{"round", int64_t{round_}}, {"stopped", int64_t{stopped}}}});
    actions.push_back(FinishRun{stopped});
    return actions;
  }
  ++round_;
  state_ = State::kCollecting;
  asked_ = counted_ = 0;
  carry_over(actions);
  const uint32_t wanted = rules_.schedule == Schedule::kFedBuff
                              ? rules_.asked - std::min(rules_.asked, open_)
                              : rules_.asked;
  std::optional<std::vector<uint32_t>> free;
  if (event.available || !tasks_.empty()) free = free_clients(event.available);
  const std::vector<uint32_t> asked = selector_.select(free, wanted, round_);
  sink_.on({"round_started",
            {{"round", int64_t{round_}},
             {"asked", static_cast<int64_t>(asked.size())},
             {"open", int64_t{open_}}}});
  for (const uint32_t client : asked) ask(client, actions);
  set_deadline(now, actions);
  return actions;
}

void RoundMachine::set_deadline(TimePoint now, Actions& actions) {
  deadline_at_.reset();
  std::optional<Duration> wait = rules_.deadline;
  if (const auto observed = selector_.deadline(); observed && (!wait || *observed < *wait))
    wait = observed;
  if (!wait) return;
  deadline_at_ = now + *wait;
  actions.push_back(SetTimer{*deadline_at_});
}

void RoundMachine::carry_over(Actions& actions) {
  if (!asynchronous()) {
    tasks_.clear();
    open_ = 0;
    return;
  }
  std::erase_if(tasks_, [](const auto& task) { return task.second.fate != Fate::kOpen; });
  for (auto it = tasks_.begin(); it != tasks_.end();) {
    const Task& task = it->second;
    if (round_ - task.round <= rules_.max_staleness) {
      ++it;
      continue;
    }
    Status reason = error(Code::kOutOfRange, "the task is of round {}, {} rounds ago", task.round,
                          round_ - task.round);
    sink_.on({"task_failed",
              {{"round", int64_t{round_}},
               {"client", int64_t{task.client}},
               {"reason", reason.describe()}}});
    actions.push_back(DropTask{it->first, task.client, std::move(reason)});
    --open_;
    it = tasks_.erase(it);
  }
}

std::vector<uint32_t> RoundMachine::free_clients(
    const std::optional<std::vector<uint32_t>>& available) const {
  std::set<uint32_t> taken;
  for (const auto& [id, task] : tasks_)
    if (task.fate == Fate::kOpen || task.round == round_) taken.insert(task.client);
  std::vector<uint32_t> all;
  if (!available) {
    all.resize(rules_.clients);
    std::iota(all.begin(), all.end(), 0u);
  }
  std::vector<uint32_t> free;
  std::ranges::set_difference(available ? *available : all, taken, std::back_inserter(free));
  return free;
}

void RoundMachine::ask(uint32_t client, Actions& actions) {
  const TaskId task = task_id(rules_.seed, round_, client);
  tasks_[task] = {.client = client, .round = round_};
  ++asked_;
  ++open_;
  actions.push_back(SendTask{task, client});
}

uint32_t RoundMachine::lacking() const {
  if (rules_.schedule != Schedule::kFedBuff || state_ != State::kCollecting) return 0;
  return rules_.asked - std::min(rules_.asked, open_);
}

RoundMachine::Actions RoundMachine::handle(const AskMore& event, TimePoint) {
  Actions actions;
  if (lacking() == 0) return actions;
  for (const uint32_t client :
       selector_.select(free_clients(event.available), lacking(), round_, asked_))
    ask(client, actions);
  if (open_ == 0) end_round(actions);  // everybody was asked, and nobody is left
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const ResumeRound& event, TimePoint now) {
  if (state_ != State::kBetweenRounds) return {};
  round_ = event.round;
  tasks_.clear();
  counted_ = event.counted;
  asked_ = open_ = 0;
  Actions actions;
  for (const ResumeRound::Known& known : event.tasks) {
    const TaskId task = task_id(rules_.seed, known.round, known.client);
    tasks_[task] = {.client = known.client, .round = known.round, .fate = known.fate};
    asked_ += known.round == round_;
    if (known.fate != Fate::kOpen) continue;
    ++open_;
    actions.push_back(SendTask{task, known.client});
  }
  if (event.ended) return actions;
  sink_.on(
      {"round_resumed",
       {{"round", int64_t{round_}}, {"counted", int64_t{counted_}}, {"asked", int64_t{asked_}}}});
  if (event.closed) {
    state_ = State::kEnding;
    return actions;
  }
  state_ = State::kCollecting;
  set_deadline(now, actions);  // clients lost time too: the round gets all of it again
  end_if_settled(actions);
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const UpdateArrived& event, TimePoint now) {
  const UpdateMessage& message = event.message;
  const auto found = tasks_.find(message.task);
  if (found == tasks_.end() || found->second.client != message.client)
    return refuse(message, error(Code::kNotFound, "no such task for client {}", message.client));
  Task& task = found->second;
  if (task.fate != Fate::kOpen)
    return refuse(message, error(Code::kInvalidArgument, "the task was already answered"));
  if (asynchronous()) {
    if (state_ != State::kCollecting) return {HoldUpdate{message}};
  } else if (state_ != State::kCollecting || (deadline_at_ && now > *deadline_at_)) {
    Actions actions = refuse(message, error(Code::kOutOfRange, "round {} is over", round_));
    if (state_ == State::kCollecting) end_round(actions);
    return actions;
  }
  --open_;
  Actions actions;
  if (!event.check.ok()) {
    task.fate = Fate::kRefused;
    actions = refuse(message, event.check);
  } else {
    task.fate = Fate::kCounted;
    ++counted_;
    sink_.on({"update_counted",
              {{"round", int64_t{round_}},
               {"client", int64_t{message.client}},
               {"staleness", int64_t{event.staleness}}}});
    actions.push_back(CountUpdate{message});
  }
  end_if_settled(actions);
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const TaskFailed& event, TimePoint) {
  const auto found = tasks_.find(event.task);
  if (found == tasks_.end() || found->second.fate != Fate::kOpen) return {};
  found->second.fate = Fate::kRefused;
  sink_.on({"task_failed",
            {{"round", int64_t{round_}},
             {"client", int64_t{found->second.client}},
             {"reason", event.reason.describe()}}});
  --open_;
  Actions actions;
  if (state_ == State::kCollecting) end_if_settled(actions);
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const TimerFired&, TimePoint now) {
  Actions actions;
  if (state_ == State::kCollecting && deadline_at_ && now >= *deadline_at_) end_round(actions);
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const RoundEnded&, TimePoint) {
  if (state_ != State::kEnding) return {};
  state_ = State::kBetweenRounds;
  const bool scheduled =
      round_ == rules_.rounds || (rules_.evaluate_every > 0 && round_ % rules_.evaluate_every == 0);
  if (scheduled || stop_) return {EvaluateModel{round_, scheduled}};
  return {};
}

RoundMachine::Actions RoundMachine::handle(const StopRequested&, TimePoint) {
  stop_ = true;
  return {};
}

RoundMachine::Actions RoundMachine::refuse(const UpdateMessage& message, Status reason) {
  sink_.on({"update_refused",
            {{"round", int64_t{round_}},
             {"client", int64_t{message.client}},
             {"reason", reason.describe()}}});
  return {RefuseUpdate{message, std::move(reason)}};
}

void RoundMachine::end_if_settled(Actions& actions) {
  // Under FedBuff somebody else may be asked yet.
  const bool nobody_is_left = open_ == 0 && rules_.schedule != Schedule::kFedBuff;
  if (counted_ == rules_.cohort || nobody_is_left) end_round(actions);
}

void RoundMachine::end_round(Actions& actions) {
  state_ = State::kEnding;
  if (counted_ >= rules_.min_updates && counted_ > 0) {
    sink_.on({"round_closed", {{"round", int64_t{round_}}, {"counted", int64_t{counted_}}}});
    actions.push_back(CloseRound{round_, counted_});
  } else {
    sink_.on({"round_void", {{"round", int64_t{round_}}, {"counted", int64_t{counted_}}}});
    actions.push_back(VoidRound{round_, counted_});
  }
}

}  // namespace tern
