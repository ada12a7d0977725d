/// Proves, before a coordinator opens its public port, that its socket lets in who is on the list
/// and nobody else. A socket that lacks one option, or its ZAP handler, works as well as one that
/// has them, but lets everybody in.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "proto/net/zap_handler.h"
#include "proto/net/zmq_context.h"

namespace tern {

/// A ROUTER socket that is set up but not bound, and its monitor.
struct ProbedServer {
  ZmqContext& context;
  void* router;
  ZmqMonitor& monitor;
  PeerKey public_key{};
};

/// Binds the server to a loopback port of the system's choice and dials it with
/// 1. an unknown key while there is no ZAP handler: must fail;
/// 2. an unknown key, once `open_handler` was called: must be refused by the handler;
/// 3. a key that the handler allows for this: must get in, and its packet must carry that key;
/// 4. no key and no encryption: must fail.
/// Then unbinds. Returns the handler, which allows nobody now. Blocks for some milliseconds, at
/// most for 2 seconds a step. Calls no callback. Errors: kInternal "the self-probe ...", which says
/// what is wrong; those of `open_handler`.
Result<std::unique_ptr<ZapHandler>> self_probe(
    const ProbedServer& server,
    const std::function<Result<std::unique_ptr<ZapHandler>>()>& open_handler);

}  // namespace tern
