/// Frames of format 1 that are kept for ever in golden/: what they decode to, that today's encoder
/// still writes the good ones, and that the bad ones are refused. The list is golden/manifest.json,
/// and decoder.py reads it, too. TERN_WRITE_GOLDEN=1 adds what is in the tables here but not in the
/// folder; it never changes what is there, and neither should anybody else: the format is frozen.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "base/sha256.h"
#include "compression/updates/chain.h"
#include "compression/updates/chunk_coder.h"
#include "compression/updates/frame_header.h"
#include "tests/compression/updates/bad_frames.h"
#include "tests/compression/updates/chains.h"

namespace tern {
namespace {

using Json = nlohmann::ordered_json;

const std::filesystem::path kFolder = TERN_SOURCE_DIR "/tests/compression/updates/golden";

constexpr const char* kKinds[] = {"weight", "bias", "norm"};
constexpr const char* kInputNames[] = {"zeros",      "constant", "denormal",     "one spike",
                                       "heavy tail", "gaussian", "negative zero"};

/// The schemas of the good frames.
std::vector<TensorSpec> tensors_of(std::string_view schema) {
  constexpr TensorKind kBias = TensorKind::kBias, kNorm = TensorKind::kNorm;
  if (schema == "empty") return {};
  if (schema == "scalar") return {{.name = "temperature", .shape = {}}};
  if (schema == "five") return {{.name = "w", .shape = {5}}};
  if (schema == "odd")
    return {{.name = "w", .shape = {7, 5}}, {.name = "b", .shape = {7}, .kind = kBias}};
  if (schema == "hundred") return {{.name = "w", .shape = {10, 10}}};
  if (schema == "mixed")  // 1,986 elements
    return {{.name = "conv.weight", .shape = {16, 3, 3, 3}},
            {.name = "conv.bias", .shape = {16}, .kind = kBias},
            {.name = "norm.scale", .shape = {17}, .kind = kNorm},
            {.name = "nothing", .shape = {0, 5}},
            {.name = "fc.weight", .shape = {40, 37}},
            {.name = "fc.bias", .shape = {40}, .kind = kBias},
            {.name = "temperature", .shape = {}}};
  if (schema == "wide")  // 66,000 elements: two chunks
    return {{.name = "a.weight", .shape = {200, 300}},
            {.name = "a.bias", .shape = {300}, .kind = kBias},
            {.name = "norm", .shape = {200}, .kind = kNorm},
            {.name = "b.weight", .shape = {50, 110}}};
  if (schema == "images")  // 66 images of 28 x 28 and 32 of 5 x 5
    return {{.name = "a.weight", .shape = {66, 784}},
            {.name = "a.bias", .shape = {66}, .kind = kBias},
            {.name = "conv.weight", .shape = {8, 4, 5, 5}},
            {.name = "b.weight", .shape = {10, 90}}};
  if (schema == "biases")  // two chunks in the small stream; the middle element is in the second
    return {{.name = "b", .shape = {66000}, .kind = kBias}, {.name = "w", .shape = {65500}}};
  ADD_FAILURE() << "no schema " << schema;
  return {};
}

struct GoodFrame {
  const char* name;
  const char* schema;
  const char* spec;
  Input input = Input::kGaussian;
  uint64_t seed = 42;
  uint32_t base_version = 7;
  uint32_t round = 3;
};

constexpr GoodFrame kGood[] = {
    {"empty_update", "empty", "float32"},
    {"empty_update_all_stages", "empty", "ef | small16:1024 | topk:0.01 | int:4 | rice | rans"},
    {"empty_update_lowrank", "empty", "lowrank:2"},
    {"empty_update_sketch", "empty", "sketch:3x100"},
    {"scalar_float32", "scalar", "float32"},
    {"scalar_eden", "scalar", "rotate:1024 | eden:3"},
    {"scalar_randk", "scalar", "randk:1e-09"},
    {"scalar_topk_rice", "scalar", "topk:1e-09 | rice"},
    {"scalar_small16", "scalar", "small16:2"},
    // Extreme values of the header.
    {"snapshot", "mixed", "float32", Input::kGaussian, 0, 0, 0},
    {"largest_numbers", "odd", "randk:0.5", Input::kGaussian, ~uint64_t{0}, ~uint32_t{0},
     ~uint32_t{0}},
    // Each kind of input.
    {"zeros", "mixed", "float32", Input::kZeros},
    {"negative_zero", "odd", "float32", Input::kNegativeZero},
    {"negative_zero_sign", "odd", "sign", Input::kNegativeZero},
    {"constant_int", "mixed", "int:4", Input::kConstant},
    {"denormal_float32", "odd", "float32", Input::kDenormal},
    {"denormal_float16", "odd", "float16", Input::kDenormal},
    {"denormal_bfloat16", "odd", "bfloat16", Input::kDenormal},
    {"denormal_natural", "odd", "natural", Input::kDenormal},
    {"spike_small16", "biases", "small16:1024", Input::kOneSpike},
    {"spike_topk", "wide", "topk:0.01", Input::kOneSpike},
    {"spike_rotate", "wide", "rotate:1024 | sign", Input::kOneSpike},
    {"spike_natural_rans", "mixed", "natural | rans", Input::kOneSpike},
    // Floats.
    {"float16", "mixed", "float16"},
    {"bfloat16", "mixed", "bfloat16", Input::kHeavyTail},
    {"float32_zstd", "mixed", "float32 | zstd"},
    {"float32_zstd_constant", "wide", "float32 | zstd", Input::kConstant},
    {"float16_zstd", "mixed", "float16 | zstd", Input::kHeavyTail},
    {"bfloat16_zstd", "mixed", "bfloat16 | zstd"},
    {"bfloat16_zstd_short", "five", "bfloat16 | zstd"},
    {"topk_zstd", "wide", "topk:0.02 | zstd"},
    {"topk_bfloat16_rice_zstd", "wide", "topk:0.05 | bfloat16 | rice | zstd", Input::kHeavyTail},
    {"small16_zstd", "mixed", "small16:64 | zstd"},
    {"lowrank_zstd", "mixed", "lowrank:2 | bfloat16 | zstd"},
    // Symbols.
    {"int_2", "mixed", "int:2"},
    {"int_2_rans", "wide", "int:2 | rans"},
    {"int_3", "mixed", "int:3"},
    {"int_4", "mixed", "int:4", Input::kHeavyTail},
    {"int_5_rans", "mixed", "int:5 | rans"},
    {"int_8", "mixed", "int:8"},
    {"int_9_rans", "mixed", "int:9 | rans", Input::kHeavyTail},
    {"int_10", "mixed", "int:10"},
    {"int_13", "mixed", "int:13"},
    {"int_16", "mixed", "int:16"},
    {"ternary", "mixed", "ternary"},
    {"ternary_wide", "wide", "ternary", Input::kHeavyTail},
    {"ternary_rans", "mixed", "ternary | rans"},
    {"ternary_rans_wide", "wide", "ternary | rans", Input::kHeavyTail},
    {"sign", "wide", "sign"},
    {"sign_five", "five", "sign"},
    {"qsgd_1", "mixed", "qsgd:1"},
    {"qsgd_1_rans", "wide", "qsgd:1 | rans"},
    {"qsgd_4", "mixed", "qsgd:4"},
    {"qsgd_16_rans", "wide", "qsgd:16 | rans"},
    {"qsgd_255_rans", "mixed", "qsgd:255 | rans", Input::kHeavyTail},
    {"qsgd_32767", "mixed", "qsgd:32767"},
    {"natural", "mixed", "natural", Input::kHeavyTail},
    {"natural_rans", "mixed", "natural | rans"},
    {"rans_too_short", "odd", "int:4 | rans"},
    // Rotations: blocks that are full, padded, and of one element.
    {"eden_1", "wide", "rotate:1024 | eden:1"},
    {"eden_2", "mixed", "rotate:2048 | eden:2"},
    {"eden_3", "mixed", "rotate:1024 | eden:3"},
    {"eden_4_rans", "mixed", "rotate:1024 | eden:4 | rans", Input::kHeavyTail},
    {"eden_5", "odd", "rotate:1024 | eden:5"},
    {"eden_6", "mixed", "rotate:4096 | eden:6"},
    {"eden_7", "mixed", "rotate:1024 | eden:7"},
    {"eden_8_rans", "mixed", "rotate:1024 | eden:8 | rans"},
    {"rotate_16", "hundred", "rotate:16 | int:8"},
    {"rotate_32", "odd", "rotate:32 | float16"},
    {"rotate_64", "mixed", "rotate:64 | sign", Input::kHeavyTail},
    {"rotate_65536", "wide", "rotate:65536 | sign"},
    {"rotate_ternary", "mixed", "rotate:1024 | ternary"},
    {"rotate_raw", "odd", "rotate:65536 | randk:1"},
    {"rotate_five", "five", "rotate:16 | bfloat16"},
    // Positions from the seed.
    {"randk_tenth", "mixed", "randk:0.1"},
    {"randk_hundredth", "wide", "randk:0.01 | float16"},
    {"randk_half", "hundred", "randk:0.5"},
    {"randk_above_half", "hundred", "randk:0.505 | bfloat16"},
    {"randk_most", "wide", "randk:0.9 | sign"},
    {"randk_all", "hundred", "randk:1"},
    {"randk_ternary", "mixed", "randk:0.25 | ternary"},
    {"randk_natural", "mixed", "randk:0.3 | natural", Input::kHeavyTail},
    {"randk_int_rans", "mixed", "randk:0.6 | int:4 | rans"},
    {"randk_empty_groups", "mixed", "randk:0.001 | int:8"},
    {"rotate_randk", "mixed", "rotate:1024 | randk:0.25"},
    {"rotate_randk_eden", "wide", "rotate:4096 | randk:0.7 | eden:1"},
    {"rotate_randk_int", "mixed", "rotate:65536 | randk:0.1 | int:4"},
    // Positions that travel.
    {"topk_plain", "wide", "topk:0.001"},
    {"topk_bitmap", "wide", "topk:0.2 | sign"},
    {"topk_rice", "wide", "topk:0.01 | rice", Input::kHeavyTail},
    {"topk_rice_rare", "wide", "topk:0.0001 | rice"},
    {"topk_cabac", "wide", "topk:0.01 | cabac", Input::kHeavyTail},
    {"topk_cabac_rare", "wide", "topk:0.0001 | ternary | cabac"},
    {"topk_cabac_bitmap", "mixed", "topk:0.5 | ternary | cabac"},
    {"topk_cabac_rans", "wide", "topk:0.05 | int:8 | cabac | rans", Input::kHeavyTail},
    {"dct_28_topk_cabac", "images", "ef | dct:28 | topk:0.05 | ternary | cabac", Input::kHeavyTail},
    {"topk_rice_bitmap", "mixed", "topk:0.5 | ternary | rice"},
    {"topk_all", "odd", "topk:1"},
    {"topk_all_ternary", "mixed", "topk:1 | ternary | rice", Input::kHeavyTail},
    {"topk_raw", "hundred", "topk:0.99"},
    {"topk_int_rice", "wide", "topk:0.05 | int:4 | rice"},
    {"topk_int_rice_rans", "wide", "topk:0.05 | int:8 | rice | rans", Input::kHeavyTail},
    {"topk_qsgd_rans", "mixed", "topk:0.3 | qsgd:100 | rans"},
    {"topk_natural_rans", "wide", "topk:0.02 | natural | rans"},
    {"topk_float16", "mixed", "topk:0.1 | float16", Input::kHeavyTail},
    {"topk_per_tensor", "mixed", "topk-per-tensor:0.05"},
    {"topk_per_tensor_rice", "wide", "topk-per-tensor:0.02 | bfloat16 | rice"},
    {"threshold", "mixed", "threshold:0.1"},
    {"threshold_rice", "wide", "threshold:0.15 | sign | rice"},
    {"threshold_nothing", "mixed", "threshold:1000 | rice"},
    // State stages: an encoder's matter, but for randk's scale.
    {"ef_topk_ternary_rice", "wide", "ef | topk:0.01 | ternary | rice"},
    {"ef_randk", "mixed", "ef | randk:0.1 | float16"},
    {"ef_sign", "mixed", "ef | sign"},
    {"ef_eden", "mixed", "ef | rotate:1024 | eden:1"},
    {"ef_qsgd_rans", "mixed", "ef | qsgd:64 | rans"},
    {"ef_topk_all", "odd", "ef | topk:1"},
    {"ef21_topk", "wide", "ef21 | topk:0.01 | ternary | rice"},
    {"ef21_randk", "mixed", "ef21 | randk:0.3 | int:8"},
    {"ef21_threshold", "wide", "ef21 | threshold:0.15 | natural | rice | rans"},
    {"dgc_topk", "wide", "dgc:0.9 | topk:0.01 | rice"},
    {"dgc_randk", "mixed", "dgc:0.5 | randk:0.1 | float16"},
    {"dgc_topk_all", "odd", "dgc:0.01 | topk:1"},
    {"dgc_per_tensor", "mixed", "dgc:0.99 | topk-per-tensor:0.1 | int:6"},
    // Small tensors.
    {"small16", "mixed", "small16:1024"},
    {"small16_2", "mixed", "small16:2"},
    {"small16_all", "mixed", "small16:16777216"},
    {"small16_eden", "wide", "small16:1024 | rotate:1024 | eden:1"},
    {"small16_topk", "wide", "small16:8192 | topk:0.01 | int:4 | rice", Input::kHeavyTail},
    {"small16_rans", "mixed", "small16:512 | int:4 | rans"},
    {"ef_small16_topk", "mixed", "ef | small16:64 | topk:0.05 | sign | rice"},
    // Images.
    {"dct_28_int", "images", "dct:28 | int:3"},
    {"dct_28_topk", "images", "dct:28 | topk:0.02 | ternary | rice", Input::kHeavyTail},
    {"dct_5_topk", "images", "dct:5 | topk:0.05 | float16"},
    {"dct_32_nothing", "odd", "dct:32 | bfloat16"},
    {"ef_small16_dct_rans", "images", "ef | small16:1024 | dct:28 | int:4 | rans"},
    {"dct_rotate_by_norm", "images", "dct:28 | rotate:1024 | randk-by-norm:0.1 | eden:1"},
    {"dct_28_lowpass_int", "images", "dct:28 | lowpass:0.3 | int:3"},
    {"dct_28_lowpass_topk", "images", "dct:28 | lowpass:0.45 | topk:0.02 | ternary | cabac",
     Input::kHeavyTail},
    {"dct_14_lowpass", "images", "small16:64 | dct:14 | lowpass:0.01 | bfloat16"},
    {"dct_32_lowpass_nothing", "odd", "dct:32 | lowpass:0.5 | int:4 | rans"},
    {"dct_lowpass_by_norm", "images",
     "dct:28 | lowpass:0.4 | rotate:1024 | randk-by-norm:0.1 | eden:1"},
    // Counts.
    {"by_norm", "wide", "randk-by-norm:0.02", Input::kHeavyTail},
    {"by_norm_all", "mixed", "randk-by-norm:1 | float16"},
    {"by_norm_spike", "wide", "randk-by-norm:1e-09 | int:8", Input::kOneSpike},
    {"by_norm_natural", "wide", "randk-by-norm:0.05 | natural"},
    {"ef_by_norm_rans", "mixed", "ef | randk-by-norm:0.3 | int:5 | rans"},
    // Components, and what they leave.
    {"principal_1", "mixed", "principal:1 | int:4"},
    {"principal_2_wide", "wide", "principal:2 | rotate:1024 | randk:0.25 | eden:1",
     Input::kHeavyTail},
    {"principal_32", "mixed", "small16:1024 | principal:32 | bfloat16"},
    {"principal_dct", "images",
     "principal:3 | dct:28 | lowpass:0.7 | rotate:1024 | randk-by-norm:0.1 | eden:1"},
    {"ef_principal_topk", "wide", "ef | principal:1 | topk:0.01 | ternary | cabac"},
    {"principal_spike", "mixed", "principal:2 | topk:0.01 | rice", Input::kOneSpike},
    {"principal_zeros", "mixed", "principal:2 | int:4", Input::kZeros},
    {"principal_nothing", "odd", "principal:3 | int:4 | rans"},
    {"principal_empty", "empty", "principal:2 | int:4"},
    {"principal_zstd", "mixed", "ef | principal:4 | bfloat16 | zstd", Input::kHeavyTail},
    // On a grid.
    {"components_1", "mixed", "components:1x0.4 | int:4"},
    {"components_2_wide", "wide", "components:2x0.75 | rotate:1024 | randk:0.25 | eden:1",
     Input::kHeavyTail},
    {"components_64", "mixed", "small16:1024 | components:64x0.05 | bfloat16"},
    {"components_dct", "images",
     "components:3x0.3 | dct:28 | lowpass:0.7 | rotate:1024 | randk-by-norm:0.1 | eden:1"},
    {"ef_components_topk", "wide", "ef | components:9x0.4 | topk:0.01 | ternary | cabac"},
    {"components_coarse", "wide", "ef | components:2x2 | topk:0.01 | ternary | cabac",
     Input::kHeavyTail},
    {"components_spike", "mixed", "components:2x0.4 | topk:0.01 | rice", Input::kOneSpike},
    {"components_zeros", "mixed", "components:2x0.4 | int:4", Input::kZeros},
    {"components_nothing", "odd", "components:3x0.4 | int:4 | rans"},
    {"components_empty", "empty", "components:2x0.4 | int:4"},
    // Factors.
    {"lowrank_1", "mixed", "lowrank:1"},
    {"lowrank_2_wide", "wide", "lowrank:2"},
    {"lowrank_32", "mixed", "lowrank:32 | bfloat16"},
    {"lowrank_int_rans", "wide", "lowrank:4 | int:8 | rans", Input::kHeavyTail},
    {"ef_small16_lowrank", "mixed", "ef | small16:1024 | lowrank:4 | int:8 | rans"},
    {"ef21_lowrank", "mixed", "ef21 | lowrank:2 | qsgd:127"},
    // Sketches.
    {"sketch_odd", "wide", "sketch:3x1000 | bfloat16", Input::kHeavyTail},
    {"sketch_even", "wide", "sketch:4x500", Input::kHeavyTail},
    {"sketch_one_row", "mixed", "sketch:1x400"},
    {"sketch_two_rows", "mixed", "sketch:2x9", Input::kHeavyTail},
    {"sketch_fifteen", "mixed", "sketch:15x20 | float16", Input::kOneSpike},
    {"sketch_one_cell", "mixed", "sketch:1x1"},
    {"sketch_passes_through", "mixed", "sketch:2x993 | float16"},
    {"sketch_large", "odd", "sketch:15x268435455 | int:8"},
    {"ef_sketch_int", "wide", "ef | sketch:4x3000 | int:8 | rans", Input::kHeavyTail},
    {"ef_small16_sketch", "mixed", "ef | small16:1024 | sketch:5x100"},
    {"sketch_zeros", "mixed", "sketch:3x100", Input::kZeros},
};

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(file.good() || file.eof()) << path;
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  ASSERT_FALSE(std::filesystem::exists(path)) << path << " is there, but not in the manifest";
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.flush()) << path;
}

