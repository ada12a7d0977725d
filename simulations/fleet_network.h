/// What connects the clients of a fleet in one process to its coordinator: the loop that all of
/// them live on, and a transport.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/loop.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "coordinator/coordinator.h"
#include "proto/keys.h"
#include "proto/transport.h"
#include "simulations/devices.h"
#include "simulations/fleet.h"

namespace tern {

/// Threads: the thread that runs the loop.
class FleetNetwork {
 public:
  /// `devices` and `pool` outlive the network; over sockets devices take the time that they take.
  /// `server_key` signs plans, and over sockets it is the server's. `all_are_waited_for`: a round
  /// ends when all who were asked have answered, so that on the virtual clock results may be early.
  /// Errors: those of opening sockets.
  static Result<std::unique_ptr<FleetNetwork>> make(FleetTransport kind,
                                                    const SecretKey& server_key,
                                                    const Devices& devices, ThreadPool& pool,
                                                    bool all_are_waited_for);
  virtual ~FleetNetwork() = default;

  virtual Loop& loop() = 0;
  /// Where the virtual clock of a run that is gone on with begins.
  virtual void start_at(TimePoint) {}
  virtual ServerTransport& server() = 0;
  /// Which client a key belongs to.
  virtual std::optional<Member> member(const PeerKey& key) const = 0;
  /// A client's end, with a key made for it. Errors: kInternal without randomness.
  virtual Result<std::unique_ptr<ClientTransport>> client(uint32_t number) = 0;
  /// Runs the loop. Errors: kInternal when nothing is left to happen.
  virtual Status run_until(const std::function<bool()>& over) = 0;
  /// Bytes that the sockets really moved, up and down; nothing without sockets.
  virtual std::optional<std::pair<uint64_t, uint64_t>> wire_bytes() = 0;
};

}  // namespace tern
