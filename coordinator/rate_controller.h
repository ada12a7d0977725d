/// The chains of a round: which client encodes with which, and why. Decides by
/// compression/updates/rate_control.h from what the coordinator knows of links, frames and updates;
/// without rate control everybody gets compression.up.
///
/// What is known of a link, the first that there is: what the list of clients says, what the
/// scenario says of the fleet, what uploads have shown. Only the last of these depends on time, and
/// so can the model then.
///
/// What frames were like replaces expectations: the bytes of chains whose length follows the data,
/// and their error on the last mean update that was looked at. All of it is folded in at the end of
/// a round, as sums that don't depend on the order of arrival. Threads: one at a time, but uplink()
/// and measured_uplink() also while another thread is in end_round().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/parameter_schema.h"
#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/rate_control.h"
#include "compression/updates/scratch.h"
#include "config/rate_rule.h"
#include "config/scenario.h"

namespace tern {

/// What a client of a round was given.
struct GivenChain {
  size_t chain = 0;  ///< place in RoundChains::chains
  RateReason reason = RateReason::kMostAccurate;
  std::optional<double> budget_bytes;  ///< none without rate control, or for an unknown link
  double bytes = 0, nmse = 0;          ///< expected of its transfer; 0 without rate control
};

struct RoundChains {
  std::vector<Codec> chains;             ///< those that clients of this round were given
  std::map<uint32_t, GivenChain> given;  ///< by client
  std::optional<double> deadline_seconds;
};

/// What a resumed run needs to choose as one that was never interrupted.
struct RateState {
  std::map<std::string, double> bytes;      ///< of a chain's frames, by its text
  std::map<std::string, double> nmse;       ///< of a chain, on the last mean update looked at
  std::map<uint32_t, double> square_norms;  ///< of each client's last update, times its weight
};

class RateController {
 public:
  /// `uplinks`: bytes a second of each client by the list; 0, or too short: not known. Errors:
  /// those of the codecs.
  static Result<RateController> make(const Scenario& scenario, const ParameterSchema& schema,
                                     uint32_t clients, std::vector<double> uplinks);

  /// Bytes a second of the client's link, if anything is known.
  std::optional<double> uplink(uint32_t client) const;
  /// The chain of a round for everybody without rate control. Errors: those of warm_up.h.
  Result<Codec> chain_of_round(uint32_t round) const;
  /// The chains of a round for who is asked in it. Errors: those of warm_up.h.
  Result<RoundChains> begin_round(uint32_t round, std::span<const uint32_t> asked,
                                  CodecScratch& scratch);

  /// Takes up a round whose chains were chosen before. Errors: those of warm_up.h.
  Status resume_round(uint32_t round, RoundChains chains, CodecScratch& scratch);

  /// A frame of this round was counted: its length, and the norm of what it decodes to, times its
  /// weight in the mean.
  void counted(uint32_t client, size_t bytes, double norm);
  /// An upload took long enough to tell.
  void measured_uplink(uint32_t client, double bytes_per_second);
  /// The round is over; `mean` is its mean update, empty when it was void.
  Status end_round(std::span<const float> mean, CodecScratch& scratch);

  const RateState& state() const { return state_; }
  void restore(RateState state) { state_ = std::move(state); }

  /// The ladder of a round as it is chosen from, its bytes those of a transfer with its part
  /// headers; empty without rate control.
  Result<std::vector<Rung>> ladder(uint32_t round, CodecScratch& scratch);

 private:
  struct Frame {
    uint32_t client = 0;
    size_t bytes = 0;
    double norm = 0;
  };
  RateController(const Scenario& scenario, const ParameterSchema& schema, Codec up,
                 std::vector<Codec> ladder, std::vector<double> uplinks);
  double importance(uint32_t client) const;

  RateControlConfig config_;
  std::vector<WarmUpStep> warmup_;
  ParameterSchema schema_;
  Codec up_;
  std::vector<Codec> ladder_;  ///< as configured
  std::vector<Rung> rungs_;  ///< measured on Gaussian values; of the warm-up step of the last round
  std::vector<double> uplinks_;
  std::optional<RateRule> rule_;
  uint64_t seed_;
  uint32_t cohort_;
  bool keeps_state_;
  std::map<uint32_t, double> measured_uplinks_;
  RateState state_;
  double mean_square_norm_ = 0;  ///< over state_.square_norms, as of the beginning of the round
  // The round at hand.
  uint32_t round_ = 0;
  RoundChains chains_;
  std::vector<Frame> frames_;
};

}  // namespace tern
