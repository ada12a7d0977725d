/// What real devices were measured to do, from CSV files with a line of column names:
///
/// - fleet.devices, a row a device: `samples_per_s`, or FedScale's `computation` (milliseconds that
///   one example takes forwards; three times as long to train on, as FedScale reckons);
///   `uplink_bytes_per_s` and `downlink_bytes_per_s`, or FedScale's `communication` (kbit/s, both
///   ways). What no column says takes no time. Client i is row i, from the first again after the
///   last.
/// - fleet.availability, a row a window, in seconds: `client`, `active` and `inactive` (from when
///   to when it can be asked), `finish_time` (after which its trace repeats). Client i has the
///   windows of the i-th client of the file, in the order of first rows, likewise.
///
/// Other columns are passed over. FedScale: Lai et al. 2022 (arXiv:2105.11367); its traces are
/// Python pickles with these fields.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/scenario.h"

namespace tern {

/// A second each; 0: takes no time.
struct DeviceCapacity {
  double samples = 0, up_bytes = 0, down_bytes = 0;
};

/// When a device can be asked: again and again after `period` seconds.
struct Availability {
  struct Window {
    double from = 0, until = 0;  ///< 0 <= from < until <= period
  };
  double period = 0;
  std::vector<Window> windows;  ///< in order, apart

  /// Seconds for which it stays from `now` on; 0 when it isn't there. Infinite if it never leaves.
  double stays(double now) const;
  /// Seconds until its next window begins, more than 0; infinite if there is none.
  double comes(double now) const;
};

struct DeviceTraces {
  std::vector<DeviceCapacity> devices;       ///< empty: the scenario says it
  std::vector<Availability> availabilities;  ///< empty: everybody is always there
};

/// Errors: kNotFound, kIo; kCorrupt and kInvalidArgument with Where{file, line} and the column's
/// name.
Result<DeviceTraces> read_device_traces(const FleetConfig& fleet);

/// How many of so many clients are there at once at most; where their periods differ, no more than
/// this, which is all that are ever there. Cost: O(windows x log windows).
uint32_t most_at_once(const DeviceTraces& traces, uint32_t clients);

}  // namespace tern
