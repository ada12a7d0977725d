#include "config/chain_fit.h"

#include <string>
#include <utility>

#include "compression/updates/codec.h"

namespace tern {

Status check_chains(const CompressionConfig& compression, const ParameterSchema& schema) {
  const std::pair<const char*, const std::string&> keys[] = {
      {"compression.up", compression.up},
      {"compression.down", compression.down},
      {"compression.keyframe", compression.keyframe},
      {"compression.rate_control.ladder", compression.rate_control.ladder}};
  for (const auto& [key, text] : keys) {
    if (text.empty()) continue;
    TERN_TRY(const std::vector<Codec> chains, parse_chains(text));
    for (const Codec& chain : chains)
      if (Status status = chain.check_schema(schema); !status.ok())
        return std::move(status).at({.key = key});
  }
  return {};
}

}  // namespace tern