Json json_of(const std::vector<TensorSpec>& tensors) {
  Json rows = Json::array();
  for (const TensorSpec& tensor : tensors)
    rows.push_back({{"name", tensor.name},
                    {"shape", tensor.shape},
                    {"kind", kKinds[static_cast<size_t>(tensor.kind)]}});
  return rows;
}

ParameterSchema parse_schema(const Json& rows) {
  std::vector<TensorSpec> tensors;
  for (const Json& row : rows) {
    const auto kind = std::ranges::find(kKinds, row.at("kind").get<std::string>(),
                                        [](const char* name) { return std::string(name); });
    tensors.push_back({.name = row.at("name").get<std::string>(),
                       .shape = row.at("shape").get<std::vector<int64_t>>(),
                       .kind = static_cast<TensorKind>(kind - std::begin(kKinds))});
  }
  return ParameterSchema::make(std::move(tensors)).value();
}

Input input_of(const std::string& input) {
  for (size_t i = 0; i < std::size(kInputNames); ++i)
    if (input == kInputNames[i]) return static_cast<Input>(i);
  ADD_FAILURE() << "no input " << input;
  return Input::kZeros;
}

FrameMeta meta_of(const Json& entry) {
  return {.base_version = entry.at("base_version").get<uint32_t>(),
          .round = entry.at("round").get<uint32_t>(),
          .seed = entry.at("seed").get<uint64_t>()};
}

