/// Which connections a server's end knows: numbers that are never used twice, and a bound for each
/// key, so that a peer that comes again and again doesn't pile up entries.
#pragma once

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "proto/net/transport_rules.h"
#include "proto/transport.h"

namespace tern {

struct PeerKeyHash {
  size_t operator()(const PeerKey& key) const {
    return std::hash<std::string_view>()({reinterpret_cast<const char*>(key.data()), key.size()});
  }
};

/// Cost: O(1). Threads: one.
template <typename Entry>
class ConnectionTable {
 public:
  /// A connection with a fresh number.
  Connection add(const PeerKey& key, Entry entry) {
    const Connection connection{key, ++last_number_};
    entries_.emplace(connection.number, std::pair(key, std::move(entry)));
    of_key_[key].push_back(connection.number);
    return connection;
  }
  /// The connection to drop, the oldest of this key, when there are more than kConnectionsPerKey.
  std::optional<Connection> surplus(const PeerKey& key) const {
    const auto of_key = of_key_.find(key);
    if (of_key == of_key_.end() || of_key->second.size() <= kConnectionsPerKey) return std::nullopt;
    return Connection{key, of_key->second.front()};
  }
  /// Null when there is none, also when the key is not that connection's.
  Entry* find(const Connection& connection) {
    const auto at = entries_.find(connection.number);
    return at != entries_.end() && at->second.first == connection.key ? &at->second.second
                                                                      : nullptr;
  }
  void erase(const Connection& connection) {
    if (!find(connection)) return;
    entries_.erase(connection.number);
    const auto of_key = of_key_.find(connection.key);
    std::erase(of_key->second, connection.number);
    if (of_key->second.empty()) of_key_.erase(of_key);
  }
  size_t size() const { return entries_.size(); }
  /// Calls `each(Connection, Entry&)`; it must not add or erase.
  template <typename Each>
  void for_each(Each each) {
    for (auto& [number, entry] : entries_) each(Connection{entry.first, number}, entry.second);
  }

 private:
  uint64_t last_number_ = 0;
  std::unordered_map<uint64_t, std::pair<PeerKey, Entry>> entries_;
  std::unordered_map<PeerKey, std::vector<uint64_t>, PeerKeyHash> of_key_;  // oldest first
};

}  // namespace tern
