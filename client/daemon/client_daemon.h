/// What tern-client and `tern evaluate --attach` do between their command lines and exit statuses.
#pragma once

#include <functional>

#include "base/event.h"
#include "base/status.h"
#include "config/load.h"

namespace tern {

/// What a client's program adds to a session.
struct ClientDaemonOptions {
  /// Holds no examples to train on, and all of the test part to evaluate on: what an evaluator that
  /// the coordinator's list names does.
  bool evaluator = false;
  /// Ends the process: called when a signal comes in the middle of a task, which can't be broken
  /// off and may take long. Without it the task is waited for.
  std::function<void()> end_now;
};

/// Takes part in a run until it is finished: gives false, or true when SIGTERM or SIGINT ended it
/// before. Errors: kInvalidArgument, kNotFound, kInUse (the state folder), kIo, kCorrupt, and what
/// the coordinator refuses this client for.
Result<bool> run_client(const LoadedScenario& loaded, const ClientDaemonOptions& options,
                        EventSink& events);

}  // namespace tern
