/// Texts for models that predict the next character.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "learning/dataset.h"

namespace tern {

/// The numbers of a UTF-8 text's characters, below kTextClasses: 0 for any that isn't in ASCII, 1
/// for a line break (LF or CRLF), 2 to 96 for the printable ones from space to ~; a tab counts as a
/// space. The same for every text, so that devices that never saw each other's share a model.
std::vector<uint8_t> text_characters(std::string_view text);
/// What each number stands for.
std::vector<std::string> text_class_names();

/// Cuts the texts of config.path into examples of config.window characters, each with the character
/// that follows as its label; examples don't overlap, and what is left at the end of a text is
/// dropped. The folder holds either texts, NAME.txt, and each is a client, or folders with texts,
/// and each folder is a client; names are sorted by their bytes. Of each client
/// config.test_fraction of the examples, rounded half down and leaving at least one to train on,
/// are for testing: the last ones of each text, as its share of them comes due. Errors: kNotFound,
/// kIo; kInvalidArgument, with the file, for a folder with neither or both, a client whose texts
/// are too short, or no test example at all. Memory: 8 bytes a character, and while it grows up to
/// twice that.
Result<DataBundle> load_text(const DataConfig& config);

/// Appends an example: all but the last of the characters, and all but the first as their labels.
void append_text_example(std::span<const uint8_t> characters, Dataset& data);

}  // namespace tern
