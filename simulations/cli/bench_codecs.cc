#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/program.h"
#include "simulations/cli/commands.h"
#include "simulations/codec_benchmark.h"
#include "tests/bench/measured_chain.h"

namespace tern::cli {

using nlohmann::ordered_json;

namespace {

struct CodecBenchArguments {
  CodecBenchmark benchmark{.specs = {kHotChains.begin(), kHotChains.end()},
                           .sizes = {size_t{1} << 20, size_t{1} << 25}};
  std::vector<std::string> inputs;
  std::vector<std::string> levels;
  bool sizes_given = false;
  bool json = false;
};

/// A table of Markdown that is also readable as it is.
class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  void print() const {
    std::vector<size_t> widths(rows_.front().size());
    for (const auto& row : rows_)
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    for (size_t r = 0; r < rows_.size(); ++r) {
      for (size_t i = 0; i < widths.size(); ++i)
        // Text to the left, numbers to the right.
        if (i == 0)
          fmt::print("| {:<{}} |", rows_[r][i], widths[i]);
        else
          fmt::print(" {:>{}} |", rows_[r][i], widths[i]);
      fmt::print("\n");
      if (r > 0) continue;
      for (size_t i = 0; i < widths.size(); ++i)
        fmt::print("{}{}{}|", i == 0 ? "|" : "", std::string(widths[i] + 1, '-'),
                   i == 0 ? "-" : ":");
      fmt::print("\n");
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// A chain in a cell: a bare | would end it.
std::string cell(const ordered_json& spec) {
  std::string text = "`";
  for (const char c : spec.get<std::string>()) {
    if (c == '|') text += '\\';
    text += c;
  }
  return text + "`";
}

std::string speed(double gbps) { return fmt::format("{:.{}f}", gbps, gbps < 9.995 ? 2 : 1); }

void print_results(const ordered_json& results) {
  Table table({"chain", "input", "n", "level", "bits", "NMSE", "encode", "inspect", "decode + sum",
               "memcpy", "encode / memcpy", "decode / memcpy"});
  for (const ordered_json& row : results) {
    const double encode = row["encode_gbps"], decode = row["decode_accumulate_gbps"],
                 copy = row["memcpy_gbps"];
    table.add({cell(row["spec"]), row["input"], fmt::to_string(row["n"].get<size_t>()),
               row["level"], fmt::format("{:.3f}", row["bits_per_element"].get<double>()),
               fmt::format("{:.2g}", row["nmse"].get<double>()), speed(encode),
               speed(row["inspect_gbps"]), speed(decode), speed(copy),
               fmt::format("{:.3f}", encode / copy), fmt::format("{:.3f}", decode / copy)});
  }
  fmt::print("Speeds in GB/s of float32 input, one core.\n\n");
  table.print();
}

void print_peers(const ordered_json& peers) {
  if (peers.empty()) return;
  fmt::print("\nEncoding beside what users have otherwise, one core, n = {}.\n\n",
             peers[0]["n"].get<size_t>());
  Table table({"chain", "beside", "ms", "its ms", "times faster", "bytes", "its bytes",
               "times smaller", "NMSE", "its NMSE"});
  for (const ordered_json& row : peers)
    table.add({cell(row["spec"]), row["peer"],
               fmt::format("{:.4g}", 1e3 * row["seconds"].get<double>()),
               fmt::format("{:.4g}", 1e3 * row["peer_seconds"].get<double>()),
               fmt::format("{:.2f}", row["time_ratio"].get<double>()),
               fmt::to_string(row["bytes"].get<size_t>()),
               fmt::to_string(row["peer_bytes"].get<size_t>()),
               fmt::format("{:.2f}", row["size_ratio"].get<double>()),
               fmt::format("{:.2g}", row["nmse"].get<double>()),
               fmt::format("{:.2g}", row["peer_nmse"].get<double>())});
  table.print();
}

void print_parallel(const ordered_json& parallel) {
  if (parallel.is_null()) return;
  const std::string all = fmt::to_string(parallel["workers"].get<size_t>());
  fmt::print("\n{} workers at once, Gaussian, n = {}, {}; GB/s of one and of all.\n\n", all,
             parallel["n"].get<size_t>(), parallel["level"].get<std::string>());
  Table table({"chain", "encode, 1", "encode, " + all, "speedup", "decode + sum, 1",
               "decode + sum, " + all, "speedup"});
  for (const ordered_json& row : parallel["results"])
    table.add({cell(row["spec"]), speed(row["encode_gbps"]["1"]), speed(row["encode_gbps"][all]),
               fmt::format("{:.2f}", row["encode_speedup"].get<double>()),
               speed(row["decode_accumulate_gbps"]["1"]), speed(row["decode_accumulate_gbps"][all]),
               fmt::format("{:.2f}", row["decode_accumulate_speedup"].get<double>())});
  table.print();

  const ordered_json& one_update = parallel["one_update"];
  if (one_update["results"].empty()) return;
  fmt::print("\nOne update encoded on one core and on {}, n = {}; GB/s.\n\n", all,
             one_update["n"].get<size_t>());
  Table cores({"chain", "encode, 1", "encode, " + all, "speedup"});
  for (const ordered_json& row : one_update["results"])
    cores.add({cell(row["spec"]), speed(row["encode_gbps"]["1"]), speed(row["encode_gbps"][all]),
               fmt::format("{:.2f}", row["encode_speedup"].get<double>())});
  cores.print();
}

/// The levels of these names; all there are without names.
Result<std::vector<CpuLevel>> levels_of(const std::vector<std::string>& names) {
  std::vector<CpuLevel> levels = levels_here();
  if (names.empty()) return levels;
  for (const std::string& wanted : names)
    if (std::none_of(levels.begin(), levels.end(),
                     [&](CpuLevel level) { return name(level) == wanted; }))
      return error(Code::kInvalidArgument, "this CPU has no {}", wanted).at({.key = "--level"});
  std::erase_if(levels, [&](CpuLevel level) {
    return std::find(names.begin(), names.end(), name(level)) == names.end();
  });
  return levels;
}

int bench(const CodecBenchArguments& arguments) {
  const auto results = [&]() -> Result<ordered_json> {
    CodecBenchmark benchmark = arguments.benchmark;
    TERN_TRY(benchmark.levels, levels_of(arguments.levels));
    const auto asked = [&](const char* input) {
      return std::find(arguments.inputs.begin(), arguments.inputs.end(), input) !=
             arguments.inputs.end();
    };
    benchmark.gaussian = arguments.inputs.empty() || asked("gaussian");
    benchmark.cnn = arguments.inputs.empty() ? !arguments.sizes_given : asked("cnn");
    return benchmark_codecs(benchmark, stop_on_interrupt());
  }();
  if (!results) return fail(results.error(), arguments.json);
  if (arguments.json) {
    fmt::print("{}\n", results->dump(2));
    return kOk;
  }
  print_results((*results)["results"]);
  print_peers((*results)["peers"]);
  print_parallel((*results)["parallel"]);
  return kOk;
}

}  // namespace

void add_bench_codecs(CLI::App& command, int& exit_status) {
  auto arguments = std::make_shared<CodecBenchArguments>();
  CLI::App* codecs =
      command.add_subcommand("codecs", "Encoding and decoding on one core beside memcpy");
  codecs
      ->add_option("--specs", arguments->benchmark.specs,
                   "A chain to measure; once for each, in place of the usual ones")
      ->type_name("SPEC")
      ->allow_extra_args(false);
  CLI::Option* sizes =
      codecs
          ->add_option("--n", arguments->benchmark.sizes,
                       "Sizes of the Gaussian input; leaves out cnn unless --input asks for it")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->check(CLI::Range(1, 1 << 30))
          ->capture_default_str();
  codecs->add_option("--input", arguments->inputs, "gaussian, cnn: a real update; without it both")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"gaussian", "cnn"}));
  codecs
      ->add_option("--level", arguments->levels,
                   "baseline, avx2, avx512; without it all that this CPU has")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(CLI::IsMember({"baseline", "avx2", "avx512"}));
  codecs->add_option("--repeats", arguments->benchmark.repeats, "Interleaved; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  codecs->add_flag("--peers", arguments->benchmark.peers,
                   "Also what users have otherwise: LibTorch's topk, QSGD of tensor operations, "
                   "zstd; at the largest n");
  codecs->add_flag("--json", arguments->json, "One JSON object on stdout and nothing else");
  codecs->footer(
      "Speeds are 4 bytes an element over the time. Encoding is all that a sender does, with "
      "error\n"
      "feedback and checksums; decoding adds a checked frame to 64-bit sums.\n"
      "Examples:\n"
      "  tern bench codecs --peers\n"
      "  tern bench codecs --n 1048576 --level avx2 --repeats 5\n"
      "  tern bench codecs --specs \"int:8\" --specs \"ef | topk:0.01 | rice\" --input cnn --json");
  codecs->callback([arguments, sizes, &exit_status] {
    arguments->sizes_given = sizes->count() > 0;
    exit_status = bench(*arguments);
  });
}

}  // namespace tern::cli
