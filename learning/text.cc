#include "learning/text.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/durable_file.h"

namespace tern {
namespace {

namespace fs = std::filesystem;

struct Client {
  std::string name;
  std::vector<fs::path> texts;
};

/// What is in a folder, sorted by name: texts, or folders.
Result<std::vector<fs::path>> list(const fs::path& folder, bool folders) {
  std::error_code failed, gone;  // a link to nowhere is neither
  std::vector<fs::path> found;
  for (fs::directory_iterator at(folder, failed), end; !failed && at != end; at.increment(failed))
    if (folders ? at->is_directory(gone)
                : at->is_regular_file(gone) && at->path().extension() == ".txt")
      found.push_back(at->path());
  if (failed)
    return Status(failed == std::errc::no_such_file_or_directory ? Code::kNotFound : Code::kIo,
                  fmt::format("can't be listed: {}", failed.message()),
                  {.file = folder.string(), .key = "data.path"});
  std::ranges::sort(found);
  return found;
}

Result<std::vector<Client>> find_clients(const fs::path& folder) {
  TERN_TRY(const std::vector<fs::path> texts, list(folder, false));
  TERN_TRY(const std::vector<fs::path> folders, list(folder, true));
  std::vector<Client> clients;
  for (const fs::path& text : texts) clients.push_back({text.stem().string(), {text}});
  for (const fs::path& inner : folders) {
    TERN_TRY(std::vector<fs::path> own, list(inner, false));
    if (!own.empty()) clients.push_back({inner.filename().string(), std::move(own)});
  }
  const Where where{.file = folder.string(), .key = "data.path"};
  if (clients.empty())
    return Status(Code::kNotFound, "holds neither texts, NAME.txt, nor folders with texts", where);
  if (!texts.empty() && clients.size() > texts.size())
    return Status(Code::kInvalidArgument,
                  fmt::format("holds texts, such as {}, beside folders with texts, such as {}: "
                              "is a text a client, or a folder?",
                              texts.front().filename().string(), clients.back().name),
                  where);
  return clients;
}

}  // namespace

std::vector<uint8_t> text_characters(std::string_view text) {
  constexpr uint8_t kOther = 0, kLineBreak = 1, kSpace = 2;
  std::vector<uint8_t> characters;
  characters.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= ' ' && byte <= '~')
      characters.push_back(static_cast<uint8_t>(kSpace + byte - ' '));
    else if (byte == '\n')
      characters.push_back(kLineBreak);
    else if (byte == '\t')
      characters.push_back(kSpace);
    else if (byte == '\r' && i + 1 < text.size() && text[i + 1] == '\n')
      continue;
    else if ((byte & 0xC0) != 0x80)  // the first byte of a character, not a later one
      characters.push_back(kOther);
  }
  return characters;
}

std::vector<std::string> text_class_names() {
  std::vector<std::string> names = {"other", "line break", "space"};
  for (char c = '!'; c <= '~'; ++c) names.emplace_back(1, c);
  return names;
}

void append_text_example(std::span<const uint8_t> characters, Dataset& data) {
  data.inputs.insert(data.inputs.end(), characters.begin(), characters.end() - 1);
  data.labels.insert(data.labels.end(), characters.begin() + 1, characters.end());
}

Result<DataBundle> load_text(const DataConfig& config) {
  TERN_TRY(const std::vector<Client> clients, find_clients(config.path));
  DataBundle bundle;
  bundle.shape = {.input = {config.window}, .classes = kTextClasses};
  bundle.class_names = text_class_names();
  bundle.train.labels_each = bundle.test.labels_each = config.window;
  for (uint32_t number = 0; number < clients.size(); ++number) {
    const Client& client = clients[number];
    size_t of_client = 0, for_testing = 0;
    for (const fs::path& path : client.texts) {
      Result<std::vector<std::byte>> text = read_file(path.string());
      if (!text) return std::move(text).error().at({.file = path.string()});
      const std::vector<uint8_t> characters =
          text_characters({reinterpret_cast<const char*>(text->data()), text->size()});
      const size_t examples = characters.empty() ? 0 : (characters.size() - 1) / config.window;
      // The client's share, taken from the ends of its texts; one is left to train on.
      of_client += examples;
      const auto wanted = static_cast<size_t>(
          std::ceil(config.test_fraction * static_cast<double>(of_client) - 0.5));
      const size_t tests = std::min(
          {examples, wanted - for_testing, of_client == 0 ? 0 : of_client - 1 - for_testing});
      for_testing += tests;
      for (size_t i = 0; i < examples; ++i) {
        Dataset& part = i + tests < examples ? bundle.train : bundle.test;
        append_text_example(
            std::span(characters).subspan(i * config.window, size_t{config.window} + 1), part);
        part.client.push_back(number);
      }
    }
    if (of_client == 0)
      return Status(Code::kInvalidArgument,
                    fmt::format("has no text of more than {} characters to train on (data.window)",
                                config.window),
                    {.file = (fs::path(config.path) / client.name).string()});
    bundle.client_names.push_back(client.name);
  }
  if (bundle.test.labels.empty())
    return Status(Code::kInvalidArgument,
                  fmt::format("is {}: too little for a single test example of {} characters",
                              config.test_fraction, config.window),
                  {.file = config.path, .key = "data.test_fraction"});
  return bundle;
}

}  // namespace tern
