/// What a sender remembers between rounds, so that what a lossy chain loses of one update is made
/// up for later. Transactional: encoding gives a frame and the memory as it will be; that counts
/// only once the receiver has acknowledged the frame.
///
/// - `ef` (EF14): the residual is added to the next update. Law: sum of committed decoded frames +
///   residual = sum of committed updates (each residual aged as below). Paper: Seide et al. 2014;
///   Stich et al. 2018, arXiv:1809.07599; Karimireddy et al. 2019, arXiv:1901.09847.
/// - `ef21`: both sides keep an estimate g of the sender's update and the chain codes update - g.
///   Law: g = the sum of committed decoded frames. What the receiver adds up is the change of the
///   mean of the estimates, so it has to keep that mean (see coordinator/strategies). Paper:
///   Richtarik et al. 2021, arXiv:2106.05203; partial participation as in Fatkhullin et al. 2021,
///   arXiv:2110.03294.
/// - `dgc:M`: u = M u + update, v = v + u, the chain codes v; both are zero afterwards where a
/// value
///   was sent. Where the selection keeps everything nothing is masked, so that it is momentum SGD.
///   Paper: Lin et al. 2018, arXiv:1712.01887. Deviations: the gradient isn't clipped here, and
///   what quantizing loses of a sent value stays in v.
///
/// Deviation from all of them: commit and rollback, and ageing of what clients that are rarely
/// asked still owe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "compression/updates/codec.h"
#include "compression/updates/scratch.h"

namespace tern {

/// How a residual is kept between rounds. kBfloat16 takes half the memory and loses up to 2^-9 of
/// each coordinate, so the laws hold up to that.
enum class ResidualStore : uint8_t { kFloat32 = 0, kBfloat16 = 1 };

/// One sender's memory; all empty until the first commit, which counts as zeros. A plain value.
struct SenderMemory {
  std::vector<float> residual;       ///< ef, dgc: what is still owed; ef21: the estimate
  std::vector<uint16_t> residual16;  ///< the same as bfloat16; one of the two is empty
  std::vector<float> momentum;       ///< dgc
  std::vector<float> factors;        ///< lowrank: what it starts from

  bool empty() const { return residual.empty() && residual16.empty() && factors.empty(); }
  /// The number of elements of the residual.
  size_t size() const { return residual.size() + residual16.size(); }
  /// out[i] += sign * residual[i]; out is as long as the residual, or the residual is empty.
  void add_residual(std::span<float> out, float sign = 1.0f) const;

  /// Halves what is owed once for each further `stale_after` rounds without a task beyond the
  /// first; 0: never. An estimate of ef21 stays as it is, because the receiver's does.
  void age(Feedback feedback, uint32_t rounds_without_task, uint32_t stale_after);
};

/// An encoded update whose fate is open. Drop it to roll back; to commit, put `next` in the place
/// of the sender's memory.
struct PendingUpdate {
  std::vector<std::byte> frame;
  SenderMemory next;
};

/// Encodes an update of this schema. The bytes depend on codec, meta, schema, update and memory
/// alone. Errors: as Codec::encode; kInvalidArgument when the memory has another length. Cost:
/// O(n). `reuse`: an earlier result that is no longer needed, whose memory this one takes over.
Result<PendingUpdate> encode_update(const Codec& codec, const FrameMeta& meta,
                                    const ParameterSchema& schema, std::span<const float> update,
                                    const SenderMemory& memory, CodecScratch& scratch,
                                    ResidualStore store = ResidualStore::kFloat32,
                                    PendingUpdate reuse = {});

}  // namespace tern
