#include <fmt/format.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/durable_file.h"
#include "base/program.h"
#include "compression/updates/codec.h"
#include "compression/updates/frame.h"
#include "compression/updates/frame_header.h"
#include "simulations/cli/commands.h"
#include "simulations/cli/print_json.h"
#include "simulations/cli/tensor_file.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct UpdateArguments {
  std::string file;
  std::string out;
  std::string codec;
  std::string like;
  std::string against;
  FrameMeta meta;
  size_t max_elements = size_t{1} << 28;
  bool json = false;
};

/// Whatever is wrong before something is written is wrong with the input, unless the disk is.
int bad_input(const Status& status, bool json) {
  return status.code() == Code::kOutOfRange ? fail(status, json, kBadInput) : fail(status, json);
}

// ---- What a size is worth

double bits_per_element(size_t bytes, size_t elements) {
  return 8 * static_cast<double>(bytes) / static_cast<double>(elements);
}
double ratio_to_float32(size_t bytes, size_t elements) {
  return 4 * static_cast<double>(elements) / static_cast<double>(bytes);
}
/// null where there are no elements
ordered_json figure(double value) {
  return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr);
}
std::string size_text(size_t bytes, size_t elements) {
  if (elements == 0) return fmt::format("{} bytes for no elements", bytes);
  return fmt::format("{} bytes, {:.4g} bits per element, {:.4g} times smaller than float32", bytes,
                     bits_per_element(bytes, elements), ratio_to_float32(bytes, elements));
}

// ---- The codec's side: all calls that take a schema

Result<std::vector<std::byte>> encode_values(const Codec& codec, const FrameMeta& meta,
                                             const TensorFile& tensors) {
  CodecScratch scratch;
  std::vector<std::byte> frame(codec.max_encoded_bytes(tensors.schema));
  TERN_TRY(const size_t bytes, codec.encode(meta, tensors.schema, tensors.values, scratch, frame));
  frame.resize(bytes);
  return frame;
}

/// A frame that passed the dry decode, as long as its header says.
struct LoadedFrame {
  std::vector<std::byte> bytes;                   ///< of `checked`
  std::shared_ptr<const ParameterSchema> schema;  ///< of `checked`
  FrameHeader header;
  CheckedFrame checked;
};

/// Reads a frame of any schema: what a receiver knows is taken from the header, unless it is the
/// one of `known`.
Result<LoadedFrame> read_frame(std::vector<std::byte> bytes, size_t max_elements,
                               const ParameterSchema* known, std::string_view option) {
  TERN_TRY(FrameHeader header, read_frame_header(bytes));
  if (header.elements > max_elements)
    return error(Code::kOutOfRange,
                 "the header says {} elements; expected at most {} (--max-elements)",
                 header.elements, max_elements);
  CodecScratch scratch;
  const bool is_known = known != nullptr && known->hash() == header.schema_hash;
  auto schema = std::make_shared<const ParameterSchema>(
      is_known ? *known : ParameterSchema::of_hash(header.schema_hash, header.elements));
  Result<CheckedFrame> checked = inspect(bytes, *schema, {}, scratch);
  if (!checked && !is_known && checked.error().code() == Code::kInvalidArgument)
    return error(Code::kInvalidArgument,
                 "{}; give the file that it was made of, or one of the same tensors, with --{}",
                 checked.error().message(), option);
  if (!checked) return std::move(checked).error();
  return LoadedFrame{std::move(bytes), std::move(schema), header, *std::move(checked)};
}

Result<std::vector<float>> decode_values(const LoadedFrame& frame) {
  CodecScratch scratch;
  std::vector<float> values(frame.checked.elements());
  TERN_CHECK_OK(decode(frame.checked, scratch, values));
  return values;
}

constexpr size_t kModes = 8;  // three bits
constexpr std::array<const char*, kModes> kModeNames = {"empty",  "dense", "plain", "rice",
                                                        "bitmap", "raw",   "half",  "cabac"};

struct ModeCount {
  size_t chunks = 0;
  size_t bytes = 0;
};

Result<std::array<ModeCount, kModes>> count_modes(const LoadedFrame& frame) {
  std::array<ModeCount, kModes> modes;
  const std::byte* table = frame.bytes.data() + frame.header.header_bytes;
  for (size_t chunk = 0; chunk < frame.checked.chunks(); ++chunk) {
    TERN_TRY(const ChunkEntry entry, read_chunk_entry(table + chunk * kChunkEntryBytes));
    ModeCount& mode = modes[static_cast<size_t>(entry.mode)];
    ++mode.chunks;
    mode.bytes += entry.bytes;
  }
  return modes;
}

