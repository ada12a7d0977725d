#include "learning/leaf.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/durable_file.h"
#include "learning/text.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr size_t kImagePixels = 28 * 28;
constexpr uint32_t kMostClasses = 1 << 20;

/// Examples of a part with the names of their users.
struct LeafPart {
  Dataset data;
  std::vector<std::string> users;  ///< of each example
};

class Reader {
 public:
  Status read(const fs::path& folder, LeafPart& part) {
    std::error_code failed;
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(folder, failed))
      if (entry.path().extension() == ".json") files.push_back(entry.path());
    if (failed || files.empty())
      return Status(Code::kNotFound,
                    "there are no .json files: a LEAF folder holds them in train and test",
                    {.file = folder.string(), .key = "data.path"});
    std::ranges::sort(files);
    for (const fs::path& file : files) TERN_CHECK_OK(read_one(file.string(), part));
    return {};
  }
  size_t features() const { return features_.value_or(0); }
  bool text() const { return text_; }

 private:
  Status read_one(const std::string& file, LeafPart& part) {
    Result<std::vector<std::byte>> bytes = read_file(file);
    if (!bytes) return std::move(bytes).error().at({.file = file});
    const auto* text = reinterpret_cast<const char*>(bytes->data());
    const json parsed = json::parse(text, text + bytes->size(), nullptr, false);
    if (parsed.is_discarded())
      return Status(Code::kCorrupt, "isn't JSON, or is cut off", {.file = file});
    const json* data = member(parsed, "user_data");
    if (data == nullptr || !data->is_object())
      return Status(Code::kCorrupt, "has no \"user_data\": it isn't a file of LEAF",
                    {.file = file});
    for (const auto& [user, examples] : data->items())
      if (Status status = read_user(user, examples, part); !status.ok())
        return std::move(status).within(fmt::format("user \"{}\"", user)).at({.file = file});
    return {};
  }

  static const json* member(const json& object, const char* name) {
    if (!object.is_object()) return nullptr;
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &*found;
  }

  Status read_user(const std::string& user, const json& examples, LeafPart& part) {
    const json *x = member(examples, "x"), *y = member(examples, "y");
    if (x == nullptr || y == nullptr || !x->is_array() || !y->is_array() || x->size() != y->size())
      return error(Code::kInvalidArgument, "\"x\" and \"y\" must be lists of the same length");
    for (size_t i = 0; i < x->size(); ++i) {
      Status status = (*x)[i].is_string() ? add_text((*x)[i], (*y)[i], part.data)
                                          : add_numbers((*x)[i], (*y)[i], part.data);
      if (!status.ok()) return std::move(status).within(fmt::format("example {}", i));
      part.users.push_back(user);
    }
    return {};
  }

  /// All examples are alike.
  Status check_kind(bool text, size_t features) {
    if (!features_) {
      features_ = features;
      text_ = text;
    }
    if (text == text_ && features == *features_ && features > 0) return {};
    return error(Code::kInvalidArgument, "{} {} where others have {} {}", features,
                 text ? "characters" : "numbers", *features_, text_ ? "characters" : "numbers");
  }

  Status add_text(const json& x, const json& y, Dataset& data) {
    if (!y.is_string())
      return error(Code::kInvalidArgument, "\"y\" must be the character that follows the text");
    const std::vector<uint8_t> next = text_characters(y.get_ref<const std::string&>());
    std::vector<uint8_t> characters = text_characters(x.get_ref<const std::string&>());
    if (next.size() != 1)
      return error(Code::kInvalidArgument, "\"y\" has {} characters, not one", next.size());
    if (characters.size() < 2)
      return error(Code::kInvalidArgument, "\"x\" is a text of {} characters, fewer than 2",
                   characters.size());
    TERN_CHECK_OK(check_kind(true, characters.size()));
    data.labels_each = static_cast<uint32_t>(characters.size());
    characters.push_back(next.front());
    append_text_example(characters, data);
    return {};
  }

  Status add_numbers(const json& x, const json& y, Dataset& data) {
    const auto wrong = [](const json& number) {
      return !number.is_number() || !std::isfinite(number.get<float>());
    };
    if (!x.is_array() || std::ranges::any_of(x, wrong))
      return error(Code::kInvalidArgument, "\"x\" must be a list of finite numbers, or a text");
    if (!y.is_number() || !(y.get<double>() >= 0 && y.get<double>() < kMostClasses) ||
        y.get<double>() != std::floor(y.get<double>()))
      return error(Code::kInvalidArgument, "\"y\" must be a class, a whole number from 0 on");
    TERN_CHECK_OK(check_kind(false, x.size()));
    for (const json& number : x) data.inputs.push_back(number.get<float>());
    data.labels.push_back(static_cast<uint32_t>(y.get<double>()));
    return {};
  }

  std::optional<size_t> features_;  ///< of the first example
  bool text_ = false;
};

void standardize(const std::vector<float>& by, std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float value : by) sum += value;
  const double mean = sum / static_cast<double>(by.size());
  for (const float value : by) squares += (value - mean) * (value - mean);
  const double deviation = squares > 0 ? std::sqrt(squares / static_cast<double>(by.size())) : 1;
  for (float& value : values) value = static_cast<float>((value - mean) / deviation);
}

}  // namespace

Result<DataBundle> load_leaf(const std::string& folder, bool standardized) {
  LeafPart train, test;
  Reader reader;
  TERN_CHECK_OK(reader.read(fs::path(folder) / "train", train));
  TERN_CHECK_OK(reader.read(fs::path(folder) / "test", test));
  const Where where{.file = folder, .key = "data.path"};
  if (train.users.empty()) return Status(Code::kInvalidArgument, "holds no examples", where);
  DataBundle bundle;
  std::map<std::string, uint32_t> numbers;
  for (const std::string& user : train.users) numbers.emplace(user, 0);
  for (auto& [user, number] : numbers) {
    number = static_cast<uint32_t>(bundle.client_names.size());
    bundle.client_names.push_back(user);
  }
  for (LeafPart* part : {&train, &test})
    for (const std::string& user : part->users) {
      const auto found = numbers.find(user);
      if (found == numbers.end())
        return Status(Code::kInvalidArgument,
                      fmt::format("user \"{}\" has test examples but none to train on", user),
                      where);
      part->data.client.push_back(found->second);
    }
  const auto features = static_cast<int64_t>(reader.features());
  if (reader.text()) {
    test.data.labels_each = train.data.labels_each;
    bundle.shape = {.input = {features}, .classes = kTextClasses};
    bundle.class_names = text_class_names();
  } else {
    const auto largest = *std::ranges::max_element(train.data.labels);
    const auto unknown =
        std::ranges::find_if(test.data.labels, [&](uint32_t label) { return label > largest; });
    if (unknown != test.data.labels.end())
      return Status(Code::kInvalidArgument,
                    fmt::format("a test example has class {}, the training classes end at {}",
                                *unknown, largest),
                    where);
    bundle.shape.input = reader.features() == kImagePixels ? std::vector<int64_t>{1, 28, 28}
                                                           : std::vector<int64_t>{features};
    bundle.shape.classes = int64_t{largest} + 1;
    for (uint32_t c = 0; c <= largest; ++c) bundle.class_names.push_back(std::to_string(c));
    if (standardized) {
      standardize(train.data.inputs, test.data.inputs);
      const std::vector<float> by = train.data.inputs;
      standardize(by, train.data.inputs);
    }
  }
  bundle.train = std::move(train.data);
  bundle.test = std::move(test.data);
  return bundle;
}

}  // namespace tern
