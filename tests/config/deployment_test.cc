#include "config/deployment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/load.h"

namespace tern {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Scenario scenario(const std::vector<Override>& extra = {}) {
  std::vector<Override> all{{"data.source", "csv"},    {"data.path", "x.csv"},
                            {"data.label", "class"},   {"data.partition", "iid"},
                            {"fleet.clients", "10"},   {"fleet.cohort", "4"},
                            {"model.name", "mlp-2nn"}, {"rounds", "6"}};
  all.insert(all.end(), extra.begin(), extra.end());
  return parse_scenario("", "/runs/x.toml", all).value();
}

const std::vector<Override> kServer{{"server.listen", "tcp://0.0.0.0:7700"},
                                    {"server.state_dir", "state"},
                                    {"server.key", "server.key"},
                                    {"server.clients", "clients.txt"}};
const std::vector<Override> kClient{{"client.connect", "tcp://example:7700"},
                                    {"client.server_key", "tern-public abc"},
                                    {"client.key", "me.key"},
                                    {"client.state_dir", "state"}};

/// Leaves out each key in turn.
void expect_all_needed(const std::vector<Override>& keys, Status (*check)(const Scenario&)) {
  EXPECT_TRUE(check(scenario(keys)).ok()) << check(scenario(keys)).describe();
  for (size_t left_out = 0; left_out < keys.size(); ++left_out) {
    std::vector<Override> others = keys;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(left_out));
    const Status status = check(scenario(others));
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(status.where().key, keys[left_out].key);
    EXPECT_THAT(status.message(), testing::StartsWith("is missing: "));
  }
}

TEST(CheckServer, NamesTheKeyThatIsMissing) {
  expect_all_needed(kServer, check_server);
  EXPECT_EQ(check_server(scenario()).describe(),
            "server.listen: is missing: where the coordinator listens, such as "
            "\"tcp://0.0.0.0:7700\"");
}

TEST(CheckClient, NamesTheKeyThatIsMissing) { expect_all_needed(kClient, check_client); }

TEST(CheckServer, AndCheckClientRefuseWhatIsNoEndpoint) {
  const auto server = [](std::string endpoint) {
    std::vector<Override> keys = kServer;
    keys.push_back({"server.listen", std::move(endpoint)});
    return check_server(scenario(keys));
  };
  const auto client = [](std::string endpoint) {
    std::vector<Override> keys = kClient;
    keys.push_back({"client.connect", std::move(endpoint)});
    return check_client(scenario(keys));
  };
  for (const char* good : {"tcp://*:7700", "tcp://[::1]:1"}) {
    EXPECT_TRUE(server(good).ok()) << good;
    EXPECT_TRUE(client(good).ok()) << good;
  }
  for (const char* bad :
       {"example:7700", "http://example", "inproc://x", "tcp:/x", "tcp://", "TCP://example:7700"}) {
    EXPECT_EQ(server(bad).where().key, "server.listen") << bad;
    EXPECT_EQ(client(bad).where().key, "client.connect") << bad;
    EXPECT_THAT(client(bad).message(), HasSubstr("must be tcp://ADDRESS:PORT"));
  }
}

TEST(TaskShapeOfScenario, ComesFromTheKeysOrTheSource) {
  const TaskShape given =
      task_shape(scenario({{"model.input", "3x32x32"}, {"model.classes", "100"}})).value();
  EXPECT_THAT(given.input, ElementsAre(3, 32, 32));
  EXPECT_EQ(given.classes, 100);
  Scenario images = scenario();
  images.data.source = "fashion-mnist";
  const TaskShape known = task_shape(images).value();
  EXPECT_THAT(known.input, ElementsAre(1, 28, 28));
  EXPECT_EQ(known.classes, 10);
}

TEST(TaskShapeOfScenario, NamesTheKeyThatIsMissing) {
  const auto key = [](const std::vector<Override>& extra) {
    return task_shape(scenario(extra)).error().where().key;
  };
  EXPECT_EQ(key({}), "model.input");
  EXPECT_EQ(key({{"model.classes", "3"}}), "model.input");
  EXPECT_EQ(key({{"model.input", "9"}}), "model.classes");
  Scenario made_by_hand = scenario();
  made_by_hand.model.input = "1x";
  EXPECT_EQ(task_shape(made_by_hand).error().where().key, "model.input");
}

TEST(InputShape, HasOneSpellingEach) {
  for (const char* good : {"1", "784", "1x28x28", "1099511627776"})
    EXPECT_EQ(input_shape_text(parse_input_shape(good).value()), good);
  for (const char* bad :
       {"", "x", "0", "-1", "+1", "28x28", "1x28x28x1", "1x28x", "x28", " 784", "784 ", "1X28X28",
        "1x0x28", "1.5", "1099511627777", "1048576x1048576x2", "99999999999999999999"})
    EXPECT_FALSE(parse_input_shape(bad)) << bad;
}

}  // namespace
}  // namespace tern
