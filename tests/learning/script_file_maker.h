/// TorchScript files as a user's Python writes them, made here so that tests need no Python.
#pragma once

#include <torch/script.h>
#include <torch/torch.h>

#include <string>

namespace tern {

/// Writes a network of two layers on flattened inputs, the same parameters each time. `forward` may
/// be another body of its method.
inline void make_script_file(const std::string& path, int64_t features, int64_t classes,
                             const std::string& forward = "", const std::string& buffer = "") {
  torch::jit::Module module("Net");
  const auto values = [](std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return (torch::arange(count, torch::kFloat) * 0.7).sin().div(4).view(shape);
  };
  module.register_parameter("w1", values({8, features}), false);
  module.register_parameter("b1", values({8}), false);
  module.register_parameter("w2", values({classes, 8}), false);
  module.register_parameter("b2", values({classes}), false);
  if (!buffer.empty()) module.register_buffer(buffer, torch::zeros({8}));
  module.define("def forward(self, x):\n" +
                (forward.empty()
                     ? "    h = torch.relu(torch.addmm(self.b1, x.flatten(1), self.w1.t()))\n"
                       "    return torch.addmm(self.b2, h, self.w2.t())\n"
                     : forward));
  module.save(path);
}

}  // namespace tern
