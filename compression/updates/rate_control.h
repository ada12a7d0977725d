/// Which chain of a ladder a client encodes with, from what its link carries in the time there is.
///
/// What counts is the error of a round's mean. Over a cohort of N clients unbiased noise averages
/// out, so a frame of squared error e leaves e / N of it; what `ef` holds back is missing from the
/// mean as it is, and comes late. `error_in_mean` puts both on one scale: squared error over
/// squared norm of the update. That is why a chain with ef and an unbiased one can stand on one
/// ladder.
///
/// A synchronous round lasts as long as its slowest transfer. With a deadline T each client sends
/// the most that its link carries in T: for frames whose error goes with 1 / bytes, no other
/// division of that time gives a mean of less error.
///
/// After Konecny et al. 2016, arXiv:1610.05492 (fewer bits where the link is slow). Bandwidth alone
/// would compress clients with much to say as hard as all others (HeteRo-Select): `importance` and
/// `worst_error` bound what a client's update may lose.
///
/// Where bytes are what counts, and not time, divide_bytes() gives more of them to who moves the
/// mean more.
///
/// Pure functions: the same arguments give the same choice. Threads: safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "compression/updates/ladder.h"

namespace tern {

/// Why a rung was chosen.
enum class RateReason : uint8_t {
  kMostAccurate,  ///< no rung has less error, and it fits
  kFits,          ///< of those that fit it has the least error
  kNoneFits,      ///< none fits: it is the cheapest
  kGuard,         ///< it doesn't fit, but those that do lose more than worst_error
  kUnknownLink,   ///< nobody knows what the client's link carries; not given by choose_rung
};
/// "most_accurate", "fits", "none_fits", "guard", "unknown_link"
std::string_view name(RateReason reason);

struct RateQuery {
  double budget_bytes = std::numeric_limits<double>::infinity();
  uint32_t cohort = 1;      ///< updates that the round averages
  bool keeps_state = true;  ///< false: no rung with error feedback
  /// (weight x norm)^2 of the client's last update, over the fleet's mean of that.
  double importance = 1;
  /// Bound on importance x error_in_mean.
  double worst_error = std::numeric_limits<double>::infinity();
};

struct RateChoice {
  size_t rung = 0;  ///< place in the ladder
  RateReason reason = RateReason::kMostAccurate;
};

double error_in_mean(const Rung& rung, uint32_t cohort);

/// Of equal rungs the first. A ladder with no rung that the client can use (all have error
/// feedback, and it keeps no state) is used as if it could. Needs at least one rung.
RateChoice choose_rung(std::span<const Rung> ladder, const RateQuery& query);

/// A client of a round.
struct RateClient {
  double bytes_per_second = 0;  ///< above 0, where links matter
  double importance = 1;
  bool keeps_state = true;
};

/// What a round's clients have in common.
struct RoundQuery {
  uint32_t cohort = 1;
  double worst_error = std::numeric_limits<double>::infinity();
};

/// Seconds that the slowest client needs at least, with the rung it gets when nothing fits: the
/// round waits for it, so nobody has to hurry more than that.
double slowest_seconds(std::span<const Rung> ladder, std::span<const RateClient> clients,
                       const RoundQuery& query);

/// The shortest deadline, in seconds, at which the clients' choices leave a mean of at most
/// `mean_error`, each error weighted by importance; when none does, the one at which all get the
/// most accurate rung. Not below slowest_seconds. Cost: O(clients x rungs x log of both).
double shortest_deadline(std::span<const Rung> ladder, std::span<const RateClient> clients,
                         const RoundQuery& query, double mean_error);

/// A budget for each client, in their order, of `mean_bytes` on average at most: the one division
/// for which the errors of what is chosen, each weighted by importance, add up to the least, but
/// for a last step that didn't fit. All get the average where that isn't enough for everybody's
/// cheapest rung. Links don't matter. On the convex hulls of bytes and error (Shoham & Gersho 1988,
/// optimal bit allocation for a set of quantizers). Cost: O(clients x rungs x log of both).
std::vector<double> divide_bytes(std::span<const Rung> ladder, std::span<const RateClient> clients,
                                 const RoundQuery& query, double mean_bytes);

}  // namespace tern
