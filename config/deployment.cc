#include "config/deployment.h"

#include <string_view>

#include "config/vocabulary.h"

namespace tern {
namespace {

Status refuse(std::string_view key, std::string message) {
  return Status(Code::kInvalidArgument, std::move(message), {.key = std::string(key)});
}

Status check_given(std::string_view key, const std::string& value) {
  if (!value.empty()) return {};
  return refuse(key, fmt::format("is missing: {}", find_key(key)->meaning));
}

Status check_endpoint(std::string_view key, std::string_view value) {
  constexpr std::string_view kScheme = "tcp://";
  const size_t colon = value.rfind(':');
  if (value.starts_with(kScheme) && colon > kScheme.size() && colon + 1 < value.size()) return {};
  return refuse(key, fmt::format("must be tcp://ADDRESS:PORT, not {}", toml_string(value)));
}

}  // namespace

Result<TaskShape> task_shape(const Scenario& scenario) {
  TaskShape shape;
  if (scenario.data.source == "fashion-mnist") shape = {.input = {1, 28, 28}, .classes = 10};
  if (scenario.data.source == "cifar") shape.input = {3, 32, 32};
  if (scenario.data.source == "text")
    shape = {.input = {scenario.data.window}, .classes = kTextClasses};
  if (!scenario.model.input.empty()) {
    const auto input = parse_input_shape(scenario.model.input);
    if (!input)
      return refuse("model.input",
                    fmt::format("must be {}, not {}", expectation(*find_key("model.input")),
                                toml_string(scenario.model.input)));
    shape.input = *input;
  }
  if (scenario.model.classes != 0) shape.classes = scenario.model.classes;
  for (const auto& [key, known] : {std::pair("model.input", !shape.input.empty()),
                                   std::pair("model.classes", shape.classes != 0)})
    if (!known) return refuse(key, fmt::format("is missing: {}", expectation(*find_key(key))));
  return shape;
}

Status check_server(const Scenario& scenario) {
  const ServerConfig& server = scenario.server;
  TERN_CHECK_OK(check_given("server.listen", server.listen));
  TERN_CHECK_OK(check_endpoint("server.listen", server.listen));
  TERN_CHECK_OK(check_given("server.state_dir", server.state_dir));
  TERN_CHECK_OK(check_given("server.key", server.key));
  return check_given("server.clients", server.clients);
}

Status check_client(const Scenario& scenario) {
  const ClientConfig& client = scenario.client;
  TERN_CHECK_OK(check_given("client.connect", client.connect));
  TERN_CHECK_OK(check_endpoint("client.connect", client.connect));
  TERN_CHECK_OK(check_given("client.server_key", client.server_key));
  TERN_CHECK_OK(check_given("client.key", client.key));
  return check_given("client.state_dir", client.state_dir);
}

}  // namespace tern
