/// Labelled examples in memory, and how they are read from files. No LibTorch here.
/// Shape: inputs row-major, examples() x shape.features() float32.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/model_card.h"
#include "config/scenario.h"

namespace tern {

struct Dataset {
  std::vector<float> inputs;     ///< of texts, numbers of characters
  std::vector<uint32_t> labels;  ///< each < TaskShape::classes
  std::vector<uint32_t>
      client;  ///< natural client number of each example; empty when the data name none
  /// Of an example: one, or of a text the next character at each of its characters.
  uint32_t labels_each = 1;

  size_t examples() const { return labels.size() / labels_each; }
};

struct DataBundle {
  Dataset train;
  Dataset test;
  TaskShape shape;
  std::vector<std::string> class_names;   ///< shape.classes of them
  std::vector<std::string> client_names;  ///< of natural clients; empty otherwise
};

/// Reads what [data] names and standardizes it by the training statistics (one mean and deviation
/// for images and LEAF's numbers, one for each column of csv) unless data.standardize is false. The
/// file formats: learning/idx.h, csv.h, cifar.h, leaf.h, text.h. fashion-mnist is idx in data.path
/// or, without it, where the Debian package dataset-fashion-mnist puts it. `seed` decides which
/// examples are for testing where the source has no test part of its own. Errors: kNotFound (says
/// how to get the data), kIo, kCorrupt, kInvalidArgument; Where names file and line (csv) or key.
/// Cost: the files once through memory; fashion-mnist takes 220 MB as float32.
Result<DataBundle> load_data(const DataConfig& config, uint64_t seed);

}  // namespace tern
