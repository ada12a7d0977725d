#include "coordinator/round_machine.h"

#include "coordinator/selection.h"

namespace tern {

RoundMachine::RoundMachine(const RoundRules& rules, uint32_t first_round, EventSink& sink)
    : rules_(rules), sink_(sink), round_(first_round - 1) {}

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
  tasks_.clear();
  counted_ = 0;
  const std::vector<uint32_t> asked =
      event.available
          ? select_available(*event.available, rules_.clients, rules_.asked, rules_.seed, round_)
          : select_uniform(rules_.clients, rules_.asked, rules_.seed, round_);
  open_ = static_cast<uint32_t>(asked.size());
  sink_.on({"round_started", {{"round", int64_t{round_}}, {"asked", int64_t{open_}}}});
  for (const uint32_t client : asked) {
    const TaskId task = task_id(rules_.seed, round_, client);
    tasks_[task] = {.client = client};
    actions.push_back(SendTask{task, client});
  }
  deadline_at_.reset();
  if (rules_.deadline) {
    deadline_at_ = now + *rules_.deadline;
    actions.push_back(SetTimer{*deadline_at_});
  }
  return actions;
}

RoundMachine::Actions RoundMachine::handle(const ResumeRound& event, TimePoint now) {
  if (state_ != State::kBetweenRounds) return {};
  round_ = event.round;
  tasks_.clear();
  counted_ = open_ = 0;
  Actions actions;
  for (const ResumeRound::Known& known : event.tasks) {
    const TaskId task = task_id(rules_.seed, round_, known.client);
    tasks_[task] = {.client = known.client, .fate = known.fate};
    counted_ += known.fate == Fate::kCounted;
    if (known.fate != Fate::kOpen) continue;
    ++open_;
    actions.push_back(SendTask{task, known.client});
  }
  sink_.on({"round_resumed",
            {{"round", int64_t{round_}},
             {"counted", int64_t{counted_}},
             {"asked", static_cast<int64_t>(tasks_.size())}}});
  deadline_at_.reset();
  if (event.closed) {
    state_ = State::kEnding;
    return {};
  }
  state_ = State::kCollecting;
  // Clients lost time too: the round gets all of it again.
  if (rules_.deadline) {
    deadline_at_ = now + *rules_.deadline;
    actions.push_back(SetTimer{*deadline_at_});
  }
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
  if (state_ != State::kCollecting || (deadline_at_ && now > *deadline_at_)) {
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
    sink_.on({"update_counted", {{"round", int64_t{round_}}, {"client", int64_t{message.client}}}});
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
  if (state_ != State::kCollecting) return {};
  --open_;
  Actions actions;
  end_if_settled(actions);
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
  if (counted_ == rules_.cohort || open_ == 0) end_round(actions);
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