Bytes encode_entry(const Json& entry, const ParameterSchema& schema) {
  const Codec codec = codec_of(entry.at("spec").get<std::string>());
  const auto x = make_input(input_of(entry.at("input").get<std::string>()), schema.elements());
  CodecScratch scratch;
  Bytes frame(codec.max_encoded_bytes(schema));
  const Result<size_t> bytes = codec.encode(meta_of(entry), schema, x, scratch, frame);
  EXPECT_TRUE(bytes) << (bytes ? "" : bytes.error().message());
  frame.resize(bytes.value_or(0));
  return frame;
}

constexpr int kGridBits = 16;
constexpr const char* kParameters = "element i is ((i mod 257) - 128) / 1024";

std::vector<float> parameters_of(size_t n) {
  std::vector<float> parameters(n);
  for (size_t i = 0; i < n; ++i) parameters[i] = (static_cast<float>(i % 257) - 128.0f) / 1024.0f;
  return parameters;
}

/// The values' digest, or the Status of a frame that is refused. `applied`: instead that of the
/// parameters after the values as a delta.
Result<Digest> digest_of(std::span<const std::byte> frame, const ParameterSchema& schema,
                         bool applied = false) {
  CodecScratch scratch;
  TERN_TRY(const CheckedFrame checked, inspect(frame, schema, {}, scratch));
  std::vector<float> values(schema.elements());
  if (applied) {
    values = parameters_of(schema.elements());
    TERN_CHECK_OK(apply_delta(checked, kGridBits, scratch, values));
  } else {
    TERN_CHECK_OK(decode(checked, scratch, values));
  }
  return sha256(std::span<const float>(values));
}

