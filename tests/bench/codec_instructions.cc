// What tests/bench/instructions runs under callgrind: each hot chain encodes and decodes one
// update, and callgrind writes down what each of the two took.
//   codec_instructions          one dump for each, named "encode,SPEC" and "decode,SPEC"
//   codec_instructions --built  elements, compiler and flags: what the counts depend on
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "tests/bench/measured_chain.h"

#ifdef TERN_VALGRIND
#include <valgrind/callgrind.h>
#endif

namespace tern {
namespace {

constexpr size_t kElements = size_t{1} << 18;

#ifdef TERN_VALGRIND
template <typename Call>
Status count(const std::string& what, Call&& call) {
  CALLGRIND_ZERO_STATS;
  const Status status = call();
  CALLGRIND_DUMP_STATS_AT(what.c_str());
  return status;
}

Status run() {
  if (!RUNNING_ON_VALGRIND)
    return error(Code::kUnsupported,
                 "counts nothing without valgrind: run tests/bench/instructions");
  const BenchmarkUpdate update = gaussian_update(kElements);
  TERN_TRY(FixedPointAccumulator sums, make_benchmark_accumulator(update));
  for (const char* spec : kHotChains) {
    TERN_TRY(MeasuredChain chain, MeasuredChain::make(spec, update));
    TERN_CHECK_OK(count("encode," + chain.spec(), [&] { return chain.encode(); }));
    TERN_CHECK_OK(count("decode," + chain.spec(), [&] {
      const Status status = chain.inspect();
      return status.ok() ? chain.decode_accumulate(sums) : status;
    }));
  }
  return {};
}
#else
Status run() {
  return error(Code::kUnsupported,
               "built without valgrind/callgrind.h: tools/setup checks, then configure again");
}
#endif

}  // namespace
}  // namespace tern

int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--built") {
    fmt::print("{} elements, {}\n", tern::kElements, TERN_BUILT_WITH);
    return 0;
  }
  if (const tern::Status status = tern::run(); !status.ok()) {
    fmt::print(stderr, "codec_instructions: {}\n", status.describe());
    return status.code() == tern::Code::kUnsupported ? 77 : 1;  // 77: the test is skipped
  }
  return 0;
}
