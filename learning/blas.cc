#include "learning/blas.h"

#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <exception>
#include <mutex>

namespace tern {
namespace {

// Looked up, not linked: LibTorch loads whatever Debian's libblas.so.3 alternative points to.
template <typename Function>
Function* find_symbol(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, name));
}

}  // namespace

bool make_math_serial() {
  static std::once_flag once;
  static bool found = false;
  std::call_once(once, [] {
    at::set_num_threads(1);
    try {
      at::set_num_interop_threads(1);
    } catch (const std::exception&) {
      // Somebody chose a number before us, or the pool runs already; nothing in Tern uses it.
    }
    if (auto* set_threads = find_symbol<void(int)>("openblas_set_num_threads")) {
      set_threads(1);
      found = true;
    }
  });
  return found;
}

void sgemm(char op_a, char op_b, int m, int n, int k, float alpha, const float* a, int lda,
           const float* b, int ldb, float beta, float* c, int ldc) {
  using Sgemm =
      void(const char*, const char*, const int*, const int*, const int*, const float*, const float*,
           const int*, const float*, const int*, const float*, float*, const int*);
  static Sgemm* const blas_sgemm = find_symbol<Sgemm>("sgemm_");  // LibTorch can't do without
  blas_sgemm(&op_a, &op_b, &m, &n, &k, &alpha, a, &lda, b, &ldb, &beta, c, &ldc);
}

std::string blas_description() {
  auto* config = find_symbol<char*()>("openblas_get_config");
  auto* core = find_symbol<char*()>("openblas_get_corename");
  if (config == nullptr || core == nullptr) return "unknown";
  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...": the first two words are name and version.
  const std::string text = config();
  return text.substr(0, text.find(' ', text.find(' ') + 1)) + " " + core();
}

std::string libtorch_version() { return TORCH_VERSION; }

}  // namespace tern