// ---- The commands

Result<LoadedFrame> load_frame(const std::string& path, size_t max_elements,
                               const ParameterSchema* known = nullptr,
                               std::string_view option = "like") {
  TERN_TRY(std::vector<std::byte> bytes, read_file(path));
  Result<LoadedFrame> frame = read_frame(std::move(bytes), max_elements, known, option);
  if (!frame) return std::move(frame).error().at({.file = path});
  return frame;
}

int encode_file(const UpdateArguments& arguments) {
  const auto frame = [&]() -> Result<std::pair<std::vector<std::byte>, size_t>> {
    const Result<Codec> codec = Codec::parse(arguments.codec);
    if (!codec) return Status(codec.error()).at({.key = "--codec"});
    TERN_CHECK_OK(check_new_file(arguments.out));
    TERN_TRY(const TensorFile tensors, read_tensor_file(arguments.file));
    if (Status status = codec->check_schema(tensors.schema); !status.ok())
      return std::move(status).at({.file = arguments.file, .key = "--codec"});
    Result<std::vector<std::byte>> bytes = encode_values(*codec, arguments.meta, tensors);
    if (!bytes) return std::move(bytes).error().at({.file = arguments.file});
    return std::pair{std::move(*bytes), tensors.values.size()};
  }();
  if (!frame) return bad_input(frame.error(), arguments.json);
  const auto& [bytes, elements] = *frame;
  if (Status status = write_durably(arguments.out, bytes); !status.ok())
    return fail(status, arguments.json, kRunFailed);
  if (arguments.json)
    print_json({{"file", arguments.out},
                {"elements", elements},
                {"bytes", bytes.size()},
                {"bits_per_element", figure(bits_per_element(bytes.size(), elements))},
                {"ratio_to_float32", ratio_to_float32(bytes.size(), elements)}});
  else
    fmt::print("{}: {}\n", arguments.out, size_text(bytes.size(), elements));
  return kOk;
}

/// What is decoded into: the schema of --like, or one vector as long as the header says.
Result<std::pair<ParameterSchema, std::vector<float>>> decode_like(
    const UpdateArguments& arguments) {
  TERN_CHECK_OK(check_new_tensor_file(arguments.out));
  if (arguments.like.empty()) {
    TERN_TRY(const LoadedFrame frame, load_frame(arguments.file, arguments.max_elements));
    TERN_TRY(ParameterSchema schema,
             array_schema({static_cast<int64_t>(frame.checked.elements())}));
    TERN_TRY(std::vector<float> values, decode_values(frame));
    return std::pair{std::move(schema), std::move(values)};
  }
  TERN_TRY(TensorFile like, read_tensor_file(arguments.like));
  TERN_TRY(const LoadedFrame frame,
           load_frame(arguments.file, like.schema.elements(), &like.schema));
  if (frame.checked.elements() != like.schema.elements() ||
      frame.header.schema_hash != like.schema.hash())
    return error(Code::kInvalidArgument,
                 "the frame has {} elements of schema {:016x}; expected {} of {:016x}, as {} has",
                 frame.checked.elements(), frame.header.schema_hash, like.schema.elements(),
                 like.schema.hash(), arguments.like)
        .at({.file = arguments.file});
  TERN_TRY(std::vector<float> values, decode_values(frame));
  return std::pair{std::move(like.schema), std::move(values)};
}

int decode_file(const UpdateArguments& arguments) {
  const auto decoded = decode_like(arguments);
  if (!decoded) return bad_input(decoded.error(), arguments.json);
  const auto& [schema, values] = *decoded;
  if (Status status = write_tensor_file(arguments.out, schema, values); !status.ok())
    return bad_input(status, arguments.json);
  if (arguments.json)
    print_json({{"file", arguments.out},
                {"elements", values.size()},
                {"tensors", schema.tensors().size()}});
  else
    fmt::print("{}: {} elements in {} tensor{}\n", arguments.out, values.size(),
               schema.tensors().size(), schema.tensors().size() == 1 ? "" : "s");
  return kOk;
}

