#include "learning/script_module.h"

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/runtime/profiling_graph_executor_impl.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <utility>

#include "learning/blas.h"
#include "learning/script_file.h"
#include "learning/torch_errors.h"

namespace tern {

namespace {

/// What would make an update depend on thread or earlier tasks: draws from the generator that all
/// threads share, and attributes that forward() changes.
Status check_repeatable(torch::jit::Block& block) {
  constexpr std::string_view kDraws[] = {
      "aten::rand",     "aten::randn",       "aten::randint",   "aten::rand_like",
      "aten::randperm", "aten::randn_like",  "aten::normal",    "aten::normal_",
      "aten::uniform_", "aten::multinomial", "aten::bernoulli", "aten::bernoulli_"};
  for (torch::jit::Node* node : block.nodes()) {
    const std::string_view kind = node->kind().toQualString();
    const bool draws = std::ranges::find(kDraws, kind) != std::end(kDraws);
    const bool drops =
        (kind.starts_with("aten::") && kind.find("dropout") != std::string_view::npos) &&
        node->inputs().size() == 3 &&
        torch::jit::toIValue(node->input(2)) == c10::optional<c10::IValue>(true);
    if (draws || drops)
      return error(Code::kUnsupported,
                   "forward() draws random numbers ({}), from a generator that all threads share; "
                   "nn.Dropout is switched off, functional dropout needs training=self.training",
                   kind);
    if (kind == "prim::SetAttr")
      return error(Code::kUnsupported,
                   "forward() changes {} of the module, which the next client would find",
                   node->s(torch::jit::attr::name));
    for (torch::jit::Block* inner : node->blocks()) TERN_CHECK_OK(check_repeatable(*inner));
  }
  return {};
}

Status check_repeatable(const torch::jit::Module& module) {
  const auto graph = module.get_method("forward").graph()->copy();
  torch::jit::Inline(*graph);
  return check_repeatable(*graph->block());
}

}  // namespace

Result<ScriptModule> ScriptModule::load(const std::string& path) {
  const auto failed = [&](Status status) { return std::move(status).at({.file = path}); };
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return failed(Status(Code::kNotFound, "there is no such file"));
  // For the whole process: an executor that profiles would compute the first calls otherwise.
  torch::jit::getExecutorMode() = false;
  torch::jit::getProfilingMode() = false;
  std::optional<torch::jit::Module> loaded;
  try {
    loaded.emplace(torch::jit::load(path));
  } catch (const std::exception&) {
    // Its message is a page about files in a zip.
    return failed(Status(Code::kCorrupt,
                         "LibTorch can't load it; torch.jit.script(model).save(FILE) writes such "
                         "files"));
  }
  loaded->eval();
  for (const auto& buffer : loaded->named_buffers())
    if (buffer.name.ends_with("running_mean"))
      return failed(
          error(Code::kUnsupported,
                "{} is a running statistic, which clients would neither share nor average; use "
                "GroupNorm in place of BatchNorm",
                buffer.name));
  if (Status status = check_repeatable(*loaded); !status.ok()) return failed(std::move(status));
  ScriptModule script(*std::move(loaded));
  std::vector<TensorSpec> tensors;
  for (const auto& parameter : script.module_.named_parameters()) {
    if (parameter.value.scalar_type() != at::kFloat)
      return failed(error(Code::kUnsupported, "parameter {} is {}, not float32", parameter.name,
                          c10::toString(parameter.value.scalar_type())));
    for (const at::Tensor& other : script.parameters_)
      if (other.is_same(parameter.value))
        return failed(error(Code::kUnsupported,
                            "parameter {} is one with another: shared parameters can't be told "
                            "apart once they travel",
                            parameter.name));
    tensors.push_back({parameter.name, parameter.value.sizes().vec()});
    script.parameters_.push_back(parameter.value);
  }
  if (tensors.empty()) return failed(Status(Code::kInvalidArgument, "it has no parameters"));
  Result<ParameterSchema> schema = ParameterSchema::make(std::move(tensors));
  if (!schema) return failed(std::move(schema).error());
  script.schema_ = *std::move(schema);
  return script;
}

Status ScriptModule::bind(const ParameterSchema& schema, const TaskShape& shape,
                          uint32_t labels_each, const at::Tensor& flat) {
  shape_ = shape;
  labels_each_ = labels_each;
  const auto& mine = schema_.tensors();
  const auto& wanted = schema.tensors();
  for (size_t i = 0; i < std::min(mine.size(), wanted.size()); ++i)
    if (mine[i].name != wanted[i].name || mine[i].shape != wanted[i].shape)
      return error(Code::kInvalidArgument,
                   "the script's parameter {} is {} [{}], the model's is {} [{}]", i, mine[i].name,
                   fmt::join(mine[i].shape, ", "), wanted[i].name,
                   fmt::join(wanted[i].shape, ", "));
  if (mine.size() != wanted.size())
    return error(Code::kInvalidArgument, "the script has {} parameters, the model {}", mine.size(),
                 wanted.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    parameters_[i].set_data(flat.narrow(0, static_cast<int64_t>(schema.offset(i)),
                                        static_cast<int64_t>(wanted[i].elements()))
                                .view(wanted[i].shape)
                                .variable_data());
    parameters_[i].requires_grad_();
  }
  const at::NoGradGuard no_grad;
  TERN_TRY([[maybe_unused]] const at::Tensor scores, forward(at::zeros({2, shape.features()})));
  return {};
}

Result<at::Tensor> ScriptModule::forward(const at::Tensor& inputs) {
  std::vector<int64_t> sizes{inputs.size(0)};
  sizes.insert(sizes.end(), shape_.input.begin(), shape_.input.end());
  // This one is kept for each thread.
  torch::jit::setGraphExecutorOptimize(false);
  const c10::IValue output = module_.forward({inputs.view(sizes)});
  std::vector<int64_t> wanted{inputs.size(0)};
  if (labels_each_ != 1) wanted.push_back(labels_each_);
  wanted.push_back(shape_.classes);
  if (!output.isTensor() || output.toTensor().sizes() != wanted ||
      output.toTensor().scalar_type() != at::kFloat)
    return error(Code::kInvalidArgument,
                 "forward() of the script must give float32 scores of the shape [{}], not {}",
                 fmt::join(wanted, ", "),
                 output.isTensor()
                     ? fmt::format("{} [{}]", c10::toString(output.toTensor().scalar_type()),
                                   fmt::join(output.toTensor().sizes().vec(), ", "))
                     : output.tagKind());
  return output.toTensor().reshape({-1, shape_.classes});
}

Result<ScriptFile> read_script(const std::string& path) {
  make_math_serial();
  return without_exceptions([&]() -> Result<ScriptFile> {
    TERN_TRY(const ScriptModule script, ScriptModule::load(path));
    ScriptFile file{.schema = script.schema(), .parameters = {}};
    file.parameters.reserve(file.schema.elements());
    for (const at::Tensor& parameter : script.parameters()) {
      const at::Tensor values = parameter.detach().contiguous();
      const float* at = values.data_ptr<float>();
      file.parameters.insert(file.parameters.end(), at, at + values.numel());
    }
    return file;
  });
}

Result<ParameterSchema> trained_schema(const ModelConfig& model, const TaskShape& shape) {
  if (model.name != kScriptModel) return model_schema(model.name, shape);
  if (model.script.empty())
    return Status(Code::kInvalidArgument, "is missing: the TorchScript file of the model",
                  {.key = "model.script"});
  TERN_TRY(ScriptFile file, read_script(model.script));
  return std::move(file.schema);
}

}  // namespace tern
