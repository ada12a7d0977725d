/// The protocol of rounds without any I/O: events in, actions out. The simulator, the daemon and
/// the fault tests drive this same machine; whoever drives it carries out the actions and reports
/// back with events.
///
/// - BeginRound: SendTask for each client of the cohort, SetTimer; or FinishRun. ResumeRound:
///   SendTask for those without an answer.
/// - UpdateArrived: CountUpdate or RefuseUpdate. Enough are counted, or nobody is left: CloseRound
///   or VoidRound.
/// - RoundEnded: EvaluateModel when due; then the next BeginRound.
///
/// A round is what leads to one version. Its schedule says what becomes of tasks that outlive it:
/// - synchronous: they are refused as too late.
/// - late credit: they stay open, and count in whatever round their updates arrive in. Each round
///   asks clients that aren't busy.
/// - FedBuff (Nguyen et al. 2022, arXiv:2106.06639; the cohort is its buffer K, `asked` its
///   concurrency): they stay open, too, and whenever a task ends another client is asked at once
///   (AskMore). The paper's clients come by themselves; ours are drawn among those that are free.
/// Under the last two an update that arrives while a version is made is held for the next round
/// (HoldUpdate), and a task that is too old is given up (DropTask). In any schedule a client has
/// one task at a time, and is asked once a round at most: a second task of the same round would
/// train on the same batches.
///
/// Threads: one thread owns the machine.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/event.h"
#include "base/status.h"
#include "config/scenario.h"
#include "coordinator/cohort_selector.h"
#include "proto/messages.h"

namespace tern {

enum class Schedule { kSynchronous, kLateCredit, kFedBuff };
Schedule schedule_of(const FleetConfig& fleet);

struct RoundRules {
  uint64_t seed = 1;
  uint32_t clients = 0;
  uint32_t rounds = 0;
  uint32_t cohort = 0;               ///< updates that a round wants
  uint32_t asked = 0;                ///< clients asked for them
  uint32_t min_updates = 0;          ///< fewer at the end: the round is void
  std::optional<Duration> deadline;  ///< beside the selector's
  uint32_t evaluate_every = 10;
  Schedule schedule = Schedule::kSynchronous;
  uint32_t max_staleness = 20;  ///< rounds that a task may outlive its own
};

// ---- Events

struct BeginRound {
  /// Clients that can be asked, in increasing order; without it all of them. At least one.
  std::optional<std::vector<uint32_t>> available;
};
/// A round that began before a restart, and what is known of its tasks and of open older ones.
struct ResumeRound {
  uint32_t round = 0;
  struct Known {
    uint32_t client = 0;
    uint32_t round = 0;  ///< in which it was asked
    Fate fate = Fate::kOpen;
  };
  std::vector<Known> tasks;
  uint32_t counted = 0;
  bool closed = false;  ///< nothing more is counted: RoundEnded follows
  bool ended = false;   ///< that, too: BeginRound follows
};
/// An update was received and checked (dry decode); `check` says whether its frame may be counted.
struct UpdateArrived {
  UpdateMessage message;
  Status check;
  uint32_t staleness = 0;  ///< versions between the one that it is based on and the newest
};
/// A client can't do its task.
struct TaskFailed {
  TaskId task = 0;
  Status reason;
};
/// Under FedBuff, when lacking() isn't 0: ask others in place of those whose tasks have ended.
struct AskMore {
  std::optional<std::vector<uint32_t>> available;  ///< as in BeginRound; may be empty
};
/// Time has passed; a deadline may be over.
struct TimerFired {};
/// What CloseRound or VoidRound asked for is done.
struct RoundEnded {};
/// End the run after the round at hand.
struct StopRequested {};
using RoundEvent = std::variant<BeginRound, ResumeRound, UpdateArrived, TaskFailed, AskMore,
                                TimerFired, RoundEnded, StopRequested>;

// ---- Actions

struct SendTask {
  TaskId task = 0;
  uint32_t client = 0;
};
struct SetTimer {
  TimePoint at{};
};
/// Add the update to the sum and acknowledge it.
struct CountUpdate {
  UpdateMessage message;
};
struct RefuseUpdate {
  UpdateMessage message;
  Status reason;
};
/// Report it again once the next round has begun; its client isn't answered until then.
struct HoldUpdate {
  UpdateMessage message;
};
/// The task ends here, whatever comes of it: its model is too old. Before the SendTasks.
struct DropTask {
  TaskId task = 0;
  uint32_t client = 0;
  Status reason;
};
/// Aggregate what was counted and publish the next version.
struct CloseRound {
  uint32_t round = 0;
  uint32_t counted = 0;
};
/// Too few updates: the model stays as it is.
struct VoidRound {
  uint32_t round = 0;
  uint32_t counted = 0;
};
struct EvaluateModel {
  uint32_t round = 0;
  bool scheduled = true;  ///< false: only because the run was stopped here
};
struct FinishRun {
  bool stopped = false;  ///< by StopRequested, before the last round
};
using RoundAction = std::variant<SendTask, SetTimer, CountUpdate, RefuseUpdate, HoldUpdate,
                                 DropTask, CloseRound, VoidRound, EvaluateModel, FinishRun>;

class RoundMachine {
 public:
  /// `first_round` is the number of the next round to begin: 1, or later when a run is resumed.
  /// Needs 0 < cohort <= asked <= clients and min_updates <= cohort (config checks them).
  /// `selector` and `sink` outlive the machine.
  RoundMachine(const RoundRules& rules, uint32_t first_round, const CohortSelector& selector,
               EventSink& sink);

  std::vector<RoundAction> on(const RoundEvent& event, TimePoint now);

  uint32_t round() const { return round_; }  ///< at hand, or the last one
  bool finished() const { return state_ == State::kFinished; }
  /// Clients that FedBuff would have at work beside those that are.
  uint32_t lacking() const;

 private:
  enum class State { kBetweenRounds, kCollecting, kEnding, kFinished };
  struct Task {
    uint32_t client = 0;
    uint32_t round = 0;
    Fate fate = Fate::kOpen;
  };
  using Actions = std::vector<RoundAction>;

  Actions handle(const BeginRound& event, TimePoint now);
  Actions handle(const ResumeRound& event, TimePoint now);
  Actions handle(const UpdateArrived& event, TimePoint now);
  Actions handle(const TaskFailed& event, TimePoint now);
  Actions handle(const AskMore& event, TimePoint now);
  Actions handle(const TimerFired&, TimePoint now);
  Actions handle(const RoundEnded&, TimePoint now);
  Actions handle(const StopRequested&, TimePoint now);

  bool asynchronous() const { return rules_.schedule != Schedule::kSynchronous; }
  /// Leaves the tasks that outlive the rounds before this one.
  void carry_over(Actions& actions);
  std::vector<uint32_t> free_clients(const std::optional<std::vector<uint32_t>>& available) const;
  void ask(uint32_t client, Actions& actions);
  void set_deadline(TimePoint now, Actions& actions);
  Actions refuse(const UpdateMessage& message, Status reason);
  void end_if_settled(Actions& actions);
  void end_round(Actions& actions);

  RoundRules rules_;
  const CohortSelector& selector_;
  EventSink& sink_;
  State state_ = State::kBetweenRounds;
  uint32_t round_;
  bool stop_ = false;
  std::map<TaskId, Task> tasks_;  // of the round at hand, and older ones that are open
  uint32_t asked_ = 0;            // in the round at hand
  uint32_t counted_ = 0;
  uint32_t open_ = 0;  // tasks whose fate isn't known
  std::optional<TimePoint> deadline_at_;
};

}  // namespace tern
