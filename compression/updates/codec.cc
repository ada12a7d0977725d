#include "compression/updates/codec.h"

#include <algorithm>
#include <cstring>
#include <latch>

#include "base/bytes.h"
#include "compression/updates/chain.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/crc32c.h"
#include "compression/updates/frame.h"
#include "compression/updates/frame_header.h"
#include "compression/updates/input_stream.h"
#include "compression/updates/kernels/kernels.h"
#include "compression/updates/scratch.h"
#include "compression/updates/stages/factor_code.h"

namespace tern {

namespace {

/// Calls f(chunk number, where it begins, its length) for the chunks of a stream.
template <typename F>
void for_each_chunk(size_t elements, F f) {
  for (size_t chunk = 0; chunk < chunk_count(elements); ++chunk) {
    const size_t at = chunk * kChunkElements;
    f(chunk, at, std::min(kChunkElements, elements - at));
  }
}

size_t most_bytes(const Chain& chain, const Layout& layout) {
  const size_t elements = coded_elements(chain, layout);
  size_t fixed = frame_header_bytes(chain.stages) + frame_chunks(chain, layout) * kChunkEntryBytes +
                 2 * layout.small_elements;
  for_each_chunk(component_elements(chain, layout), [&](size_t, size_t, size_t n) {
    const size_t raw = sizeof(float) * n;
    fixed +=
        chain.component_chain ? std::min(most_chunk_bytes(*chain.component_chain, n), raw) : raw;
  });
  size_t bytes = 0, raw = 0;
  for_each_chunk(elements, [&](size_t, size_t, size_t n) {
    bytes += most_chunk_bytes(chain, n);
    raw += 4 * n;
  });
  // A selection may spread its values over the chunks in any way.
  if (chain.spreads()) bytes += most_value_bytes(chain, chain.selector->most_kept(layout));
  return fixed + std::min(bytes, raw);
}

void take_off_chunk(const DecodedChunk& decoded, std::span<float> rest) {
  if (!decoded.sparse) return kernels().subtract(decoded.values.data(), rest.size(), rest.data());
  for (size_t i = 0; i < decoded.values.size(); ++i) rest[decoded.index[i]] -= decoded.values[i];
}

/// Writes entries of the chunk table and bodies, each behind the one before.
class ChunkWriter {
 public:
  ChunkWriter(std::byte* table, std::byte* body) : table_(table), body_(body) {}

  std::byte* body() const { return body_; }
  /// Books the body that was written to body().
  void put(ChunkEntry entry) {
    entry.crc = crc32c({body_, entry.bytes});
    write_chunk_entry(table_, entry);
    table_ += kChunkEntryBytes;
    body_ += entry.bytes;
  }
  /// Books bodies whose entries are written, and moves them here.
  void take(size_t entries, const std::byte* bodies, size_t bytes) {
    if (bodies != body_) std::memmove(body_, bodies, bytes);
    table_ += entries * kChunkEntryBytes;
    body_ += bytes;
  }
  /// Books and copies chunks from elsewhere: entries, then bodies.
  void append(size_t entries, std::span<const std::byte> chunks) {
    const size_t table = entries * kChunkEntryBytes;
    std::memcpy(table_, chunks.data(), table);
    take(entries, chunks.data() + table, chunks.size() - table);
  }
  /// A writer of later chunks, `bytes` further on.
  ChunkWriter ahead(size_t entries, size_t bytes) const {
    return {table_ + entries * kChunkEntryBytes, body_ + bytes};
  }

