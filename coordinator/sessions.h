/// Who is connected.
/// Threads: the loop's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "proto/transport.h"

namespace tern {

/// One connected peer, whose first message was a Hello.
struct Session {
  Connection connection;
  bool evaluator = false;
  uint32_t number = 0;        ///< of the client; evaluators go on from where clients end
  uint32_t held_version = 0;  ///< of the model; 0: the start of the run
  uint32_t examples = 0;      ///< to train on; 0 until it is ready
  uint32_t test_examples = 0;
  bool ready = false;  ///< for tasks

  /// Its connection is of no use any more: nothing is asked of it until it comes back.
  void lost() {
    ready = false;
    examples = test_examples = 0;
  }
};

/// The sessions by number. A session stays where it is until end().
class Sessions {
 public:
  /// Null without a session.
  Session* find(uint32_t number);
  const Session* find(uint32_t number) const;
  /// Null, too, when `from` isn't its connection (any more).
  Session* find(uint32_t number, const Connection& from);
  std::optional<uint32_t> number_of(const Connection& connection) const;

  /// The session of that number, perhaps a new one without a connection (number 0).
  Session& open(uint32_t number) { return by_number_[number]; }
  void end(uint32_t number) { by_number_.erase(number); }

  /// Clients, not evaluators, with something to train on, in increasing order.
  std::vector<uint32_t> trainers() const;
  /// The most examples that a client announces, but no more than 64 times the median: one that lies
  /// must not make all the others weigh nothing. 1 without clients.
  uint32_t largest_announced() const;

  size_t size() const { return by_number_.size(); }
  auto begin() { return by_number_.begin(); }
  auto end() { return by_number_.end(); }
  auto begin() const { return by_number_.begin(); }
  auto end() const { return by_number_.end(); }

 private:
  std::unordered_map<uint32_t, Session> by_number_;
};

}  // namespace tern
