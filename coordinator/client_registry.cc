#include "coordinator/client_registry.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include "base/durable_file.h"

namespace tern {
namespace {

using Role = RegisteredPeer::Role;

constexpr size_t kMaxFileBytes = size_t{1} << 30;  // ten million clients
constexpr size_t kMaxNameBytes = 64;
constexpr std::string_view kEvaluator = "evaluator";
constexpr std::string_view kRevoked = "revoked";
constexpr std::string_view kUplink = "uplink=";
constexpr double kMostUplink = 1e15;
constexpr std::string_view kHeader =
    "# Who may take part, one on a line: PUBLIC-KEY [NAME] [evaluator] [uplink=BYTES] [revoked]\n"
    "# A client's number is its position: never delete or reorder lines, revoke them.\n";

/// Takes the next line off `text`, without its end.
std::string_view take_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

/// Takes the next word off `line`; empty at its end.
std::string_view take_word(std::string_view& line) {
  constexpr std::string_view kBlanks = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kBlanks));
  line.remove_prefix(word.size());
  return word;
}

Status check_name(std::string_view name) {
  const auto fits = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (name.empty() || name.size() > kMaxNameBytes || !std::ranges::all_of(name, fits))
    return error(Code::kInvalidArgument, "a name has 1 to {} of the characters A-Z a-z 0-9 . _ -",
                 kMaxNameBytes);
  // In any case: taken for a name, "Revoked" would let a client in.
  std::string lower(name);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (lower == kEvaluator || lower == kRevoked)
    return error(Code::kInvalidArgument, "'{}' can't be a name; other words are '{}' and '{}'",
                 name, kEvaluator, kRevoked);
  if (name.starts_with(kPublicKeyPrefix))
    return error(Code::kInvalidArgument, "a name doesn't start with {}, as keys do",
                 kPublicKeyPrefix);
  return {};
}

Result<double> parse_uplink_word(std::string_view word) {
  const std::string_view digits = word.substr(kUplink.size());
  double rate = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), rate);
  if (failure != std::errc() || end != digits.data() + digits.size() ||
      !(rate >= 1 && rate <= kMostUplink))
    return error(Code::kInvalidArgument,
                 "'{:.64}': what a link carries is 1 to 1e15 bytes a second, such as uplink=125000",
                 word);
  return rate;
}

/// A line without its comment; it has at least one word.
Result<RegisteredPeer> parse_peer(std::string_view line) {
  RegisteredPeer peer;
  TERN_TRY(peer.key, parse_public_key(take_word(line)));
  std::string_view word = take_word(line);
  if (!word.empty() && word != kEvaluator && word != kRevoked && !word.starts_with(kUplink)) {
    TERN_CHECK_OK(check_name(word));
    peer.name = word;
    word = take_word(line);
  }
  if (word == kEvaluator) {
    peer.role = Role::kEvaluator;
    word = take_word(line);
  }
  if (word.starts_with(kUplink)) {
    TERN_TRY(peer.uplink, parse_uplink_word(word));
    if (peer.role == Role::kEvaluator)
      return error(Code::kInvalidArgument, "an evaluator sends no updates: leave '{}' out", word);
    word = take_word(line);
  }
  if (word == kRevoked) {
    peer.revoked = true;
    word = take_word(line);
  }
  if (!word.empty())
    return error(Code::kInvalidArgument,
                 "a line is PUBLIC-KEY [NAME] [evaluator] [uplink=BYTES] [revoked], in this order; "
                 "one word too many or unknown is '{:.64}'",
                 word);
  return peer;
}

/// Sorts positions in `peers` by what `of` takes from a peer, and refuses two that have it in
/// common.
template <typename Of>
Status sort_unique(std::vector<uint32_t>& positions, const std::vector<RegisteredPeer>& peers,
                   std::string_view what, Of of) {
  const auto taken = [&](uint32_t position) -> const auto& { return of(peers[position]); };
  std::ranges::stable_sort(positions, {}, taken);
  const auto twins = std::ranges::adjacent_find(positions, {}, taken);
  if (twins == positions.end()) return {};
  const RegisteredPeer& first = peers[twins[0]];
  return error(Code::kInvalidArgument, "line {} has the same {}{}", first.line, what,
               first.revoked ? ", revoked: such a key is never allowed again" : "")
      .at({.line = peers[twins[1]].line});
}

Result<std::string> read_text(const std::string& file) {
  TERN_TRY(const std::vector<std::byte> content, read_file(file, kMaxFileBytes));
  return std::string(reinterpret_cast<const char*>(content.data()), content.size());
}

}  // namespace

Result<ClientRegistry> ClientRegistry::load(const std::string& file) {
  TERN_TRY(const std::string text, read_text(file));
  return parse(text, file);
}

