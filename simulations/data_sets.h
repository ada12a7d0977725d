/// Public data sets that `tern data fetch` knows: where they are, what they hash to, and how their
/// archives become folders that data.path takes. Nothing here uses the network: the command asks
/// its user first and leaves the transfer to curl.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "simulations/scratch_folder.h"

namespace tern {

struct DataSet {
  std::string_view name;
  std::string_view description;
  std::string_view license;
  std::string_view url;     ///< of a .tar.gz
  uint64_t bytes = 0;       ///< of that file
  std::string_view sha256;  ///< likewise, in hexadecimal
  std::string_view source;  ///< data.source for it
};

std::span<const DataSet> data_sets();
/// Errors: kInvalidArgument; the message lists the known ones.
Result<const DataSet*> find_data_set(std::string_view name);

/// Is `file` the archive? Errors: kCorrupt, with what it hashes to; kNotFound, kIo.
Status check_archive(const DataSet& set, const std::string& file);

/// Moves what the archive was unpacked to in `unpacked` to `folder`, which is on the disk whole or
/// not at all; for the State of the Union with a folder for each president. Errors: kCorrupt when
/// something is missing; kInUse when `folder` exists; kIo.
Status arrange(const DataSet& set, const ScratchFolder& unpacked, const std::string& folder);

}  // namespace tern
