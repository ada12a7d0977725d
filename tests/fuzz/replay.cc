/// Runs a fuzz target over files of inputs without libFuzzer, under any compiler: ctest replays the
/// corpus of each target this way.
///   TARGET_replay FILE-OR-FOLDER...     exit status 1 when there is nothing to replay
#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_memory.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
/// Targets with mutators of their own call libFuzzer's; nothing is mutated here.
extern "C" size_t LLVMFuzzerMutate(uint8_t*, size_t size, size_t) { return size; }

#ifndef TERN_FUZZ_SANITIZER_HOOKS
// Counts what the sanitizer's hooks count elsewhere. The size lies before each block.
namespace {

constexpr size_t kSmallestAlignment = alignof(std::max_align_t);

void* counted_new(size_t bytes, size_t alignment) {
  auto* block = static_cast<std::byte*>(
      std::aligned_alloc(alignment, (bytes + 2 * alignment - 1) / alignment * alignment));
  if (block == nullptr) throw std::bad_alloc();
  std::memcpy(block, &bytes, sizeof bytes);
  tern::fuzz_count_new(bytes);
  return block + alignment;
}

void counted_delete(void* memory, size_t alignment) {
  if (memory == nullptr) return;
  std::byte* block = static_cast<std::byte*>(memory) - alignment;
  size_t bytes = 0;
  std::memcpy(&bytes, block, sizeof bytes);
  tern::fuzz_count_delete(bytes);
  std::free(block);
}

}  // namespace

void* operator new(size_t bytes) { return counted_new(bytes, kSmallestAlignment); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted_new(bytes, std::max(static_cast<size_t>(alignment), kSmallestAlignment));
}
void operator delete(void* memory) noexcept { counted_delete(memory, kSmallestAlignment); }
void operator delete(void* memory, size_t) noexcept { counted_delete(memory, kSmallestAlignment); }
void operator delete(void* memory, std::align_val_t alignment) noexcept {
  counted_delete(memory, std::max(static_cast<size_t>(alignment), kSmallestAlignment));
}
void operator delete(void* memory, size_t, std::align_val_t alignment) noexcept {
  counted_delete(memory, std::max(static_cast<size_t>(alignment), kSmallestAlignment));
}
#endif

namespace {

std::string replayed;  // what a failed check was about

extern "C" void say_input(int signal) {
  std::fprintf(stderr, "failed on the input %s\n", replayed.c_str());
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<fs::path> inputs;
  for (int i = 1; i < argc; ++i) {
    if (!fs::is_directory(argv[i])) {
      inputs.emplace_back(argv[i]);
      continue;
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(argv[i]))
      if (entry.is_regular_file()) inputs.push_back(entry.path());
  }
  std::sort(inputs.begin(), inputs.end());
  std::signal(SIGABRT, say_input);

  LLVMFuzzerTestOneInput(nullptr, 0);  // libFuzzer, too, begins with nothing
  size_t bytes = 0;
  for (const fs::path& path : inputs) {
    replayed = path.string();
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", replayed.c_str());
      return 1;
    }
    // Memory of exactly this length, so that a sanitizer sees a read beyond it.
    const auto exact = std::make_unique<uint8_t[]>(content.size());
    std::copy(content.begin(), content.end(), exact.get());
    LLVMFuzzerTestOneInput(exact.get(), content.size());
    bytes += content.size();
  }
  std::printf("replayed %zu inputs of %zu bytes\n", inputs.size(), bytes);
  return inputs.empty() ? 1 : 0;
}