const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "kInvalidArgument";
    case Code::kCorrupt:
      return "kCorrupt";
    case Code::kUnsupported:
      return "kUnsupported";
    case Code::kOutOfRange:
      return "kOutOfRange";
    default:
      return "another code";
  }
}

class Manifest {
 public:
  Manifest() {
    const auto path = kFolder / "manifest.json";
    if (std::filesystem::exists(path))
      json_ = Json::parse(std::ifstream(path));
    else
      json_ = {{"format", "1.0"},
               {"applied", {{"grid_bits", kGridBits}, {"parameters", kParameters}}},
               {"schemas", Json::object()},
               {"good", Json::array()},
               {"bad", Json::array()}};
  }

  const Json& entries(const char* list) const { return json_.at(list); }
  ParameterSchema schema(const Json& entry) const {
    return parse_schema(json_.at("schemas").at(entry.at("schema").get<std::string>()));
  }
  bool has(const std::string& file) const {
    for (const char* list : {"good", "bad"})
      for (const Json& entry : json_.at(list))
        if (entry.at("file") == file) return true;
    return false;
  }
  void add_schema(const std::string& name, const std::vector<TensorSpec>& tensors) {
    const Json rows = json_of(tensors);
    Json& schemas = json_["schemas"];
    if (!schemas.contains(name)) schemas[name] = rows;
    ASSERT_EQ(schemas[name], rows) << "the schema " << name << " is in use by frozen frames";
  }
  void add(const char* list, Json entry) { json_[list].push_back(std::move(entry)); }

