/// What the program tern-coordinator does between its command line and its exit status.
#pragma once

#include <nlohmann/json.hpp>

#include "base/log_view.h"
#include "base/status.h"
#include "config/load.h"

namespace tern {

struct CoordinatorDaemonOptions {
  LogLevel log_level = LogLevel::kInfo;
  /// Tests only: opens the port without a ZAP handler, which the self-probe has to find out.
  bool without_zap_handler = false;
};

struct DaemonResult {
  nlohmann::ordered_json summary;  ///< the object of summary.json
  bool interrupted = false;
};

/// Serves one run until its last round, or until SIGTERM or SIGINT, and writes the results to
/// server.state_dir as a simulation does to its --out. SIGHUP reads the list of clients again.
/// Errors: kInvalidArgument, kNotFound, kInUse (the port, the folder), kIo, kNoSpace, kOutOfRange
/// when training diverges.
Result<DaemonResult> run_coordinator(const LoadedScenario& loaded,
                                     const CoordinatorDaemonOptions& options);

}  // namespace tern
