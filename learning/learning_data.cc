#include "learning/learning_data.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "learning/script_file.h"

namespace tern {
namespace {

/// One label for each example, or numbers of characters and a label for each.
Status check_kind(std::string_view model, const Dataset& part, const TaskShape& shape) {
  const bool text = part.labels_each != 1;
  if (model == kScriptModel || text == predicts_characters(model)) {
    if (!text) return {};
    if (part.labels_each != shape.features())
      return error(Code::kInvalidArgument, "{} labels for the {} characters of a text",
                   part.labels_each, shape.features());
    const auto wrong = std::ranges::find_if(part.inputs, [&](float character) {
      return !(character >= 0 && character < static_cast<float>(shape.classes) &&
               character == std::floor(character));
    });
    if (wrong == part.inputs.end()) return {};
    return error(Code::kInvalidArgument, "{} isn't the number of a character", *wrong);
  }
  return text ? error(Code::kInvalidArgument,
                      "{} predicts one class of an example; for texts there are char-lstm and "
                      "char-gpt",
                      model)
              : error(Code::kInvalidArgument,
                      "{} predicts the next character of texts, which these data aren't", model);
}

Status check_part(const Dataset& part, const TaskShape& shape, const char* name) {
  const auto features = static_cast<size_t>(shape.features());
  if (part.labels_each == 0 || part.labels.size() % part.labels_each != 0)
    return error(Code::kInvalidArgument, "{} data: {} labels aren't {} for each example", name,
                 part.labels.size(), part.labels_each);
  if (part.inputs.size() != part.examples() * features)
    return error(Code::kInvalidArgument, "{} data: {} inputs are not {} examples of {} features",
                 name, part.inputs.size(), part.examples(), features);
  const auto wrong = std::find_if(part.labels.begin(), part.labels.end(), [&](uint32_t label) {
    return label >= static_cast<uint64_t>(shape.classes);
  });
  if (wrong != part.labels.end())
    return error(Code::kInvalidArgument, "{} data: label {} of {} classes", name, *wrong,
                 shape.classes);
  return {};
}

}  // namespace

Result<std::shared_ptr<const LearningData>> make_learning_data(const ModelConfig& model,
                                                               DataBundle data,
                                                               ClientShares clients) {
  TERN_TRY(ParameterSchema schema, trained_schema(model, data.shape));
  TERN_CHECK_OK(check_part(data.train, data.shape, "training"));
  TERN_CHECK_OK(check_part(data.test, data.shape, "test"));
  for (const Dataset* part : {&data.train, &data.test})
    if (part->examples() > 0) TERN_CHECK_OK(check_kind(model.name, *part, data.shape));
  const auto& dealt = clients.dealt();  // those drawn are drawn from the examples
  for (size_t client = 0; client < dealt.size(); ++client)
    for (const uint32_t example : dealt[client])
      if (example >= data.train.examples())
        return error(Code::kInvalidArgument, "client {} holds example {} of {}", client, example,
                     data.train.examples());
  return std::make_shared<const LearningData>(LearningData{
      model.name, model.script, std::move(schema), std::move(data), std::move(clients)});
}

Result<std::shared_ptr<const LearningData>> make_learning_data(std::string_view model,
                                                               DataBundle data,
                                                               ClientShares clients) {
  return make_learning_data(ModelConfig{.name = std::string(model)}, std::move(data),
                            std::move(clients));
}

}  // namespace tern