  /// A line for each tensor and frame.
  void save() const {
    std::ofstream file(kFolder / "manifest.json");
    file << "{\n\"format\": " << json_.at("format").dump()
         << ",\n\"applied\": " << json_.at("applied").dump() << ",\n\"schemas\": {";
    const char* before = "\n";
    for (const auto& [name, rows] : json_.at("schemas").items()) {
      file << before << Json(name).dump() << ": [";
      before = "\n  ";
      for (const Json& row : rows) {
        file << before << row.dump();
        before = ",\n  ";
      }
      file << "]";
      before = ",\n";
    }
    file << "\n}";
    for (const char* list : {"good", "bad"}) {
      file << ",\n\"" << list << "\": [";
      before = "\n";
      for (const Json& entry : json_.at(list)) {
        file << before << entry.dump();
        before = ",\n";
      }
      file << "\n]";
    }
    file << "\n}\n";
    ASSERT_TRUE(file.flush());
  }

 private:
  Json json_;
};

void write_what_is_missing(Manifest& manifest) {
  std::filesystem::create_directories(kFolder / "bad");
  for (const GoodFrame& good : kGood) {
    const std::string file = std::string(good.name) + ".tern";
    if (manifest.has(file)) continue;
    manifest.add_schema(good.schema, tensors_of(good.schema));
    Json entry = {{"file", file},       {"schema", good.schema},
                  {"spec", good.spec},  {"input", kInputNames[static_cast<size_t>(good.input)]},
                  {"seed", good.seed},  {"base_version", good.base_version},
                  {"round", good.round}};
    const ParameterSchema schema = manifest.schema(entry);
    const Bytes frame = encode_entry(entry, schema);
    const Result<Digest> digest = digest_of(frame, schema);
    ASSERT_TRUE(digest) << file << ": " << digest.error().message();
    entry["sha256"] = to_hex(*digest);
    entry["applied_sha256"] = to_hex(digest_of(frame, schema, true).value());
    write_file(kFolder / file, frame);
    manifest.add("good", std::move(entry));
  }
  for (const BadFrame& bad : forging::all().bad) {
    const std::string file = "bad/" + bad.name + ".tern";
    if (manifest.has(file)) continue;
    manifest.add_schema(bad.schema_name, bad.schema.tensors());
    write_file(kFolder / file, bad.frame);
    manifest.add("bad", {{"file", file},
                         {"schema", bad.schema_name},
                         {"code", code_name(bad.code)},
                         {"why", bad.why}});
  }
  manifest.save();
}

