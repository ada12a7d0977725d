/// The JSON files of LEAF (Caldas et al. 2018, arXiv:1812.01097; https://leaf.cmu.edu).
#pragma once

#include <string>

#include "base/status.h"
#include "learning/dataset.h"

namespace tern {

/// Reads FOLDER/train/*.json and FOLDER/test/*.json, each with "user_data", an object that has for
/// each user {"x": [...], "y": [...]}. An x is a list of numbers with a class as y (femnist,
/// synthetic; 784 of them are an image of 28 x 28), or a text with the character that follows it as
/// y (shakespeare; numbers of characters as in text.h). Users are the natural clients, sorted by
/// their bytes. With `standardize` numbers have the training mean 0 and variance 1. Errors:
/// kNotFound, kIo; kCorrupt, with the file, for what isn't such JSON; kInvalidArgument, with file
/// and user, for lengths or kinds that differ, numbers that aren't finite, classes that aren't
/// whole numbers below 2^20, a test example of an unknown user or class. Memory: one file as JSON
/// beside the examples.
Result<DataBundle> load_leaf(const std::string& folder, bool standardize);

}  // namespace tern
