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
#include "proto/messages.h"

namespace tern {

struct RoundRules {
  uint64_t seed = 1;
  uint32_t clients = 0;
  uint32_t rounds = 0;
  uint32_t cohort = 0;       ///< updates that a round wants
  uint32_t asked = 0;        ///< clients asked for them
  uint32_t min_updates = 0;  ///< fewer at the end: the round is void
  std::optional<Duration> deadline;
  uint32_t evaluate_every = 10;
};

// ---- Events

struct BeginRound {
  /// Clients that can be asked, in increasing order; without it all of them. At least one.
  std::optional<std::vector<uint32_t>> available;
};
/// A round that began before a restart, and what is known of its tasks.
struct ResumeRound {
  uint32_t round = 0;
  struct Known {
    uint32_t client = 0;
    Fate fate = Fate::kOpen;
  };
  std::vector<Known> tasks;
  bool closed = false;  ///< nothing more is counted: RoundEnded follows
};
/// An update was received and checked (dry decode); `check` says whether its frame may be counted.
struct UpdateArrived {
  UpdateMessage message;
  Status check;
};
/// A client can't do its task.
struct TaskFailed {
  TaskId task = 0;
  Status reason;
};
/// Time has passed; a deadline may be over.
struct TimerFired {};
/// What CloseRound or VoidRound asked for is done.
struct RoundEnded {};
/// End the run after the round at hand.
struct StopRequested {};
using RoundEvent = std::variant<BeginRound, ResumeRound, UpdateArrived, TaskFailed, TimerFired,
                                RoundEnded, StopRequested>;

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
using RoundAction = std::variant<SendTask, SetTimer, CountUpdate, RefuseUpdate, CloseRound,
                                 VoidRound, EvaluateModel, FinishRun>;

class RoundMachine {
 public:
  /// `first_round` is the number of the next round to begin: 1, or later when a run is resumed.
  /// Needs 0 < cohort <= asked <= clients and min_updates <= cohort (config checks them).
  /// `sink` outlives the machine.
  RoundMachine(const RoundRules& rules, uint32_t first_round, EventSink& sink);

  std::vector<RoundAction> on(const RoundEvent& event, TimePoint now);

  uint32_t round() const { return round_; }  ///< at hand, or the last one
  bool finished() const { return state_ == State::kFinished; }

 private:
  enum class State { kBetweenRounds, kCollecting, kEnding, kFinished };
  struct Task {
    uint32_t client = 0;
    Fate fate = Fate::kOpen;
  };
  using Actions = std::vector<RoundAction>;

  Actions handle(const BeginRound& event, TimePoint now);
  Actions handle(const ResumeRound& event, TimePoint now);
  Actions handle(const UpdateArrived& event, TimePoint now);
  Actions handle(const TaskFailed& event, TimePoint now);
  Actions handle(const TimerFired&, TimePoint now);
  Actions handle(const RoundEnded&, TimePoint now);
  Actions handle(const StopRequested&, TimePoint now);

  Actions refuse(const UpdateMessage& message, Status reason);
  void end_if_settled(Actions& actions);
  void end_round(Actions& actions);

  RoundRules rules_;
  EventSink& sink_;
  State state_ = State::kBetweenRounds;
  uint32_t round_;
  bool stop_ = false;
  std::map<TaskId, Task> tasks_;  // of the round at hand
  uint32_t counted_ = 0;
  uint32_t open_ = 0;  // tasks whose fate isn't known
  std::optional<TimePoint> deadline_at_;
};

}  // namespace tern
