#include "simulations/peer_benchmark.h"

#include <fmt/format.h>

#include <span>
#include <utility>
#include <vector>

#include "tests/bench/codec_peers.h"
#include "tests/bench/stopwatch.h"

namespace tern {

using nlohmann::ordered_json;

namespace {

/// A peer and the chains beside it.
struct Pairing {
  CodecPeer peer;
  size_t bytes = 0;
  std::vector<double> seconds;
  std::vector<MeasuredChain> chains;
  std::vector<std::vector<double>> chain_seconds;
};

double nmse_of(std::span<const float> update, std::span<const float> decoded) {
  double squares = 0, errors = 0;
  for (size_t i = 0; i < update.size(); ++i) {
    const double x = update[i], lost = x - decoded[i];
    squares += x * x;
    errors += lost * lost;
  }
  return errors / squares;
}

Result<ordered_json> rows_of(Pairing& pairing, const BenchmarkUpdate& update) {
  TERN_TRY(const std::vector<float> decoded, pairing.peer.decode());
  const double peer_nmse = nmse_of(update.values, decoded);
  const double peer_seconds = median(pairing.seconds);
  ordered_json rows = ordered_json::array();
  for (size_t i = 0; i < pairing.chains.size(); ++i) {
    MeasuredChain& chain = pairing.chains[i];
    const double seconds = median(pairing.chain_seconds[i]);
    TERN_TRY(const double nmse, chain.nmse());
    rows.push_back({{"peer", pairing.peer.name},
                    {"spec", chain.spec()},
                    {"n", update.values.size()},
                    {"peer_seconds", peer_seconds},
                    {"seconds", seconds},
                    {"time_ratio", peer_seconds / seconds},
                    {"peer_bytes", pairing.bytes},
                    {"bytes", chain.frame_bytes()},
                    {"size_ratio",
                     static_cast<double>(pairing.bytes) / static_cast<double>(chain.frame_bytes())},
                    {"peer_nmse", peer_nmse},
                    {"nmse", nmse}});
  }
  return rows;
}

}  // namespace

Result<ordered_json> measure_peers(const BenchmarkUpdate& update, size_t repeats,
                                   BenchProgress& progress, const std::atomic<bool>& stop) {
  std::vector<Pairing> pairings;
  TERN_TRY(std::vector<CodecPeer> peers, make_codec_peers(update.values));
  for (CodecPeer& peer : peers) {
    Pairing pairing{.peer = std::move(peer)};
    for (const std::string& spec : pairing.peer.beside) {
      TERN_TRY(MeasuredChain chain, MeasuredChain::make(spec, update));
      pairing.chains.push_back(std::move(chain));
    }
    pairing.chain_seconds.resize(pairing.chains.size());
    pairings.push_back(std::move(pairing));
  }
  // The first pass warms allocators up and doesn't count.
  for (size_t repeat = 0; repeat <= repeats; ++repeat) {
    for (Pairing& pairing : pairings) {
      if (stop) return error(Code::kCancelled, "interrupted");
      TERN_TRY(const double seconds, seconds_per_call(false, [&]() -> Status {
                 TERN_TRY(pairing.bytes, pairing.peer.encode());
                 return {};
               }));
      if (repeat > 0) pairing.seconds.push_back(seconds);
      for (size_t i = 0; i < pairing.chains.size(); ++i) {
        TERN_TRY(const double one,
                 seconds_per_call(false, [&] { return pairing.chains[i].encode(); }));
        if (repeat > 0) pairing.chain_seconds[i].push_back(one);
      }
    }
    if (repeat > 0) progress.add(1, fmt::format("repeat {}", repeat));
  }
  ordered_json rows = ordered_json::array();
  for (Pairing& pairing : pairings) {
    TERN_TRY(ordered_json some, rows_of(pairing, update));
    for (ordered_json& row : some) rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace tern
