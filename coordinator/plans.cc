#include "coordinator/plans.h"

#include <chrono>

#include "config/model_card.h"

namespace tern {

const SignedPlan& Plans::get(PlanKind kind, uint32_t round, const std::string& chain) {
  const auto [plan, missing] = plans_.try_emplace({kind, round, chain});
  if (missing) plan->second.content = make(kind, round, chain);
  sign(plan->second);
  return plan->second;
}

RoundPlan Plans::make(PlanKind kind, uint32_t round, const std::string& chain) const {
  const Scenario& scenario = setup_.scenario;
  const VersionedModel& model = state_.model();
  RoundPlan plan{.kind = kind,
                 .run_id = setup_.run_id,
                 .round = round,
                 .version = model.version(),
                 .model_sha256 = model.sha256(),
                 .schema_hash = setup_.schema.hash(),
                 .run_seed = scenario.seed};
  plan.cohort = scenario.fleet.cohort;
  plan.min_updates = scenario.fleet.min_updates;
  plan.codec = chain;
  plan.training = scenario.training;
  plan.versions = model.tree();
  plan.grid_bits = kGridBits;
  plan.stale_after = scenario.compression.error_feedback.stale_after;
  plan.residual16 = scenario.compression.error_feedback.store == "bfloat16";
  return plan;
}

void Plans::sign(SignedPlan& plan) const {
  const int64_t now = loop_.unix_seconds();
  const int64_t lifetime =
      std::chrono::duration_cast<std::chrono::seconds>(setup_.plan_lifetime).count();
  if (plan.plan.expires != 0 && now < plan.plan.issued + lifetime / 2) return;
  const VersionedModel& model = state_.model();
  plan.plan = sign_bytes(key_, kPlanPurpose, to_bytes(plan.content), now, now + lifetime);
  plan.manifest = sign_bytes(key_, kManifestPurpose,
                             to_bytes(ModelManifest{.run_id = setup_.run_id,
                                                    .version = model.version(),
                                                    .parent_sha256 = state_.parent_sha256(),
                                                    .sha256 = model.sha256(),
                                                    .schema_hash = setup_.schema.hash()}),
                             now, now + lifetime);
}

}  // namespace tern
