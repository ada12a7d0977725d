#include "learning/partition.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

#include "learning/partition_draws.h"

namespace tern {
namespace {

using Parts = std::vector<std::vector<uint32_t>>;

constexpr double kMinAlpha = 1e-6;
constexpr double kMaxAlpha = 1e6;
/// Of draw:N, without an ALPHA of its own.
constexpr double kMixAlpha = 0.3;
constexpr uint32_t kMostDrawn = 1'000'000;

Rng draw_rng(const PartitionRequest& request, PartitionDraw draw, uint32_t client = 0,
             uint32_t index = 0) {
  return {request.seed, Purpose::kPartition, static_cast<uint32_t>(draw), client, index};
}

/// Which of the examples with equal rights come first: the only draw in which test data have their
/// own stream.
Rng order_rng(const PartitionRequest& request, uint32_t label = 0) {
  return draw_rng(request, request.for_test ? PartitionDraw::kTestOrder : PartitionDraw::kOrder, 0,
                  label);
}

std::vector<uint32_t> all_examples(const PartitionRequest& request) {
  std::vector<uint32_t> indices(request.labels.size());
  std::iota(indices.begin(), indices.end(), 0U);
  return indices;
}

/// Where piece `i` of `pieces` starts when `n` things are cut as evenly as possible; n and pieces
/// are below 2^32.
size_t even_cut(size_t n, uint64_t i, uint64_t pieces) {
  return static_cast<size_t>(uint64_t{n} * i / pieces);
}

Parts iid(const PartitionRequest& request) {
  std::vector<uint32_t> indices = all_examples(request);
  Rng rng = order_rng(request);
  rng.shuffle(std::span<uint32_t>(indices));
  Parts parts(request.clients);
  for (uint32_t c = 0; c < request.clients; ++c)
    parts[c].assign(
        indices.begin() + static_cast<ptrdiff_t>(even_cut(indices.size(), c, request.clients)),
        indices.begin() + static_cast<ptrdiff_t>(even_cut(indices.size(), c + 1, request.clients)));
  return parts;
}

/// "with 100 clients shards:6 or shards:8; with shards:7 75 or 120 clients": the nearest sizes that
/// divide n.
std::string sizes_that_divide(uint64_t n, uint64_t clients, uint64_t shards) {
  const auto nearest = [n](uint64_t fixed, uint64_t wanted) {
    std::vector<uint64_t> found;
    for (uint64_t k = std::min(wanted, n / fixed); k >= 1; --k)
      if (n % (fixed * k) == 0) {
        found.push_back(k);
        break;
      }
    for (uint64_t k = wanted + 1; fixed * k <= n; ++k)
      if (n % (fixed * k) == 0) {
        found.push_back(k);
        break;
      }
    return found;
  };
  const auto ks = nearest(clients, shards);
  const auto cs = nearest(shards, clients);
  std::string text;
  if (!ks.empty())
    text = fmt::format("with {} clients shards:{}", clients, fmt::join(ks, " or shards:"));
  if (!cs.empty())
    text += fmt::format("{}with shards:{} {} clients", text.empty() ? "" : "; ", shards,
                        fmt::join(cs, " or "));
  return text.empty() ? "iid or dirichlet" : text;
}

Result<Parts> shards(const PartitionRule& rule, const PartitionRequest& request) {
  const size_t n = request.labels.size();
  const uint64_t count = uint64_t{request.clients} * rule.shards;
  if (!request.for_test && n % count != 0)
    return error(Code::kInvalidArgument,
                 "{} clients x {} shards = {} equal shards don't divide {} training examples; "
                 "these would: {}",
                 request.clients, rule.shards, count, n,
                 sizes_that_divide(n, request.clients, rule.shards));
  if (count > std::numeric_limits<uint32_t>::max())
    return error(Code::kInvalidArgument, "{} clients x {} shards are more than 2^32 - 1",
                 request.clients, rule.shards);
  std::vector<uint32_t> by_label = all_examples(request);
  std::stable_sort(by_label.begin(), by_label.end(),
                   [&](uint32_t a, uint32_t b) { return request.labels[a] < request.labels[b]; });
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  Rng rng = draw_rng(request, PartitionDraw::kShards);
  rng.shuffle(std::span<uint32_t>(order));
  Parts parts(request.clients);
  for (uint64_t i = 0; i < count; ++i) {
    std::vector<uint32_t>& part = parts[i / rule.shards];
    part.insert(
        part.end(), by_label.begin() + static_cast<ptrdiff_t>(even_cut(n, order[i], count)),
        by_label.begin() + static_cast<ptrdiff_t>(even_cut(n, order[i] + uint64_t{1}, count)));
  }
  return parts;
}

/// One Dirichlet(alpha) vector over the clients.
std::vector<double> dirichlet_shares(const PartitionRequest& request, PartitionDraw draw,
                                     uint32_t index, double alpha) {
  std::vector<double> shares(request.clients);
  for (uint32_t c = 0; c < request.clients; ++c) {
    Rng rng = draw_rng(request, draw, c, index);
    shares[c] = log_gamma_variate(rng, alpha);
  }
  to_shares(shares);
  return shares;
}

/// Counts that add up to n, each less than one from n * share; the largest remainders are rounded
/// up, ties to the lower client.
std::vector<size_t> largest_remainders(const std::vector<double>& shares, size_t n) {
  std::vector<size_t> counts(shares.size());
  std::vector<std::pair<double, uint32_t>> remainders(shares.size());
  size_t left = n;
  for (uint32_t c = 0; c < shares.size(); ++c) {
    const double quota = shares[c] * static_cast<double>(n);
    // The minimum matters only when rounding made the shares add up to more than 1.
    counts[c] = std::min(static_cast<size_t>(quota), left);
    left -= counts[c];
    remainders[c] = {static_cast<double>(counts[c]) - quota, c};
  }
  // At most one for each client is left, up to rounding errors; a partial sort needs no more.
  while (left > 0) {
    const size_t now = std::min(left, remainders.size());
    std::nth_element(remainders.begin(), remainders.begin() + static_cast<ptrdiff_t>(now - 1),
                     remainders.end());
    for (size_t i = 0; i < now; ++i) ++counts[remainders[i].second];
    left -= now;
  }
  return counts;
}

/// Deals `indices` out in runs of `counts`.
void deal(std::span<const uint32_t> indices, const std::vector<size_t>& counts, Parts& parts) {
  size_t at = 0;
  for (size_t c = 0; c < counts.size(); ++c) {
    parts[c].insert(parts[c].end(), indices.begin() + static_cast<ptrdiff_t>(at),
                    indices.begin() + static_cast<ptrdiff_t>(at + counts[c]));
    at += counts[c];
  }
}

/// Gives each empty part one example, drawn from the part that is largest then (ties: lower
/// client).
void fill_empty(const PartitionRequest& request, Parts& parts) {
  std::priority_queue<std::pair<size_t, int64_t>> by_size;
  for (size_t c = 0; c < parts.size(); ++c)
    by_size.emplace(parts[c].size(), -static_cast<int64_t>(c));
  for (uint32_t c = 0; c < parts.size(); ++c) {
    if (!parts[c].empty()) continue;
    // clients <= examples: while one part is empty, the largest has at least two.
    const auto giver = static_cast<size_t>(-by_size.top().second);
    by_size.pop();
    std::vector<uint32_t>& from = parts[giver];
    Rng rng = draw_rng(request, PartitionDraw::kRefill, c);
    std::swap(from[rng.below(static_cast<uint32_t>(from.size()))], from.back());
    parts[c].push_back(from.back());
    from.pop_back();
    by_size.emplace(from.size(), -static_cast<int64_t>(giver));
  }
}

Parts dirichlet(const PartitionRule& rule, const PartitionRequest& request) {
  std::vector<std::vector<uint32_t>> of_class(request.classes);
  for (uint32_t i = 0; i < request.labels.size(); ++i) of_class[request.labels[i]].push_back(i);
  Parts parts(request.clients);
  for (uint32_t label = 0; label < request.classes; ++label) {
    std::vector<uint32_t>& examples = of_class[label];
    Rng rng = order_rng(request, label);
    rng.shuffle(std::span<uint32_t>(examples));
    deal(examples,
         largest_remainders(
             dirichlet_shares(request, PartitionDraw::kClassShares, label, rule.alpha),
             examples.size()),
         parts);
  }
  return parts;
}

Parts quantity(const PartitionRule& rule, const PartitionRequest& request) {
  std::vector<uint32_t> indices = all_examples(request);
  Rng rng = order_rng(request);
  rng.shuffle(std::span<uint32_t>(indices));
  Parts parts(request.clients);
  deal(indices,
       largest_remainders(dirichlet_shares(request, PartitionDraw::kSizes, 0, rule.alpha),
                          indices.size()),
       parts);
  return parts;
}

Result<Parts> natural(const PartitionRequest& request) {
  if (request.natural_client.size() != request.labels.size())
    return error(Code::kInvalidArgument,
                 "partition \"natural\" needs data that name the client of each example, such as "
                 "csv with data.client");
  Parts parts(request.clients);
  for (uint32_t i = 0; i < request.natural_client.size(); ++i) {
    const uint32_t client = request.natural_client[i];
    if (client >= request.clients)
      return error(Code::kInvalidArgument, "example {} belongs to client {} of {}", i, client,
                   request.clients);
    parts[client].push_back(i);
  }
  for (uint32_t c = 0; c < request.clients; ++c)
    if (parts[c].empty() && !request.for_test)
      return error(Code::kInvalidArgument, "natural client {} of {} has no training example", c,
                   request.clients);
  return parts;
}

/// The whole of [first, last) is a number.
template <typename Number>
bool parses(const char* first, const char* last, Number& number) {
  const auto [end, failed] = std::from_chars(first, last, number);
  return failed == std::errc() && end == last;
}

bool parses_alpha(const char* first, const char* last, double& alpha) {
  return parses(first, last, alpha) && alpha >= kMinAlpha && alpha <= kMaxAlpha;
}

}  // namespace

Result<PartitionRule> parse_partition(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string name = text.substr(0, colon);
  const char* first = text.data() + (colon == std::string::npos ? text.size() : colon + 1);
  const char* last = text.data() + text.size();
  const auto bad = [&](std::string_view why) {
    return error(Code::kInvalidArgument,
                 "partition \"{}\": {}; known: iid, shards:K, dirichlet:ALPHA, quantity:ALPHA, "
                 "draw:N[:ALPHA], natural",
                 text, why);
  };
  PartitionRule rule;
  if (name == "iid" || name == "natural") {
    if (colon != std::string::npos) return bad("takes no argument");
    rule.kind = name == "iid" ? PartitionRule::Kind::kIid : PartitionRule::Kind::kNatural;
    return rule;
  }
  if (name == "shards") {
    rule.kind = PartitionRule::Kind::kShards;
    if (!parses(first, last, rule.shards) || rule.shards == 0)
      return bad("K must be a whole number from 1");
    return rule;
  }
  if (name == "dirichlet" || name == "quantity") {
    rule.kind =
        name == "dirichlet" ? PartitionRule::Kind::kDirichlet : PartitionRule::Kind::kQuantity;
    if (!parses_alpha(first, last, rule.alpha))
      return bad("ALPHA must be a number from 1e-6 to 1e6");
    return rule;
  }
  if (name == "draw") {
    rule.kind = PartitionRule::Kind::kDraw;
    const char* colon_behind = std::find(first, last, ':');
    if (!parses(first, colon_behind, rule.examples) || rule.examples == 0 ||
        rule.examples > kMostDrawn)
      return bad("N must be a whole number from 1 to 1000000");
    rule.alpha = kMixAlpha;
    if (colon_behind != last && !parses_alpha(colon_behind + 1, last, rule.alpha))
      return bad("ALPHA must be a number from 1e-6 to 1e6");
    return rule;
  }
  return bad("unknown rule");
}

Result<Parts> partition(const PartitionRule& rule, const PartitionRequest& request) {
  const size_t n = request.labels.size();
  if (request.clients == 0)
    return error(Code::kInvalidArgument, "a partition needs at least one client");
  if (n > std::numeric_limits<uint32_t>::max())
    return error(Code::kInvalidArgument, "{} examples are more than 2^32 - 1", n);
  if (!request.for_test && request.clients > n)
    return error(Code::kInvalidArgument, "{} clients can't share {} training examples",
                 request.clients, n);
  const auto wrong = std::find_if(request.labels.begin(), request.labels.end(),
                                  [&](uint32_t label) { return label >= request.classes; });
  if (wrong != request.labels.end())
    return error(Code::kInvalidArgument, "example {} has label {} of {} classes",
                 wrong - request.labels.begin(), *wrong, request.classes);
  Parts parts;
  switch (rule.kind) {
    case PartitionRule::Kind::kIid:
      parts = iid(request);
      break;
    case PartitionRule::Kind::kShards: {
      TERN_TRY(parts, shards(rule, request));
      break;
    }
    case PartitionRule::Kind::kDirichlet:
      parts = dirichlet(rule, request);
      break;
    case PartitionRule::Kind::kQuantity:
      parts = quantity(rule, request);
      break;
    case PartitionRule::Kind::kDraw:
      return error(Code::kInvalidArgument, "draw:N is drawn client by client, not dealt");
    case PartitionRule::Kind::kNatural: {
      TERN_TRY(parts, natural(request));
      break;
    }
  }
  if (!request.for_test) fill_empty(request, parts);
  for (std::vector<uint32_t>& part : parts) std::sort(part.begin(), part.end());
  return parts;
}

}  // namespace tern
