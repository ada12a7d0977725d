/// Whose examples are whose, as data.partition says. No LibTorch here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "config/scenario.h"
#include "learning/client_shares.h"
#include "learning/dataset.h"
#include "learning/learning_data.h"

namespace tern {

struct Deal {
  ClientShares train;
  ClientShares test;  ///< a client may have none
};

/// fleet.clients, or how many natural clients the data have. Errors: kInvalidArgument when the two
/// differ, or for a partition that can't be; with Where{key}.
Result<uint32_t> fleet_size(const Scenario& scenario, const DataBundle& data);

/// Deals `data` to as many clients as fleet_size() says. The same scenario, seed
/// and data give the same deal everywhere, so each device can take its own share by itself. Errors:
/// those of fleet_size and of partition, with Where{key}.
Result<Deal> deal_examples(const Scenario& scenario, const DataBundle& data);

/// What one device keeps of `data`: `train` and `test` are indices of its examples, which become
/// the examples of client `number` and the whole test part. Errors: those of make_learning_data.
Result<std::shared_ptr<const LearningData>> own_share(const ModelConfig& model,
                                                      const DataBundle& data, uint32_t number,
                                                      const std::vector<uint32_t>& train,
                                                      const std::vector<uint32_t>& test);

}  // namespace tern
