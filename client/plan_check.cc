#include "client/plan_check.h"

#include <utility>

namespace tern {

namespace {

/// The plans of a round, and those of the one before that came late.
constexpr size_t kPlansRemembered = 32;

bool same(const SignedBytes& a, const SignedBytes& b) {
  return a.signature == b.signature && a.key == b.key && a.issued == b.issued &&
         a.expires == b.expires && a.payload == b.payload;
}

Status prefixed(const char* what, Status status) { return std::move(status).within(what); }

}  // namespace

const PlanCheck::Passed* PlanCheck::find(const PlanMessage& message, int64_t now) const {
  for (auto it = passed_.rbegin(); it != passed_.rend(); ++it)
    if (now < it->plan.expires && now < it->manifest.expires && same(it->plan, message.plan) &&
        same(it->manifest, message.manifest))
      return &*it;
  return nullptr;
}

Result<RoundPlan> PlanCheck::check(const PlanMessage& message, uint64_t run_id,
                                   uint64_t schema_hash, int64_t now) {
  const SignedBytes& signed_plan = message.plan;
  const SignedBytes& signed_manifest = message.manifest;
  const Passed* known = find(message, now);
  if (known == nullptr) {
    if (Status status = check_signed(signed_plan, server_, kPlanPurpose, now); !status.ok())
      return prefixed("the plan", std::move(status));
    if (Status status = check_signed(signed_manifest, server_, kManifestPurpose, now); !status.ok())
      return prefixed("the model manifest", std::move(status));
    TERN_TRY(RoundPlan plan, parse_plan(signed_plan.payload));
    TERN_TRY(const ModelManifest manifest, parse_manifest(signed_manifest.payload));
    if (manifest.run_id != plan.run_id || manifest.version != plan.version ||
        manifest.sha256 != plan.model_sha256 || manifest.schema_hash != plan.schema_hash)
      return error(Code::kInvalidArgument,
                   "the model manifest is of version {} with SHA-256 {}, the plan of version {} "
                   "with {}",
                   manifest.version, to_hex(manifest.sha256), plan.version,
                   to_hex(plan.model_sha256));
    if (passed_.size() == kPlansRemembered) passed_.pop_front();
    known = &passed_.emplace_back(Passed{signed_plan, signed_manifest, std::move(plan)});
  }
  const RoundPlan& plan = known->content;
  if (plan.run_id != run_id)
    return error(Code::kInvalidArgument, "a plan of run {:016x}, this session is of run {:016x}",
                 plan.run_id, run_id);
  TERN_CHECK_OK(plan.versions.check());
  if (plan.schema_hash != schema_hash)
    return error(Code::kInvalidArgument, "the plan is for schema {:016x}, this client has {:016x}",
                 plan.schema_hash, schema_hash);
  return plan;
}

}  // namespace tern