class Golden : public testing::Test {
 protected:
  Golden() {
    if (std::getenv("TERN_WRITE_GOLDEN") != nullptr) write_what_is_missing(manifest_);
  }
  Manifest manifest_;
};

TEST_F(Golden, TheFolderHoldsWhatTheManifestAndTheTablesHere) {
  std::set<std::string> listed;
  for (const char* list : {"good", "bad"})
    for (const Json& entry : manifest_.entries(list))
      EXPECT_TRUE(listed.insert(entry.at("file").get<std::string>()).second) << entry;
  std::set<std::string> held;
  uintmax_t bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(kFolder)) {
    if (!file.is_regular_file()) continue;
    bytes += file.file_size();
    if (file.path().filename() == "manifest.json") continue;
    held.insert(std::filesystem::relative(file.path(), kFolder).generic_string());
  }
  EXPECT_EQ(listed, held);
  EXPECT_LE(bytes, 600'000u);
  for (const GoodFrame& good : kGood)
    EXPECT_TRUE(listed.contains(std::string(good.name) + ".tern"))
        << good.name << ": run with TERN_WRITE_GOLDEN=1";
  for (const BadFrame& bad : forging::all().bad) {
    const std::string file = "bad/" + bad.name + ".tern";
    if (!listed.contains(file))
      ADD_FAILURE() << bad.name << ": run with TERN_WRITE_GOLDEN=1";
    else
      EXPECT_EQ(read_file(kFolder / file), bad.frame) << bad.name << " is forged otherwise now";
  }
}

