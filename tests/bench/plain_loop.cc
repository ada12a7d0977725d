#include "tests/bench/plain_loop.h"

#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "learning/blas.h"

namespace tern {
namespace {

namespace F = torch::nn::functional;

torch::Tensor resnet8(const std::vector<torch::Tensor>& p, torch::Tensor x) {
  const auto norm = [&](const torch::Tensor& y, size_t at) {
    return F::group_norm(y, F::GroupNormFuncOptions(8).weight(p[at]).bias(p[at + 1]));
  };
  const auto conv = [&](const torch::Tensor& y, size_t at, int64_t stride) {
    return F::conv2d(y, p[at], F::Conv2dFuncOptions().stride(stride).padding(p[at].size(2) / 2));
  };
  const auto body = [&](const torch::Tensor& y, size_t at, int64_t stride) {
    return norm(conv(torch::relu(norm(conv(y, at, stride), at + 1)), at + 3, 1), at + 4);
  };
  x = torch::relu(norm(conv(x, 0, 1), 1));
  x = torch::relu(body(x, 3, 1) + x);
  x = torch::relu(body(x, 9, 2) + conv(x, 15, 2));
  x = torch::relu(body(x, 16, 2) + conv(x, 22, 2));
  return F::linear(torch::mean(x, {2, 3}), p[23], p[24]);
}

torch::Tensor char_lstm(const std::vector<torch::Tensor>& p, const torch::Tensor& characters) {
  const torch::Tensor x = F::embedding(characters.to(torch::kInt64), p[0]);
  const torch::Tensor start = torch::zeros({1, x.size(0), p[2].size(1)});
  const torch::Tensor hidden =
      std::get<0>(torch::lstm(x, {start, start}, {p[1], p[2], p[3], torch::zeros_like(p[3])}, true,
                              1, 0, true, false, true));
  return F::linear(hidden, p[4], p[5]).flatten(0, 1);
}

torch::Tensor forward(const std::string& model, const std::vector<torch::Tensor>& p,
                      torch::Tensor x) {
  if (model == "resnet8-gn") return resnet8(p, x);
  if (model == "char-lstm") return char_lstm(p, x);
  if (model == "logistic") return F::linear(x, p[0], p[1]);
  if (model == "mlp-2nn") {
    x = torch::relu(F::linear(x, p[0], p[1]));
    x = torch::relu(F::linear(x, p[2], p[3]));
    return F::linear(x, p[4], p[5]);
  }
  x = torch::max_pool2d(torch::relu(torch::conv2d(x, p[0], p[1], 1, 2)), 2);
  x = torch::max_pool2d(torch::relu(torch::conv2d(x, p[2], p[3], 1, 2)), 2);
  x = torch::relu(F::linear(x.flatten(1), p[4], p[5]));
  return F::linear(x, p[6], p[7]);
}

Result<PlainLoopReport> run(const LearningData& data, const TrainingPlan& plan,
                            std::span<const float> initial, size_t clients) {
  const Dataset& train = data.data.train;
  const auto n_examples = static_cast<int64_t>(train.examples());
  torch::Tensor inputs = torch::from_blob(const_cast<float*>(train.inputs.data()),
                                          {n_examples, data.data.shape.features()});
  if (data.model == "cnn" || data.model == "resnet8-gn") {
    const std::vector<int64_t>& image = data.data.shape.input;
    inputs = inputs.view({n_examples, image[0], image[1], image[2]});
  }
  const torch::Tensor labels =
      torch::tensor(std::vector<int64_t>(train.labels.begin(), train.labels.end()), torch::kInt64)
          .view({n_examples, train.labels_each});
  std::vector<torch::Tensor> indices;
  for (size_t c = 0; c < clients; ++c) {
    const std::vector<uint32_t> held = data.clients.of(static_cast<uint32_t>(c));
    indices.push_back(torch::tensor(std::vector<int64_t>(held.begin(), held.end()), torch::kInt64));
  }
  std::vector<torch::Tensor> start;
  std::vector<torch::Tensor> parameters;
  for (size_t i = 0; i < data.schema.tensors().size(); ++i) {
    start.push_back(torch::from_blob(const_cast<float*>(initial.data() + data.schema.offset(i)),
                                     data.schema.tensors()[i].shape)
                        .clone());
    parameters.push_back(start.back().clone().requires_grad_());
  }

  PlainLoopReport report;
  const auto begin = std::chrono::steady_clock::now();
  for (size_t c = 0; c < clients; ++c) {
    std::vector<torch::Tensor> velocity;
    {
      const torch::NoGradGuard no_grad;
      for (size_t i = 0; i < parameters.size(); ++i) {
        parameters[i].copy_(start[i]);
        if (plan.momentum != 0) velocity.push_back(torch::zeros_like(start[i]));
      }
    }
    const int64_t n = indices[c].size(0);
    uint64_t steps = 0;
    const auto more_steps = [&] { return plan.local_steps == 0 || steps < plan.local_steps; };
    for (uint32_t epoch = 0; plan.local_steps > 0 ? more_steps() : epoch < plan.local_epochs;
         ++epoch) {
      const torch::Tensor order = indices[c].index_select(0, torch::randperm(n, torch::kInt64));
      const torch::Tensor x = inputs.index_select(0, order);
      const torch::Tensor y = labels.index_select(0, order);
      torch::Tensor loss_sum = torch::zeros({});
      int64_t batches = 0;
      for (int64_t at = 0; at < n && more_steps(); at += plan.batch_size, ++batches, ++steps) {
        const int64_t length = std::min<int64_t>(plan.batch_size, n - at);
        const torch::Tensor loss =
            F::cross_entropy(forward(data.model, parameters, x.narrow(0, at, length)),
                             y.narrow(0, at, length).flatten());
        const std::vector<torch::Tensor> gradients = torch::autograd::grad({loss}, parameters);
        const torch::NoGradGuard no_grad;
        for (size_t i = 0; i < parameters.size(); ++i) {
          torch::Tensor step = gradients[i];
          if (plan.weight_decay != 0) step = step.add(parameters[i], plan.weight_decay);
          if (plan.momentum != 0) step = velocity[i].mul_(plan.momentum).add_(step);
          parameters[i].sub_(step, plan.learning_rate);
        }
        loss_sum += loss;
        report.samples_trained += static_cast<uint64_t>(length);
      }
      report.final_loss = loss_sum.item<double>() / static_cast<double>(batches);
    }
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  report.samples_per_second = static_cast<double>(report.samples_trained) / report.seconds;
  return report;
}

}  // namespace

Status has_plain_loop(std::string_view model) {
  if (model != "char-gpt" && model != kScriptModel) return {};
  return error(Code::kUnsupported, "there is no plain loop to compare {} with", model);
}

Result<PlainLoopReport> run_plain_loop(const LearningData& data, const TrainingPlan& plan,
                                       std::span<const float> initial, size_t clients,
                                       uint64_t seed) {
  if (clients == 0 || clients > data.clients.clients())
    return error(Code::kInvalidArgument, "can't train {} clients of {}", clients,
                 data.clients.clients());
  for (size_t c = 0; c < clients; ++c)
    if (data.clients.examples(static_cast<uint32_t>(c)) == 0)
      return error(Code::kInvalidArgument, "client {} has no examples", c);
  if (initial.size() != data.schema.elements() || plan.batch_size == 0)
    return error(Code::kInvalidArgument, "{} parameters where the model has {}, batches of {}",
                 initial.size(), data.schema.elements(), plan.batch_size);
  TERN_CHECK_OK(has_plain_loop(data.model));
  make_math_serial();
  try {
    torch::manual_seed(seed);
    return run(data, plan, initial, clients);
  } catch (const c10::Error& e) {
    return error(Code::kInternal, "LibTorch: {}", e.what_without_backtrace());
  } catch (const std::exception& e) {
    return error(Code::kInternal, "LibTorch: {}", e.what());
  }
}

}  // namespace tern