/// Squared error over squared norm; not finite for a file of zeros.
Result<double> nmse_against(const std::string& path, const TensorFile& original,
                            const LoadedFrame& frame) {
  if (original.values.size() != frame.checked.elements())
    return error(Code::kInvalidArgument, "{} elements; expected {}, as the frame has",
                 original.values.size(), frame.checked.elements())
        .at({.file = path});
  TERN_TRY(const std::vector<float> decoded, decode_values(frame));
  double squares = 0, errors = 0;
  for (size_t i = 0; i < decoded.size(); ++i) {
    const double x = original.values[i], difference = static_cast<double>(decoded[i]) - x;
    squares += x * x;
    errors += difference * difference;
  }
  return errors / squares;
}

Result<ordered_json> describe(const UpdateArguments& arguments) {
  TensorFile original;
  if (!arguments.against.empty()) {
    TERN_TRY(original, read_tensor_file(arguments.against));
  }
  TERN_TRY(const LoadedFrame frame,
           load_frame(arguments.file, kMaxFrameElements, &original.schema, "against"));
  TERN_TRY(const auto modes, count_modes(frame));
  const FrameMeta& meta = frame.header.meta;
  const size_t bytes = frame.bytes.size(), elements = frame.header.elements;
  ordered_json stages = ordered_json::array();
  for (const Stage& stage : frame.checked.codec().stages())
    stages.push_back(
        {{"id", stage.info->id}, {"stage", print_spec({stage})}, {"meaning", stage.info->summary}});
  ordered_json chunk_modes = ordered_json::array();
  for (size_t i = 0; i < kModes; ++i)
    if (modes[i].chunks > 0)
      chunk_modes.push_back(
          {{"mode", kModeNames[i] != nullptr ? kModeNames[i] : fmt::format("mode {}", i)},
           {"chunks", modes[i].chunks},
           {"bytes", modes[i].bytes}});
  ordered_json result{{"file", arguments.file},
                      {"format", fmt::format("{}.{}", kFrameMajor, kFrameMinor)},
                      {"codec", frame.checked.codec().spec()},
                      {"stages", stages},
                      {"elements", elements},
                      {"schema_hash", fmt::format("{:016x}", frame.header.schema_hash)},
                      {"seed", meta.seed},
                      {"round", meta.round},
                      {"base_version", meta.base_version},
                      {"bytes", bytes},
                      {"header_bytes", frame.header.header_bytes},
                      {"chunk_table_bytes", frame.checked.chunks() * kChunkEntryBytes},
                      {"chunks", frame.checked.chunks()},
                      {"chunk_modes", chunk_modes},
                      {"bits_per_element", figure(bits_per_element(bytes, elements))},
                      {"ratio_to_float32", ratio_to_float32(bytes, elements)},
                      {"values", frame.checked.nonzeros()},
                      {"norm", frame.checked.norm()}};
  if (!arguments.against.empty()) {
    TERN_TRY(const double nmse, nmse_against(arguments.against, original, frame));
    result["against"] = arguments.against;
    result["nmse"] = figure(nmse);
  }
  return result;
}

void print_description(const ordered_json& frame) {
  const auto line = [](std::string_view name, const std::string& value) {
    fmt::print("  {:<14} {}\n", name, value);
  };
  const auto number = [&](const char* name) { return frame[name].get<uint64_t>(); };
  fmt::print("{}\n", frame["file"].get<std::string>());
  line("format", frame["format"].get<std::string>());
  line("codec", frame["codec"].get<std::string>());
  for (const ordered_json& stage : frame["stages"])
    line("", fmt::format("0x{:02x} {:<12} {}", stage["id"].get<int>(),
                         stage["stage"].get<std::string>(), stage["meaning"].get<std::string>()));
  line("elements", fmt::to_string(number("elements")));
  line("schema hash", frame["schema_hash"].get<std::string>());
  line("seed", fmt::to_string(number("seed")));
  line("round", fmt::to_string(number("round")));
  line("base version", fmt::to_string(number("base_version")));
  line("size", size_text(number("bytes"), number("elements")));
  line("", fmt::format("{} of them header, {} chunk table", number("header_bytes"),
                       number("chunk_table_bytes")));
  line("chunks", fmt::to_string(number("chunks")));
  for (const ordered_json& mode : frame["chunk_modes"])
    line("", fmt::format("{} {}, {} bytes", mode["chunks"].get<uint64_t>(),
                         mode["mode"].get<std::string>(), mode["bytes"].get<uint64_t>()));
  line("values", fmt::format("{} travel", number("values")));
  line("norm", fmt::format("{:.6g}", frame["norm"].get<double>()));
  if (!frame.contains("nmse")) return;
  line("NMSE", frame["nmse"].is_null()
                   ? fmt::format("none: {} has only zeros", frame["against"].get<std::string>())
                   : fmt::format("{:.6g} against {}", frame["nmse"].get<double>(),
                                 frame["against"].get<std::string>()));
}