TEST_F(Golden, GoodFramesDecodeToTheirValuesForEver) {
  for (const Json& entry : manifest_.entries("good")) {
    const auto file = entry.at("file").get<std::string>();
    const Result<Digest> digest = digest_of(read_file(kFolder / file), manifest_.schema(entry));
    ASSERT_TRUE(digest) << file << ": " << digest.error().message();
    EXPECT_EQ(to_hex(*digest), entry.at("sha256").get<std::string>()) << file;
  }
}

TEST_F(Golden, GoodFramesMoveAModelToTheSameParametersForEver) {
  for (const Json& entry : manifest_.entries("good")) {
    const auto file = entry.at("file").get<std::string>();
    const Result<Digest> digest =
        digest_of(read_file(kFolder / file), manifest_.schema(entry), true);
    ASSERT_TRUE(digest) << file << ": " << digest.error().message();
    EXPECT_EQ(to_hex(*digest), entry.at("applied_sha256").get<std::string>()) << file;
  }
}

TEST_F(Golden, GoodFramesAreWhatTheEncoderWrites) {
  for (const Json& entry : manifest_.entries("good")) {
    const auto file = entry.at("file").get<std::string>();
    const ParameterSchema schema = manifest_.schema(entry);
    const Bytes frame = encode_entry(entry, schema);
    if (codec_of(entry.at("spec").get<std::string>()).chain().value_code == ValueCode::kZstd) {
      // Bytes of zstd are its version's business; what they decode to is not.
      const Result<Digest> digest = digest_of(frame, schema);
      ASSERT_TRUE(digest) << file << ": " << digest.error().message();
      EXPECT_EQ(to_hex(*digest), entry.at("sha256").get<std::string>()) << file;
    } else {
      EXPECT_TRUE(frame == read_file(kFolder / file)) << file;
    }
  }
}

