/// The allow-list of a coordinator, `server.clients`: a text file with a peer on each line,
///
///   PUBLIC-KEY [NAME] [evaluator] [uplink=BYTES] [revoked]
///
/// where BYTES is what a client's link carries upwards in a second, for rate control, with empty
/// lines and comments (# to the end of the line) as one likes. A client's number, which picks its
/// data partition and keys its randomness, is its position among the lines of clients, from 0;
/// evaluators don't count. So lines are never deleted or reordered: one that is revoked keeps its
/// number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "proto/keys.h"

namespace tern {

struct RegisteredPeer {
  enum class Role : uint8_t { kClient, kEvaluator };
  static constexpr uint32_t kNoNumber = UINT32_MAX;

  PublicKey key;
  std::string name;  ///< 1-64 of [A-Za-z0-9._-], or empty
  Role role = Role::kClient;
  uint32_t number = kNoNumber;  ///< of a client
  bool revoked = false;
  double uplink = 0;  ///< bytes a second of a client; 0: not known
  int line = 0;       ///< of the file, from 1
};

/// A list as it was when it was read. Threads: share freely.
class ClientRegistry {
 public:
  /// Errors: those of read_file, and of parse.
  static Result<ClientRegistry> load(const std::string& file);
  /// `file` is for messages. Errors, with file and line: kInvalidArgument for a bad key, name or
  /// word, a key that stands there twice (either half of it), a name that two peers have who aren't
  /// revoked, or a list without any line. Cost: O(n log n).
  static Result<ClientRegistry> parse(std::string_view text, const std::string& file);

  /// Whose key it is, also if revoked: the caller looks. nullptr for a stranger. Cost: O(log n).
  const RegisteredPeer* find(const PeerKey& key) const;
  /// The client of that number, also if revoked; nullptr if the number was not given out.
  const RegisteredPeer* client(uint32_t number) const;
  /// Numbers given out: they are below this.
  uint32_t clients() const { return static_cast<uint32_t>(clients_.size()); }
  /// In the order of the file.
  const std::vector<RegisteredPeer>& peers() const { return peers_; }

 private:
  std::vector<RegisteredPeer> peers_;
  std::vector<uint32_t> by_key_;   ///< positions in peers_, sorted by the CURVE key
  std::vector<uint32_t> clients_;  ///< positions in peers_, by number
};

/// A line of the list, without its end.
std::string allow_line(const PublicKey& key, std::string_view name, RegisteredPeer::Role role);

/// Appends a peer to the list, durably, and makes the list if it isn't there. Gives the peer with
/// its number. Errors: kInvalidArgument for a bad name, for a key or name that is in the list, and
/// for a list that doesn't parse; those of read_file and write_durably. Threads: of two writers of
/// one list, in this process or another, the last one wins and the other's change is lost.
Result<RegisteredPeer> allow_peer(const std::string& file, const PublicKey& key,
                                  std::string_view name, RegisteredPeer::Role role);

/// Marks the peer with that name or public key as revoked, durably; everything else of the file
/// stays as it is. Ok, too, when it was revoked before. Errors: kNotFound when nobody in the list
/// has that name or key; otherwise, and threads: as above.
Result<RegisteredPeer> revoke_peer(const std::string& file, std::string_view name_or_key);

}  // namespace tern
