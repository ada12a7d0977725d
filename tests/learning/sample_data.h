/// Small random learning problems.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/rng.h"
#include "learning/learning_data.h"

namespace tern {

inline Dataset sample_examples(const TaskShape& shape, size_t n, uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  Dataset data;
  for (size_t i = 0; i < n; ++i) {
    data.labels.push_back(rng.below(static_cast<uint32_t>(shape.classes)));
    // The class shifts the inputs, so that there is something to learn.
    for (int64_t f = 0; f < shape.features(); ++f)
      data.inputs.push_back(
          static_cast<float>(rng.normal() + (f % shape.classes == data.labels.back() ? 1 : 0)));
  }
  return data;
}

/// Texts whose characters mostly count up, so that there is something to learn.
inline Dataset sample_texts(const TaskShape& shape, size_t n, uint32_t seed) {
  Rng rng(seed, Purpose::kTest);
  Dataset data{.labels_each = static_cast<uint32_t>(shape.features())};
  const auto classes = static_cast<uint32_t>(shape.classes);
  for (size_t i = 0; i < n; ++i) {
    uint32_t character = rng.below(classes);
    for (int64_t f = 0; f < shape.features(); ++f) {
      data.inputs.push_back(static_cast<float>(character));
      character = rng.below(5) == 0 ? rng.below(classes) : (character + 1) % classes;
      data.labels.push_back(character);
    }
  }
  return data;
}

/// What the model takes.
inline TaskShape sample_shape(std::string_view model) {
  if (predicts_characters(model)) return {.input = {12}, .classes = 9};
  return {.input = {1, 8, 8}, .classes = 5};
}

/// The clients hold `sizes` examples in turn; the test part has `test` examples.
inline std::shared_ptr<const LearningData> sample_data(const std::string& model,
                                                       const std::vector<size_t>& sizes,
                                                       size_t test = 0,
                                                       std::optional<TaskShape> shape = {}) {
  DataBundle data;
  data.shape = shape ? *std::move(shape) : sample_shape(model);
  std::vector<std::vector<uint32_t>> clients;
  uint32_t next = 0;
  for (const size_t size : sizes) {
    clients.emplace_back();
    for (size_t i = 0; i < size; ++i) clients.back().push_back(next++);
  }
  const auto sample = predicts_characters(model) ? sample_texts : sample_examples;
  data.train = sample(data.shape, next, 1);
  data.test = sample(data.shape, test, 2);
  auto made = make_learning_data(model, std::move(data), std::move(clients));
  EXPECT_TRUE(made.has_value()) << made.error().describe();
  return *made;
}

inline std::vector<float> sample_parameters(const ParameterSchema& schema, uint64_t seed = 1) {
  std::vector<float> parameters(schema.elements());
  initialize_parameters(schema, seed, 20, parameters);
  return parameters;
}

}  // namespace tern
