#include "compression/updates/chain.h"

#include <algorithm>

#include "compression/updates/chunk_coder.h"

namespace tern {

namespace {

constexpr uint32_t kLargestRansAlphabet = 512;  // the values of a chunk don't fill larger ones

std::string_view family_name(Family family) {
  switch (family) {
    case Family::kState:
      return "state";
    case Family::kExempt:
      return "exempt";
    case Family::kPrincipal:
      return "principal";
    case Family::kBasis:
      return "basis";
    case Family::kBand:
      return "band";
    case Family::kTransform:
      return "transform";
    case Family::kSelect:
      return "select";
    case Family::kQuantize:
      return "quantize";
    case Family::kIndexCode:
      return "index code";
    case Family::kValueCode:
      return "value code";
  }
  return "";
}

const Stage* find(const std::vector<Stage>& stages, Family family) {
  const auto found = std::ranges::find_if(
      stages, [&](const Stage& stage) { return stage.info->family == family; });
  return found == stages.end() ? nullptr : &*found;
}

/// Four bits a number: with three a tenth of what is sent apart is lost again and left to the
/// chain.
const std::shared_ptr<const Chain>& shared_component_chain() {
  static const std::shared_ptr<const Chain> chain =
      make_chain(parse_spec("rotate:1024 | eden:4").value()).value();
  return chain;
}

uint32_t percent_of_band(const std::vector<Stage>& all) {
  const Stage* band = find(all, Family::kBand);
  return band ? band->argument : 100;
}

void build(const Stage& stage, const std::vector<Stage>& all, Chain& chain) {
  const uint32_t argument = stage.argument;
  const std::string_view name = stage.info->name;
  if (name == "ef") chain.feedback = Feedback::kEf14;
  if (name == "ef21") chain.feedback = Feedback::kEf21;
  if (name == "dgc") {
    chain.feedback = Feedback::kDgc;
    chain.momentum = static_cast<float>(argument) / 100.0f;
  }
  if (name == "small16") chain.small_below = argument;
  if (name == "principal") {
    chain.principal = std::make_unique<const Principal>(argument);
    chain.component_chain = shared_component_chain();
  }
  if (name == "components")
    chain.principal = std::make_unique<const Principal>(
        components_rank(argument), static_cast<float>(components_step(argument)) / 100.0f);
  if (name == "rotate") chain.transform = make_rotate(argument);
  if (name == "dct") chain.projection = make_dct(argument, percent_of_band(all));
  if (name == "lowrank") chain.projection = make_lowrank(argument);
  if (name == "sketch") chain.projection = make_sketch(argument);
  if (name == "topk") chain.selector = make_topk(argument);
  if (name == "topk-per-tensor") chain.selector = make_topk_per_tensor(argument);
  if (name == "randk-by-norm") chain.selector = make_randk_by_norm(argument);
  if (name == "threshold") chain.selector = make_threshold(argument);
  if (name == "randk") chain.selector = make_randk(argument);
  if (name == "float32") chain.format = make_float32();
  if (name == "float16") chain.format = make_float16();
  if (name == "bfloat16") chain.format = make_bfloat16();
  if (name == "int") chain.quantizer = make_int(argument);
  if (name == "ternary") chain.quantizer = make_ternary();
  if (name == "sign") chain.quantizer = make_sign();
  if (name == "qsgd") chain.quantizer = make_qsgd(argument);
  if (name == "natural") chain.quantizer = make_natural();
  if (name == "eden") chain.quantizer = make_eden(argument);
  if (name == "rice") chain.index_code = IndexCode::kRice;
  if (name == "cabac") chain.index_code = IndexCode::kCabac;
  if (name == "rans") chain.value_code = ValueCode::kRans;
  if (name == "zstd") chain.value_code = ValueCode::kZstd;
}

Status check_order(const std::vector<Stage>& all) {
  for (size_t i = 1; i < all.size(); ++i) {
    if (all[i].info->family == Family::kState)
      return refuse_chain(
          all, fmt::format("'{}' covers the whole chain and stands first", all[i].info->name));
    if (all[i].info->name == "float32")
      return refuse_chain(
          all, "values without a quantize stage are float32 anyway: leave 'float32' out");
    if (all[i].info->family <= all[i - 1].info->family)
      return refuse_chain(
          all, fmt::format("'{}' ({}) can't follow '{}' ({}); the order is state, exempt, "
                           "principal, basis, band, transform, select, quantize, index code, value "
                           "code, with one of "
                           "each at most",
                           all[i].info->name, family_name(all[i].info->family),
                           all[i - 1].info->name, family_name(all[i - 1].info->family)));
  }
  return {};
}

/// Stages that don't fit each other, whatever the chain is for.
Status check_fit(const std::vector<Stage>& all, const Chain& chain) {
  const Stage* principal = find(all, Family::kPrincipal);
  const Stage* basis = find(all, Family::kBasis);
  const Stage* band = find(all, Family::kBand);
  const Stage* transform = find(all, Family::kTransform);
  const Stage* select = find(all, Family::kSelect);
  const Stage* quantize = find(all, Family::kQuantize);
  if (band && !basis)
    return refuse_chain(all, fmt::format("'{}' says which frequencies travel: put 'dct:SIDE' "
                                         "before it",
                                         band->info->name));
  if (band && select && select->info->name == "topk-per-tensor")
    return refuse_chain(all, fmt::format("'{}' goes by whole tensors, which '{}' shortens: use "
                                         "topk",
                                         select->info->name, band->info->name));
  if (principal && !select && !quantize)
    return refuse_chain(all, fmt::format("after '{}' a select or quantize stage is missing, for "
                                         "what it leaves",
                                         principal->info->name));
  if (!find(all, Family::kExempt) && !basis && !transform && !select && !quantize)
    return refuse_chain(all,
                        "there is nothing here that makes an update into values, such as float32");
  const bool shortened = chain.projection && !basis;
  if (principal && shortened)
    return refuse_chain(all, fmt::format("'{}' takes off what '{}' would send: leave one out",
                                         principal->info->name, transform->info->name));
  if (basis && transform && !chain.transform)
    return refuse_chain(all, fmt::format("'{}' replaces what '{}' would have made: leave one out",
                                         transform->info->name, basis->info->name));
  if (basis && !select && !quantize)
    return refuse_chain(all, fmt::format("after '{}' a select or quantize stage is missing, which "
                                         "is what it is for",
                                         basis->info->name));
  const Stage* index_code = find(all, Family::kIndexCode);
  if (index_code && !select)
    return refuse_chain(all, fmt::format("'{}' codes the indices of a selection, and there is none",
                                         index_code->info->name));
  if (index_code && !chain.indexed())
    return refuse_chain(all,
                        fmt::format("'{}' has nothing to code: the positions of '{}' don't travel",
                                    index_code->info->name, select->info->name));
  if (chain.transform && chain.indexed())
    return refuse_chain(all,
                        fmt::format("after a rotation all magnitudes are alike: use randk instead "
                                    "of {}, or leave out rotate",
                                    select->info->name));
  if (chain.transform && !select && !quantize)
    return refuse_chain(all, "a rotation alone saves nothing: add a select or quantize stage");
  if (select && select->info->name == "randk-by-norm" && chain.transform &&
      transform->argument != kGroupElements)
    return refuse_chain(all,
                        fmt::format("'{}' goes by the norms of {} values, which other blocks than "
                                    "those of 'rotate:{}' mix",
                                    select->info->name, kGroupElements, kGroupElements));
  if (shortened && select)
    return refuse_chain(all, fmt::format("'{}' needs all its numbers: leave out {}",
                                         transform->info->name, select->info->name));
  if (shortened && quantize &&
      (quantize->info->name == "ternary" || quantize->info->name == "sign"))
    return refuse_chain(all, fmt::format("'{}' is too coarse for the numbers of '{}'",
                                         quantize->info->name, transform->info->name));
  if (quantize && quantize->info->name == "eden" &&
      !(chain.transform && transform->argument >= kGroupElements))
    return refuse_chain(all,
                        fmt::format("eden's levels are those of a rotated block and its scale is "
                                    "for {} values: put 'rotate:{}' or more before it",
                                    kGroupElements, kGroupElements));
  const Stage* value_code = find(all, Family::kValueCode);
  if (chain.value_code == ValueCode::kZstd && quantize && !quantize->info->traits.floats)
    return refuse_chain(all,
                        fmt::format("'zstd' is for floating-point values; use 'rans' after '{}'",
                                    quantize->info->name));
  if (chain.value_code == ValueCode::kRans) {
    if (!chain.quantizer || !quantize->info->traits.symbols)
      return refuse_chain(all,
                          fmt::format("'{}' codes symbols: put int, ternary, qsgd, natural or eden "
                                      "before it",
                                      value_code->info->name));
    const uint32_t alphabet = chain.quantizer->alphabet(chain.indexed());
    if (alphabet == 2) return refuse_chain(all, "signs are as short as they get: leave out 'rans'");
    if (alphabet > kLargestRansAlphabet)
      return refuse_chain(all,
                          fmt::format("{} different symbols are too many for 'rans'", alphabet));
  }
  return {};
}

/// What error feedback would pile up without end, or can't work with.
Status check_feedback(const std::vector<Stage>& all, const Chain& chain, bool lossy) {
  if (chain.feedback == Feedback::kNone) return {};
  const std::string_view state = all[0].info->name;
  if (const Stage* band = find(all, Family::kBand))
    return refuse_chain(all, fmt::format("'{}' would pile up what '{}' never sends: leave one out",
                                         state, band->info->name));
  if (!lossy && chain.feedback != Feedback::kDgc)
    return refuse_chain(
        all, fmt::format("'{}' keeps what a chain loses, and this chain loses nothing", state));
  if (const Stage* quantize = find(all, Family::kQuantize)) {
    const std::string_view name = quantize->info->name;
    if (!chain.indexed() && (name == "ternary" || (name == "int" && quantize->argument == 2)))
      return refuse_chain(
          all, fmt::format("three levels at random lose more than they keep, and '{}' would "
                           "pile that up without end: use sign, eden or more bits",
                           state));
    // The variance is below ||x||^2 from sqrt(n) levels on, n the values that share a norm.
    const uint32_t fewest = chain.indexed() ? 256 : 32;
    if (name == "qsgd" && quantize->argument < fewest)
      return refuse_chain(
          all, fmt::format("fewer than {} levels of a norm may lose more than they keep, "
                           "and '{}' would pile that up without end",
                           fewest, state));
  }
  if (chain.feedback == Feedback::kDgc && (!chain.selector || !chain.in_place()))
    return refuse_chain(
        all,
        "'dgc' masks the momentum of what was sent: it needs topk, topk-per-tensor, "
        "threshold, randk or randk-by-norm, and every tensor under it");
  if (chain.feedback == Feedback::kDgc && chain.transform)
    return refuse_chain(all,
                        "'dgc' masks coordinates, and a rotation mixes them: leave out rotate");
  return {};
}

}  // namespace

Status refuse_chain(const std::vector<Stage>& stages, std::string_view why) {
  return error(Code::kInvalidArgument, "codec '{}': {}", print_spec(stages), why);
}

Result<std::shared_ptr<const Chain>> make_chain(std::vector<Stage> stages) {
  if (stages.empty())
    return error(Code::kInvalidArgument, "a codec needs at least one stage, such as float32");
  TERN_CHECK_OK(check_order(stages));
  auto chain = std::make_shared<Chain>();
  bool lossy = false;
  for (const Stage& stage : stages) {
    build(stage, stages, *chain);
    chain->shapes = chain->shapes || stage.info->traits.shapes;
    lossy = lossy || stage.info->traits.lossy;
  }
  TERN_CHECK_OK(check_fit(stages, *chain));
  TERN_CHECK_OK(check_feedback(stages, *chain, lossy));
  if (!chain->quantizer && !chain->format) chain->format = make_float32();
  chain->stages = std::move(stages);
  return chain;
}

void lay_out(const Chain& chain, const ParameterSchema& schema, Layout& layout) {
  if (chain.shapes) return lay_out(schema, chain.small_below, layout);
  layout.main.clear();
  layout.small.clear();
  layout.main_elements = schema.elements();
  layout.small_elements = 0;
}

size_t coded_elements(const Chain& chain, const Layout& layout) {
  return chain.projection ? chain.projection->projected(layout) : layout.main_elements;
}

size_t component_elements(const Chain& chain, const Layout& layout) {
  return chain.principal ? chain.principal->factor_count(layout) : 0;
}

size_t frame_chunks(const Chain& chain, const Layout& layout) {
  return chunk_count(coded_elements(chain, layout)) + chunk_count(layout.small_elements) +
         chunk_count(component_elements(chain, layout));
}

}  // namespace tern
