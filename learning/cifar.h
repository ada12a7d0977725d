/// CIFAR-10 and CIFAR-100 in their binary version (https://www.cs.toronto.edu/~kriz/cifar.html).
#pragma once

#include <string>

#include "base/status.h"
#include "learning/dataset.h"

namespace tern {

/// Reads a folder with data_batch_1.bin and further ones, and test_batch.bin (10 classes), or with
/// train.bin and test.bin (100 classes, the fine labels). The names of the classes are those of
/// batches.meta.txt or fine_label_names.txt where there is one. With `standardize` the pixels have
/// the training mean 0 and variance 1. Errors: kNotFound, kIo; kCorrupt, with the file, for one
/// that isn't whole records, has none, or a label that is out of range. Memory: four bytes a pixel.
Result<DataBundle> load_cifar(const std::string& folder, bool standardize);

}  // namespace tern