Result<ClientRegistry> ClientRegistry::parse(std::string_view text, const std::string& file) {
  ClientRegistry registry;
  std::vector<RegisteredPeer>& peers = registry.peers_;
  const auto located = [&](Status status, int line) {
    return std::move(status).at({.file = file, .line = line});
  };
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = take_line(text);
    line = line.substr(0, line.find('#'));
    if (std::string_view rest = line; take_word(rest).empty()) continue;
    Result<RegisteredPeer> peer = parse_peer(line);
    if (!peer) return located(std::move(peer).error(), number);
    peer->line = number;
    if (peer->role == Role::kClient) {
      peer->number = registry.clients();
      registry.clients_.push_back(static_cast<uint32_t>(peers.size()));
    }
    peers.push_back(std::move(*peer));
  }
  if (peers.empty()) return located(error(Code::kInvalidArgument, "the list has no line"), 0);

  std::vector<uint32_t>& by_key = registry.by_key_;
  by_key.resize(peers.size());
  std::iota(by_key.begin(), by_key.end(), 0u);
  std::vector<uint32_t> all = by_key, named;
  std::ranges::copy_if(all, std::back_inserter(named),
                       [&](uint32_t i) { return !peers[i].revoked && !peers[i].name.empty(); });
  const auto curve = [](const RegisteredPeer& peer) -> auto& { return peer.key.curve; };
  const auto signing = [](const RegisteredPeer& peer) -> auto& { return peer.key.signing; };
  const auto name = [](const RegisteredPeer& peer) -> auto& { return peer.name; };
  Status status = sort_unique(by_key, peers, "key", curve);
  if (status.ok()) status = sort_unique(all, peers, "signing key", signing);
  if (status.ok()) status = sort_unique(named, peers, "name", name);
  if (!status.ok()) {
    const int line = status.where().line;
    return located(std::move(status), line);
  }
  return registry;
}

const RegisteredPeer* ClientRegistry::find(const PeerKey& key) const {
  const auto found = std::ranges::lower_bound(
      by_key_, key, {}, [&](uint32_t i) -> const PeerKey& { return peers_[i].key.curve; });
  if (found == by_key_.end() || peers_[*found].key.curve != key) return nullptr;
  return &peers_[*found];
}

const RegisteredPeer* ClientRegistry::client(uint32_t number) const {
  return number < clients_.size() ? &peers_[clients_[number]] : nullptr;
}

std::string allow_line(const PublicKey& key, std::string_view name, Role role) {
  std::string line = to_text(key);
  if (!name.empty()) line.append(" ").append(name);
  if (role == Role::kEvaluator) line.append(" ").append(kEvaluator);
  return line;
}

Result<RegisteredPeer> allow_peer(const std::string& file, const PublicKey& key,
                                  std::string_view name, Role role) {
  if (!name.empty()) TERN_CHECK_OK(check_name(name));
  Result<std::string> text = read_text(file);
  if (!text && text.error().code() != Code::kNotFound) return std::move(text).error();
  std::string list = text ? std::move(*text) : std::string(kHeader);
  if (!list.empty() && list.back() != '\n') list += '\n';
  list += allow_line(key, name, role) + '\n';
  Result<ClientRegistry> registry = ClientRegistry::parse(list, file);
  if (!registry) {
    // The last line isn't in the file, and won't be.
    Status status = std::move(registry).error();
    if (status.where().line == std::ranges::count(list, '\n'))
      return std::move(status).at({.file = file});
    return status;
  }
  TERN_CHECK_OK(write_durably(file, list));
  return registry->peers().back();
}

Result<RegisteredPeer> revoke_peer(const std::string& file, std::string_view name_or_key) {
  TERN_TRY(std::string text, read_text(file));
  TERN_TRY(const ClientRegistry registry, ClientRegistry::parse(text, file));
  std::optional<PublicKey> key;
  if (name_or_key.starts_with(kPublicKeyPrefix)) {
    TERN_TRY(key, parse_public_key(name_or_key));
  }
  // Of those that have a name at most one isn't revoked.
  std::optional<RegisteredPeer> found;
  for (const RegisteredPeer& peer : registry.peers())
    if ((key ? peer.key == *key : peer.name == name_or_key && !peer.name.empty()) &&
        (!found || found->revoked))
      found = peer;
  if (!found)
    return error(Code::kNotFound, "nobody in the list has the {} {}", key ? "key" : "name",
                 name_or_key)
        .at({.file = file});
  if (found->revoked) return *found;

  std::string_view rest = text;
  std::string_view line;
  for (int number = 0; number < found->line; ++number) line = take_line(rest);
  // Behind the last word, before blanks and a comment.
  line = line.substr(0, line.find('#'));
  const size_t end =
      static_cast<size_t>(line.data() - text.data()) + line.find_last_not_of(" \t\r") + 1;
  text.insert(end, fmt::format(" {}", kRevoked));
  TERN_CHECK_OK(write_durably(file, text));
  found->revoked = true;
  return *found;
}

}  // namespace tern
