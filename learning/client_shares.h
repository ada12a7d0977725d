/// Which examples each client holds. No LibTorch here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "learning/partition.h"

namespace tern {

/// Dealt out by partition(), or drawn when they are asked for: under draw:N a client is a number
/// until it trains, and a fleet of a million takes no more memory than one of a thousand. Threads:
/// immutable, share freely. Copies share what they hold.
class ClientShares {
 public:
  ClientShares() = default;
  /// A list of examples for each client.
  ClientShares(std::vector<std::vector<uint32_t>> dealt);
  /// By `rule`, draw:N. Each client has its own mix of the classes that the data have, drawn from
  /// Dirichlet(ALPHA) (Hsu et al. 2019, arXiv:1909.06335), and draws each of its examples by
  /// itself: a class from the mix, then one of its examples. So an example may belong to several
  /// clients, or twice to one. For testing a client draws with the same mix as many as there are
  /// for each of its N in the whole data, but at least one. The draws depend on seed, client and
  /// labels only. Errors: kInvalidArgument for no labels, or one that is out of range. Memory: 4
  /// bytes an example of the data.
  static Result<ClientShares> draw(const PartitionRule& rule, const PartitionRequest& request,
                                   size_t train_examples);

  uint32_t clients() const { return clients_; }
  /// How many a client holds; client < clients().
  uint32_t examples(uint32_t client) const;
  /// The most that one holds, and all of them together.
  uint32_t largest() const;
  uint64_t total() const;
  /// Those of a client, in increasing order. Cost: O(its examples + classes).
  std::vector<uint32_t> of(uint32_t client) const;
  /// For each client, unless they are drawn: then none.
  const std::vector<std::vector<uint32_t>>& dealt() const;

 private:
  struct Drawn {
    uint64_t seed = 0;
    bool for_test = false;
    uint32_t examples = 0;  ///< of each client
    double alpha = 0;
    std::vector<uint32_t> by_class;      ///< examples
    std::vector<uint32_t> class_starts;  ///< in by_class, one more than classes
  };

  uint32_t clients_ = 0;
  std::shared_ptr<const std::vector<std::vector<uint32_t>>> dealt_;
  std::shared_ptr<const Drawn> drawn_;
};

}  // namespace tern
