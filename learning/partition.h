/// Which examples belong to which client.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace tern {

/// A parsed `data.partition`.
struct PartitionRule {
  enum class Kind { kIid, kShards, kDirichlet, kQuantity, kDraw, kNatural };
  Kind kind = Kind::kIid;
  uint32_t shards = 0;    ///< per client (shards)
  uint32_t examples = 0;  ///< of each client (draw)
  double alpha = 0;       ///< concentration (dirichlet, quantity, draw)
};
/// K is at least 1, N from 1 to 1e6, ALPHA from 1e-6 to 1e6, that of draw 0.3 if left out. Errors:
/// kInvalidArgument; the message lists the known rules.
Result<PartitionRule> parse_partition(const std::string& text);

struct PartitionRequest {
  std::span<const uint32_t> labels;
  std::span<const uint32_t> natural_client;  ///< only for kNatural; each < clients
  uint32_t classes = 0;
  uint32_t clients = 0;
  uint64_t seed = 0;
  /// Test data follow the same rule with the same draws (the same shards, the same class shares),
  /// but may leave a client without examples and need not divide.
  bool for_test = false;
};

/// Example indices of every client, in increasing order; each example belongs to exactly one
/// client.
/// - iid: shuffled, equal parts (sizes differ by one at most)
/// - shards:K: sorted by label, cut into clients*K equal shards, K to each client (McMahan et al.
///   2017, arXiv:1602.05629)
/// - dirichlet:A: for each class, shares over the clients ~ Dirichlet(A) (Yurochkin et al. 2019,
///   arXiv:1905.12022; Hsu et al. 2019, arXiv:1909.06335, draw a class mix for each client instead:
///   there all have one size)
/// - quantity:A: iid labels, sizes ~ Dirichlet(A)
/// - natural: as the data say
/// draw:N isn't dealt: client_shares.h.
///
/// Shares become counts by largest remainders. Training parts are never empty: under dirichlet and
/// quantity a client left without examples takes one from the largest. The draws depend on seed,
/// clients and classes only, never on the number of examples. Errors: kInvalidArgument when shards
/// don't divide the examples (names sizes that would), clients > examples, a label or client number
/// is out of range, or a natural client has no training example. Cost: O(examples + clients *
/// classes) and sorting.
Result<std::vector<std::vector<uint32_t>>> partition(const PartitionRule& rule,
                                                     const PartitionRequest& request);

}  // namespace tern
