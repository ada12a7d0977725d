#include <fmt/format.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/durable_file.h"
#include "base/program.h"
#include "base/sha256.h"
#include "coordinator/client_registry.h"
#include "proto/keys.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/print_json.h"

namespace tern::cli {

using nlohmann::ordered_json;
using Role = RegisteredPeer::Role;

namespace {

struct KeyArguments {
  std::string file;  ///< of a secret key, or the list
  std::string peer;  ///< a public key, where to find one, or a name
  std::string name;
  bool evaluator = false;
  bool json = false;
};

const char* role_name(Role role) { return role == Role::kClient ? "client" : "evaluator"; }

ordered_json to_json(const RegisteredPeer& peer) {
  return {
      {"number", peer.role == Role::kClient ? ordered_json(peer.number) : ordered_json(nullptr)},
      {"name", peer.name.empty() ? ordered_json(nullptr) : ordered_json(peer.name)},
      {"role", role_name(peer.role)},
      {"revoked", peer.revoked},
      {"public_key", to_text(peer.key)}};
}

/// "client number 3, phone"
std::string description(const RegisteredPeer& peer) {
  std::string text = role_name(peer.role);
  if (peer.role == Role::kClient) text += fmt::format(" number {}", peer.number);
  if (!peer.name.empty()) text += ", " + peer.name;
  return text;
}

Result<PublicKey> read_public_key(const std::string& where) {
  if (where.starts_with(kPublicKeyPrefix)) return parse_public_key(where);
  std::string text;
  if (where == "-") {
    std::getline(std::cin, text);
  } else {
    const auto content = read_file(where, 4096);
    if (!content && content.error().code() == Code::kNotFound)
      return error(Code::kNotFound, "{} is neither a public key ({}...) nor a file that holds one",
                   where, kPublicKeyPrefix);
    if (!content) return content.error();
    text.assign(reinterpret_cast<const char*>(content->data()), content->size());
  }
  text.erase(text.find_last_not_of(" \t\r\n") + 1);
  Result<PublicKey> key = parse_public_key(text);
  if (!key) return std::move(key).error().at({.file = where == "-" ? "stdin" : where});
  return key;
}

int print_public_key(const KeyArguments& arguments, const PublicKey& key) {
  if (arguments.json)
    print_json({{"file", arguments.file},
                {"public_key", to_text(key)},
                {"key_id", fmt::format("{:016x}", key_id(key))}});
  else
    fmt::print("{}\n", to_text(key));
  return kOk;
}

int new_key(const KeyArguments& arguments) {
  const Result<SecretKey> key = SecretKey::generate();
  if (!key) return fail(key.error(), arguments.json);
  if (Status status = key->save_new(arguments.file); !status.ok())
    return fail(status, arguments.json);
  return print_public_key(arguments, key->public_key());
}

int show_key(const KeyArguments& arguments) {
  const Result<SecretKey> key = SecretKey::load(arguments.file);
  if (!key) return fail(key.error(), arguments.json, kBadInput);
  return print_public_key(arguments, key->public_key());
}

int allow(const KeyArguments& arguments) {
  const Result<PublicKey> key = read_public_key(arguments.peer);
  if (!key) return fail(key.error(), arguments.json, kBadInput);
  const Result<RegisteredPeer> peer = allow_peer(
      arguments.file, *key, arguments.name, arguments.evaluator ? Role::kEvaluator : Role::kClient);
  if (!peer) return fail(peer.error(), arguments.json);
  if (arguments.json)
    print_json(to_json(*peer));
  else
    fmt::print("{}\n", description(*peer));
  return kOk;
}

int revoke(const KeyArguments& arguments) {
  const Result<RegisteredPeer> peer = revoke_peer(arguments.file, arguments.peer);
  if (!peer) return fail(peer.error(), arguments.json);
  if (arguments.json)
    print_json(to_json(*peer));
  else
    fmt::print("revoked: {}\n", description(*peer));
  return kOk;
}

int list(const KeyArguments& arguments) {
  const Result<ClientRegistry> registry = ClientRegistry::load(arguments.file);
  if (!registry) return fail(registry.error(), arguments.json, kBadInput);
  if (arguments.json) {
    ordered_json peers = ordered_json::array();
    for (const RegisteredPeer& peer : registry->peers()) peers.push_back(to_json(peer));
    print_json({{"file", arguments.file}, {"clients", registry->clients()}, {"peers", peers}});
    return kOk;
  }
  size_t width = 4;
  for (const RegisteredPeer& peer : registry->peers()) width = std::max(width, peer.name.size());
  fmt::print("{:>6}  {:<9}  {:<7}  {:<{}}  {:<16}  {}\n", "number", "role", "state", "name", width,
             "in logs", "key");
  for (const RegisteredPeer& peer : registry->peers())
    fmt::print("{:>6}  {:<9}  {:<7}  {:<{}}  {:<16}  {}\n",
               peer.role == Role::kClient ? fmt::to_string(peer.number) : "-", role_name(peer.role),
               peer.revoked ? "revoked" : "allowed", peer.name, width,
               to_hex(peer.key.curve).substr(0, 16), to_text(peer.key));
  return kOk;
}

}  // namespace

void add_keys(CLI::App& program, int& exit_status) {
  CLI::App* keys = program.add_subcommand("keys", "Make keys, and say whose take part");
  keys->require_subcommand(1);
  auto arguments = std::make_shared<KeyArguments>();
  const auto add = [&](const char* name, const char* meaning, int (*run)(const KeyArguments&)) {
    CLI::App* command = keys->add_subcommand(name, meaning);
    command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
    command->callback([arguments, run, &exit_status] { exit_status = run(*arguments); });
    return command;
  };
  const auto add_list_file = [&](CLI::App* command, const char* meaning) {
    command->add_option("LIST", arguments->file, meaning)->required();
  };

  CLI::App* command = add("new", "Make a secret key; prints its public key", new_key);
  command->add_option("FILE", arguments->file, "New file, for its owner alone")->required();
  command->footer(
      "A coordinator and each client have a key of their own. The file never leaves its machine;\n"
      "the line that is printed goes to the other side.\n"
      "Example:\n"
      "  tern keys new client.key > client.pub");

  command = add("show", "Print the public key of a secret key", show_key);
  command->add_option("FILE", arguments->file, "What `tern keys new` wrote")->required();
  command->footer("Example:\n  tern keys show client.key");

  command = add("allow", "Add a client to the list of those that may take part", allow);
  add_list_file(command, "The coordinator's list (server.clients); made if it isn't there");
  command->add_option("PUBLIC", arguments->peer, "Public key, a file that holds it, or - for stdin")
      ->required();
  command->add_option("--name", arguments->name, "What people call it");
  command->add_flag("--evaluator", arguments->evaluator,
                    "It evaluates models and never trains; it has no number");
  command->footer(
      "Prints the client's number, which picks its share of the data and stays with it for ever.\n"
      "Examples:\n"
      "  tern keys allow site.clients client.pub --name phone-7\n"
      "  ssh phone-7 tern keys show client.key | tern keys allow site.clients - --name phone-7");

  command = add("revoke", "Keep a peer of the list out from now on", revoke);
  add_list_file(command, "The coordinator's list (server.clients)");
  command->add_option("NAME-OR-KEY", arguments->peer, "Its name in the list, or its public key")
      ->required();
  command->footer(
      "The line stays, and so do all numbers. A revoked key is never allowed again: make a new "
      "one.\n"
      "Example:\n"
      "  tern keys revoke site.clients phone-7");

  command = add("list", "Show who may take part, with numbers", list);
  add_list_file(command, "The coordinator's list (server.clients)");
  command->footer("Example:\n  tern keys list site.clients --json");

  keys->footer(
      "Examples:\n"
      "  tern keys new server.key\n"
      "  tern keys new client.key > client.pub\n"
      "  tern keys allow site.clients client.pub --name phone-7\n"
      "  tern keys list site.clients");
}

}  // namespace tern::cli