TEST_F(Golden, GoodFramesHaveTheirManifestsHeader) {
  for (const Json& entry : manifest_.entries("good")) {
    const ParameterSchema schema = manifest_.schema(entry);
    CodecScratch scratch;
    const Bytes frame = read_file(kFolder / entry.at("file").get<std::string>());
    const Result<CheckedFrame> checked = inspect(frame, schema, {}, scratch);
    ASSERT_TRUE(checked) << entry;
    EXPECT_EQ(checked->codec().spec(), entry.at("spec").get<std::string>());
    const FrameMeta meta = meta_of(entry);
    EXPECT_EQ(checked->meta().seed, meta.seed) << entry;
    EXPECT_EQ(checked->meta().base_version, meta.base_version) << entry;
    EXPECT_EQ(checked->meta().round, meta.round) << entry;
  }
}

TEST_F(Golden, GoodFramesCoverEveryStageAndMode) {
  std::set<std::string_view> stages;
  std::set<std::pair<int, bool>> modes;
  for (const Json& entry : manifest_.entries("good")) {
    const ParameterSchema schema = manifest_.schema(entry);
    const Codec codec = codec_of(entry.at("spec").get<std::string>());
    for (const Stage& stage : codec.stages()) stages.insert(stage.info->name);
    const Bytes frame = read_file(kFolder / entry.at("file").get<std::string>());
    Layout layout;
    lay_out(codec.chain(), schema, layout);
    const size_t chunks = frame_chunks(codec.chain(), layout);
    const size_t header = load<uint16_t>(frame.data() + 6);
    for (size_t i = 0; i < chunks; ++i) {
      const auto packed = load<uint8_t>(frame.data() + header + 8 * i + 3);
      modes.insert({packed & 7, (packed & 8) != 0});
    }
  }
  for (const StageInfo& stage : kStages) EXPECT_TRUE(stages.contains(stage.name)) << stage.name;
  for (int mode = 0; mode <= 6; ++mode) EXPECT_TRUE(modes.contains({mode, false})) << mode;
  for (int mode = 1; mode <= 4; ++mode) EXPECT_TRUE(modes.contains({mode, true})) << mode;
}

TEST_F(Golden, BadFramesAreRefusedWithTheirCode) {
  for (const Json& entry : manifest_.entries("bad")) {
    const auto file = entry.at("file").get<std::string>();
    const Result<Digest> digest = digest_of(read_file(kFolder / file), manifest_.schema(entry));
    ASSERT_FALSE(digest) << file << " is accepted, although: " << entry.at("why");
    EXPECT_EQ(code_name(digest.error().code()), entry.at("code").get<std::string>())
        << file << ": " << digest.error().message();
    if (std::getenv("TERN_PRINT_REFUSALS") != nullptr)
      printf("%-36s %s\n", file.c_str(), digest.error().message().c_str());
  }
}

/// Bad frames are made from these by one change, so that they aren't refused for another reason.
TEST_F(Golden, FramesWithoutAFaultAreAccepted) {
  for (const BadFrame& good : forging::all().good) {
    const Result<Digest> digest = digest_of(good.frame, good.schema);
    EXPECT_TRUE(digest) << good.name << ": " << digest.error().message();
  }
}

}  // namespace
}  // namespace tern
