#include "tests/bench/codec_peers.h"

#include <torch/torch.h>
#include <zstd.h>

#include <cstdint>
#include <memory>
#include <utility>

#include "learning/blas.h"

namespace tern {
namespace {

constexpr int64_t kBucket = 1024;
constexpr int kLevels = 4;
constexpr int64_t kKeepOneOf = 100;

/// LibTorch's exceptions stop here.
template <typename Call>
auto guarded(Call call) {
  return [call = std::move(call)]() -> Result<decltype(call())> {
    try {
      const torch::NoGradGuard no_grad;
      return call();
    } catch (const c10::Error& e) {
      return error(Code::kInternal, "LibTorch: {}", e.what_without_backtrace());
    } catch (const std::exception& e) {
      return error(Code::kInternal, "LibTorch: {}", e.what());
    }
  };
}

std::vector<float> to_vector(const torch::Tensor& values) {
  const torch::Tensor flat = values.contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

CodecPeer topk(const torch::Tensor& update, const std::vector<std::string>& beside) {
  struct Sent {
    torch::Tensor indices, values;
  };
  auto sent = std::make_shared<Sent>();  // by both calls
  return {.name = "LibTorch topk, 1 %",
          .beside = beside,
          .encode = guarded([update, sent] {
            const int64_t k = std::max<int64_t>(1, update.numel() / kKeepOneOf);
            const torch::Tensor indices =
                std::get<1>(update.abs().topk(k, /*dim=*/-1, /*largest=*/true, /*sorted=*/false));
            sent->values = update.index_select(0, indices);
            sent->indices = indices.to(torch::kInt32);
            return static_cast<size_t>(sent->values.nbytes() + sent->indices.nbytes());
          }),
          .decode = guarded([update, sent] {
            return to_vector(torch::zeros_like(update).index_copy(
                0, sent->indices.to(torch::kInt64), sent->values));
          })};
}

CodecPeer qsgd(const torch::Tensor& update, const std::vector<std::string>& beside) {
  struct Sent {
    torch::Tensor levels, norms;
  };
  auto sent = std::make_shared<Sent>();  // by both calls
  return {.name = "LibTorch QSGD, 4 levels",
          .beside = beside,
          .encode = guarded([buckets = update.view({-1, kBucket}), sent] {
            sent->norms = buckets.norm(2, 1, /*keepdim=*/true);
            const torch::Tensor scaled = buckets.abs().mul_(kLevels / sent->norms);
            torch::Tensor level = scaled.floor();
            level += torch::rand_like(scaled) < scaled - level;
            sent->levels = level.mul_(buckets.sign()).to(torch::kInt8);
            return static_cast<size_t>(sent->levels.nbytes() + sent->norms.nbytes());
          }),
          .decode = guarded([sent] {
            return to_vector(sent->levels.to(torch::kFloat32).mul_(sent->norms / kLevels));
          })};
}

CodecPeer zstd(std::span<const float> update, const std::vector<std::string>& beside) {
  struct State {
    std::unique_ptr<ZSTD_CCtx, size_t (*)(ZSTD_CCtx*)> context{ZSTD_createCCtx(), ZSTD_freeCCtx};
    std::vector<char> out;
    size_t bytes = 0;
  };
  auto state = std::make_shared<State>();  // by both calls
  state->out.resize(ZSTD_compressBound(update.size_bytes()));
  return {.name = "zstd -1",
          .beside = beside,
          .encode = [update, state]() -> Result<size_t> {
            state->bytes =
                ZSTD_compressCCtx(state->context.get(), state->out.data(), state->out.size(),
                                  update.data(), update.size_bytes(), 1);
            if (ZSTD_isError(state->bytes) != 0)
              return error(Code::kInternal, "zstd: {}", ZSTD_getErrorName(state->bytes));
            return state->bytes;
          },
          .decode = [update, state]() -> Result<std::vector<float>> {
            std::vector<float> values(update.size());
            if (ZSTD_decompress(values.data(), update.size_bytes(), state->out.data(),
                                state->bytes) != update.size_bytes())
              return error(Code::kInternal, "zstd: not what was compressed");
            return values;
          }};
}

}  // namespace

Result<std::vector<CodecPeer>> make_codec_peers(std::span<const float> update) {
  if (update.empty() || update.size() % kBucket != 0)
    return error(Code::kInvalidArgument, "peers take a multiple of {} elements, not {}", kBucket,
                 update.size());
  make_math_serial();
  torch::manual_seed(1);
  // LibTorch has no tensor of constants; nothing here writes to it.
  const torch::Tensor values =
      torch::from_blob(const_cast<float*>(update.data()), {static_cast<int64_t>(update.size())});
  return std::vector<CodecPeer>{
      topk(values, {"ef | topk:0.01 | ternary | rice", "topk:0.01 | rice"}),
      qsgd(values, {"qsgd:4"}), zstd(update, {"rotate:1024 | eden:4", "int:8"})};
}

}  // namespace tern