int inspect_file(const UpdateArguments& arguments) {
  const Result<ordered_json> frame = describe(arguments);
  if (!frame) return bad_input(frame.error(), arguments.json);
  if (arguments.json)
    print_json(*frame);
  else
    print_description(*frame);
  return kOk;
}

}  // namespace

void add_update(CLI::App& program, int& exit_status) {
  CLI::App* update = program.add_subcommand(
      "update", "Turn files of values into frames, and back; look at frames");
  update->require_subcommand(1);
  auto arguments = std::make_shared<UpdateArguments>();
  const auto add = [&](const char* name, const char* meaning, int (*run)(const UpdateArguments&)) {
    CLI::App* command = update->add_subcommand(name, meaning);
    command->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
    command->callback([arguments, run, &exit_status] { exit_status = run(*arguments); });
    return command;
  };

  // CLI11 reads -1 as 2^64 - 1.
  const CLI::Validator not_negative(
      [](const std::string& text) {
        return text.starts_with('-') ? text + "; expected a number from 0" : std::string();
      },
      "");

  CLI::App* command = add("encode", "Compress a file of float32 values into a frame", encode_file);
  command
      ->add_option("FILE", arguments->file,
                   ".npy, .safetensors, or raw little-endian float32 (.f32, .bin)")
      ->required();
  command->add_option("--codec", arguments->codec, "Chain of stages, see docs/codecs.md")
      ->required()
      ->type_name("SPEC");
  command->add_option("--out", arguments->out, "The frame, a new file")
      ->required()
      ->type_name("FILE.tern");
  command
      ->add_option(
          "--seed", arguments->meta.seed,
          "Of everything random in the frame; frames that are averaged need different ones")
      ->check(not_negative)
      ->capture_default_str();
  command->add_option("--round", arguments->meta.round, "Goes into the header")
      ->capture_default_str();
  command
      ->add_option("--base-version", arguments->meta.base_version,
                   "Goes into the header: the model version that the values are relative to")
      ->capture_default_str();
  command->footer(
      "The header names the file's schema by its hash: tensors of a .safetensors file, or one "
      "array.\n"
      "`ef` is only noted in the frame: there is no residual of an earlier one to add.\n"
      "Examples:\n"
      "  tern update encode update.npy --codec \"rotate:1024 | eden:4\" --out update.tern --seed "
      "7\n"
      "  tern update encode model.safetensors --codec float16 --out model.tern\n"
      "  tern update encode gradient.f32 --codec \"topk:0.01 | ternary | rice\" --out g.tern "
      "--json");

  command = add("decode", "Write the values of a frame to a file", decode_file);
  command->add_option("FILE", arguments->file, "What `tern update encode` wrote, or another frame")
      ->required();
  command
      ->add_option("--out", arguments->out,
                   "New file: .npy, .safetensors, or raw float32 (.f32, .bin)")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--like", arguments->like,
                   "Names and shapes are those of this file, which the frame has to be of; without "
                   "it, one vector as long as the header says")
      ->type_name("FILE");
  command
      ->add_option("--max-elements", arguments->max_elements,
                   "Without --like, refuse a header that says more")
      ->check(not_negative)
      ->capture_default_str();
  command->footer(
      "Examples:\n"
      "  tern update decode update.tern --out decoded.npy\n"
      "  tern update decode model.tern --out decoded.safetensors --like model.safetensors");

  command = add("inspect", "Say what a frame is and what it costs", inspect_file);
  command->add_option("FILE", arguments->file, "A frame")->required();
  command
      ->add_option("--against", arguments->against,
                   "The values that were encoded; adds squared error over squared norm (NMSE)")
      ->type_name("FILE");
  command->footer(
      "Checks the whole frame: structure, checksums, finite values.\n"
      "Examples:\n"
      "  tern update inspect update.tern\n"
      "  tern update inspect update.tern --against update.npy --json");

  add_update_plan(*update, exit_status);

  update->footer(
      "Examples:\n"
      "  tern update encode update.npy --codec \"rotate:1024 | eden:4\" --out update.tern\n"
      "  tern update inspect update.tern --against update.npy\n"
      "  tern update decode update.tern --out decoded.npy --like update.npy\n"
      "  tern update plan --update update.npy --link 1Mbit/s --deadline 2s");
}

}  // namespace tern::cli
