#include "learning/learning_data.h"

#include <algorithm>
#include <utility>

#include "learning/script_file.h"

namespace tern {
namespace {

Status check_part(const Dataset& part, const TaskShape& shape, const char* name) {
  const auto features = static_cast<size_t>(shape.features());
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
