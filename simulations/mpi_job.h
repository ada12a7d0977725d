/// The processes of an MPI job (mpirun): rank 0 runs the fleet, the others work for it. A program
/// that isn't started by mpirun is alone and never touches MPI.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "simulations/prepare.h"
#include "simulations/work_place.h"

namespace tern {

/// Threads: one, at a time.
class MpiJob {
 public:
  /// Nothing when this process is alone. Errors: kUnsupported when mpirun started it and this build
  /// has no MPI, or the library can't be used by several threads.
  static Result<std::unique_ptr<MpiJob>> join();
  /// Rank 0: ends the others. Waits for all.
  virtual ~MpiJob() = default;

  virtual bool leads() const = 0;  ///< rank 0
  /// Processes of the job on this machine.
  virtual size_t here() const = 0;

  /// Rank 0: gives the other processes the scenario to prepare, and one work place for each worker
  /// that they have. Errors: what another process can't prepare, naming its rank and host;
  /// kInvalidArgument when its data differ from what is prepared here. `warning`, for the user:
  /// where another process would compute other bits.
  virtual Result<std::vector<std::shared_ptr<WorkPlace>>> open(const PreparedScenario& prepared,
                                                               std::string& warning) = 0;
  /// The others: works with so many threads until rank 0 ends the job; what they can't prepare is
  /// rank 0's to say. `broken` hears of an error of serve_work, from the thread that it is the end
  /// of: rank 0 waits for that thread, so it should end_all().
  virtual Status serve(size_t workers, const std::function<void(const Status&)>& broken) = 0;
  /// Ends all processes of the job at once.
  virtual void end_all() = 0;
};

}  // namespace tern