 private:
  std::byte* table_;
  std::byte* body_;
};

/// Chunks of the main stream, from `first` up to `last`.
struct ChunkJob {
  const Chain* chain = nullptr;
  uint64_t seed = 0;
  std::span<float> rest;  ///< of the whole stream; empty: nothing is taken off it
  size_t first = 0;
  size_t last = 0;
};

/// `stream` begins at element `begin` of the main stream.
Status encode_chunks(const ChunkJob& job, InputStream& stream, size_t begin, CodecScratch& scratch,
                     ChunkWriter& writer) {
  for (size_t chunk = job.first; chunk < job.last; ++chunk) {
    const size_t at = chunk * kChunkElements;
    const size_t n = std::min(kChunkElements, begin + stream.size() - at);
    const ChunkContext context{job.seed, static_cast<uint32_t>(chunk),
                               job.chain->feedback != Feedback::kNone};
    const ChunkInput input{stream, at - begin, n, at};
    TERN_TRY(const ChunkEntry entry,
             encode_chunk(*job.chain, input, context, scratch, writer.body()));
    if (!job.rest.empty()) {
      // As a receiver decodes it, while all of it is in the cache.
      TERN_TRY(const DecodedChunk decoded,
               decode_chunk(*job.chain, entry, {writer.body(), entry.bytes}, n, context, scratch));
      take_off_chunk(decoded, job.rest.subspan(at, n));
    }
    writer.put(entry);
  }
  return {};
}

/// The same bytes with a share of the chunks for each thread: each writes as far behind the others
/// as theirs could get, and then all move together.
Status encode_in_parallel(const ChunkJob& job, const EncodeInput& input, CodecScratch& scratch,
                          ChunkWriter& writer) {
  const std::span<CodecScratch> helpers = scratch.helpers();
  const size_t shares = helpers.size() + 1;
  const size_t longest =
      std::min(most_chunk_bytes(*job.chain, kChunkElements), kChunkElements * sizeof(float));
  const auto part = [&](auto span, size_t at, size_t n) {
    return span.empty() ? span : span.subspan(at, n);
  };
  struct Share {
    ChunkJob job;
    ChunkWriter writer;
    const std::byte* begin = nullptr;
    Status done;
  };
  std::vector<Share> all;
  for (size_t i = 0; i < shares; ++i) {
    Share share{.job = job, .writer = writer, .begin = nullptr, .done = {}};
    share.job.first = job.last * i / shares;
    share.job.last = job.last * (i + 1) / shares;
    share.writer = writer.ahead(share.job.first, share.job.first * longest);
    share.begin = share.writer.body();
    all.push_back(std::move(share));
  }
  const auto work = [&](Share& share, CodecScratch& own) {
    const size_t begin = share.job.first * kChunkElements;
    const size_t n = std::min(share.job.last * kChunkElements, input.update.size()) - begin;
    InputStream stream({.update = part(input.update, begin, n),
                        .residual = part(input.residual, begin, n),
                        .sign = input.sign,
                        .rest = part(input.rest, begin, n)});
    share.done = encode_chunks(share.job, stream, begin, own, share.writer);
  };
  std::latch others(static_cast<ptrdiff_t>(helpers.size()));
  for (size_t i = 1; i < shares; ++i)
    scratch.pool()->submit([&, i](size_t) {
      work(all[i], helpers[i - 1]);
      others.count_down();
    });
  work(all[0], scratch);
  others.wait();
  for (Share& share : all) {
    TERN_CHECK_OK(share.done);
    writer.take(share.job.last - share.job.first, share.begin,
                static_cast<size_t>(share.writer.body() - share.begin));
  }
  return {};
}

/// A chunk of factors from element `at` on. Where they don't lie on the grid of a `step` they
/// become what a receiver decodes. Errors: those of encode_chunk.
Result<ChunkEntry> encode_component_chunk(const Chain& chain, uint64_t seed, float step, size_t at,
                                          std::span<float> part, CodecScratch& scratch,
                                          std::byte* out) {
  if (chain.principal->on_grid())
    return encode_factors(part, at, scratch.component_ends, step, scratch, out);
  const ChunkContext context{.seed = seed, .chunk = component_chunk(at / kChunkElements)};
  InputStream stream({.update = part});
  TERN_TRY(
      const ChunkEntry entry,
      encode_chunk(*chain.component_chain, {stream, 0, part.size(), at}, context, scratch, out));
  TERN_TRY(const DecodedChunk decoded,
           decode_chunk(*chain.component_chain, entry, {out, entry.bytes}, part.size(), context,
                        scratch));
  if (!decoded.sparse) std::ranges::copy(decoded.values, part.begin());  // else all are zero
  return entry;
}

/// Leaves in scratch.main what the principal components don't hold, as the receivers decode them.
/// Their chunks wait in scratch.component_chunks: the table, then the bodies.
Status take_components_off(const Chain& chain, uint64_t seed, CodecScratch& scratch) {
  const Layout& layout = scratch.layout;
  const Principal& principal = *chain.principal;
  const bool on_grid = principal.on_grid();
  const float step = on_grid ? principal.fit(scratch.main, layout, seed, scratch) : 0;
  if (!on_grid) principal.factorize(scratch.main, layout, seed, scratch);
  const std::span<float> factors = scratch.component_factors;
  const size_t table = chunk_count(factors.size()) * kChunkEntryBytes;
  scratch.component_chunks.resize(table + sizeof(float) * factors.size());
  ChunkWriter writer(scratch.component_chunks.data(), scratch.component_chunks.data() + table);
  for (size_t at = 0; at < factors.size(); at += kChunkElements) {
    const size_t n = std::min(kChunkElements, factors.size() - at);
    TERN_TRY(const ChunkEntry entry,
             encode_component_chunk(chain, seed, step, at, factors.subspan(at, n), scratch,
                                    writer.body()));
    writer.put(entry);
  }
  scratch.component_chunks.resize(
      static_cast<size_t>(writer.body() - scratch.component_chunks.data()));
  if (!on_grid) principal.add(factors, layout, -1, scratch.main);
  return {};
}

}  // namespace

Result<Codec> Codec::parse(std::string_view spec) {
  TERN_TRY(std::vector<Stage> stages, parse_spec(spec));
  return make(std::move(stages));
}

Result<Codec> Codec::make(std::vector<Stage> stages) {
  TERN_TRY(std::shared_ptr<const Chain> chain, make_chain(std::move(stages)));
  return Codec(std::move(chain));
}

const std::vector<Stage>& Codec::stages() const { return chain_->stages; }
Feedback Codec::feedback() const { return chain_->feedback; }

bool Codec::lossy() const {
  return std::ranges::any_of(stages(), [](const Stage& stage) { return stage.info->traits.lossy; });
}

Bias Codec::bias() const {
  Bias worst = Bias::kNone;
  for (const Stage& stage : stages()) worst = std::max(worst, stage.info->traits.bias);
  return worst;
}

Positions Codec::positions() const {
  if (!chain_->selector) return Positions::kAll;
  return chain_->selector->seeded() ? Positions::kSeeded : Positions::kTravel;
}

Result<Codec> Codec::with_rate(double rate) const {
  std::vector<Stage> stages = this->stages();
  for (Stage& stage : stages) {
    if (stage.info->argument != Argument::kRate) continue;
    TERN_TRY(const std::vector<Stage> parsed,
             parse_spec(fmt::format("{}:{}", stage.info->name, rate)));
    stage.argument = parsed[0].argument;
    return make(std::move(stages));
  }
  return refuse_chain(stages, "a warm-up needs a stage with a rate, topk or randk");
}

Status Codec::check_composition(const ChainUse& use) const {
  if (bias() == Bias::kBiased && !error_feedback() && !use.allow_biased) {
    const auto biased = std::ranges::find_if(
        stages(), [](const Stage& stage) { return stage.info->traits.bias == Bias::kBiased; });
    return refuse_chain(
        stages(),
        fmt::format("'{}' is biased: put 'ef' first so that what it loses comes back, or set "
                    "compression.allow_biased = true to accept the loss",
                    biased->info->name));
  }
  return {};
}

Status Codec::check_schema(const ParameterSchema& schema) const {
  const Chain& chain = *chain_;
  Layout layout;
  lay_out(chain, schema, layout);
  std::string idle = chain.projection ? chain.projection->idle(layout) : "";
  if (idle.empty() && chain.principal) idle = chain.principal->idle(layout);
  return idle.empty() ? Status() : refuse_chain(stages(), idle + ": a stage would change nothing");
}

size_t Codec::max_encoded_bytes(const ParameterSchema& schema) const {
  Layout layout;
  lay_out(*chain_, schema, layout);
  return most_bytes(*chain_, layout);
}

Result<size_t> Codec::encode(const FrameMeta& meta, const ParameterSchema& schema,
                             std::span<const float> x, CodecScratch& scratch,
                             std::span<std::byte> out, std::span<const float> factors) const {
  return encode_input(*chain_, meta, schema, {.update = x}, factors, scratch, out);
}

Result<size_t> encode_input(const Chain& chain, const FrameMeta& meta,
                            const ParameterSchema& schema, const EncodeInput& input,
                            std::span<const float> factors, CodecScratch& scratch,
                            std::span<std::byte> out) {
  if (input.update.size() != schema.elements())
    return error(Code::kInvalidArgument, "an update of {} elements for a schema of {}",
                 input.update.size(), schema.elements());
  if (chain.shapes && schema.tensors().empty() && schema.elements() > 0)
    return error(Code::kInvalidArgument,
                 "codec '{}' looks at the shapes of tensors, and the schema has none",
                 print_spec(chain.stages));
  const Layout& layout = scratch.layout;
  lay_out(chain, schema, scratch.layout);
  if (out.size() < most_bytes(chain, layout))
    return error(Code::kInvalidArgument,
                 "a frame of {} elements may take {} bytes, the buffer has {}", input.update.size(),
                 most_bytes(chain, layout), out.size());

  InputStream stream(input);
  const bool feedback = chain.feedback != Feedback::kNone;
  if (!chain.in_place()) {
    std::span<const float> x = stream.fetch_all();
    TERN_CHECK_OK(stream.check());
    if (chain.small_below > 0 || chain.principal) {
      scratch.main.resize(layout.main_elements);
      scratch.small.resize(layout.small_elements);
      gather(layout.main, x, scratch.main);
      gather(layout.small, x, scratch.small);
      x = scratch.main;
    }
    if (chain.principal) TERN_CHECK_OK(take_components_off(chain, meta.seed, scratch));
    if (chain.projection) {
      chain.projection->forward(x, layout, meta.seed, feedback, factors, scratch);
      x = scratch.stream;
    }
    stream = InputStream({.update = x});
  }
  if (chain.selector) chain.selector->prepare(stream, layout, scratch);

  const size_t main_chunks = chunk_count(stream.size());
  const size_t chunks = frame_chunks(chain, layout);
  const size_t header_bytes = frame_header_bytes(chain.stages);
  ChunkWriter writer(out.data() + header_bytes,
                     out.data() + header_bytes + chunks * kChunkEntryBytes);
  const bool take_off = chain.in_place() && !input.rest.empty();
  const EncodeInput coded = chain.in_place() ? input : EncodeInput{.update = stream.fetch_all()};
  const ChunkJob job{.chain = &chain,
                     .seed = meta.seed,
                     .rest = take_off ? input.rest : std::span<float>(),
                     .last = main_chunks};
  if (scratch.pool() != nullptr && stream.size() >= kParallelElements && !chain.spreads()) {
    TERN_CHECK_OK(encode_in_parallel(job, coded, scratch, writer));
  } else {
    TERN_CHECK_OK(encode_chunks(job, stream, 0, scratch, writer));
  }
  for_each_chunk(layout.small_elements, [&](size_t, size_t at, size_t n) {
    writer.put(encode_half_chunk(std::span(scratch.small).subspan(at, n), writer.body()));
  });
  if (const size_t apart = chunk_count(component_elements(chain, layout)); apart > 0)
    writer.append(apart, scratch.component_chunks);
  const auto total = static_cast<size_t>(writer.body() - out.data());
  write_frame_header(out.data(), chain.stages, meta, schema, chunks, total);
  if (!chain.in_place() && !input.rest.empty()) {
    TERN_TRY(const CheckedFrame frame, inspect(out.first(total), schema, {}, scratch));
    TERN_CHECK_OK(subtract_decoded(frame, scratch, input.rest));
  }
  return total;
}

Result<std::vector<Codec>> parse_chains(std::string_view text) {
  std::vector<Codec> chains;
  for (;;) {
    const size_t end = text.find(';');
    Result<Codec> codec = Codec::parse(text.substr(0, end));
    if (!codec && end == std::string_view::npos && chains.empty()) return codec.error();
    if (!codec) return std::move(codec).error().within(fmt::format("chain {}", chains.size() + 1));
    chains.push_back(*std::move(codec));
    if (end == std::string_view::npos) return chains;
    text.remove_prefix(end + 1);
  }
}

std::string print_chains(std::span<const Codec> chains) {
  std::string text;
  for (const Codec& codec : chains) text += (text.empty() ? "" : "; ") + codec.spec();
  return text;
}

}  // namespace tern
