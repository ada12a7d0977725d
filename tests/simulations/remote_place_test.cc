// Work places at the other end of a channel: the bits of a run don't depend on who trains whom, and
// what can't be read ends in an error.
#include "simulations/remote_place.h"

#include <gmock/gmock.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/simulations/small_scenario.h"

namespace tern {
namespace {

using Bytes = std::vector<std::byte>;

/// Two queues; each end has one to send and one to receive.
class Pipe {
 public:
  void push(Bytes message) {
    const std::lock_guard lock(mutex_);
    messages_.push_back(std::move(message));
    ready_.notify_one();
  }
  Bytes pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return !messages_.empty(); });
    Bytes message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<Bytes> messages_;
};

class End : public WorkChannel {
 public:
  End(std::shared_ptr<Pipe> out, std::shared_ptr<Pipe> in)
      : out_(std::move(out)), in_(std::move(in)) {}
  Status send(std::span<const std::byte> message) override {
    out_->push(Bytes(message.begin(), message.end()));
    return {};
  }
  Result<Bytes> receive() override { return in_->pop(); }

 private:
  std::shared_ptr<Pipe> out_, in_;
};

/// A place whose work a thread of this process does.
class Elsewhere {
 public:
  explicit Elsewhere(const PreparedScenario& prepared)
      : elements_(prepared.data->schema.elements()),
        local_(*LocalPlace::make(prepared.data)),
        channel_(there_, back_),
        place_(std::make_shared<RemotePlace>(std::make_unique<End>(back_, there_), elements_)),
        thread_([this] { status_ = serve_work(channel_, *local_, elements_); }) {}
  ~Elsewhere() {
    place_.reset();
    thread_.join();
    EXPECT_TRUE(status_.ok()) << status_.describe();
  }
  const std::shared_ptr<WorkPlace>& place() const { return place_; }

 private:
  const size_t elements_;
  std::shared_ptr<Pipe> there_ = std::make_shared<Pipe>(), back_ = std::make_shared<Pipe>();
  std::unique_ptr<LocalPlace> local_;
  End channel_;
  std::shared_ptr<WorkPlace> place_;
  Status status_;
  std::thread thread_;
};

TEST(RemotePlace, GivesTheBitsOfALocalOne) {
  for (const char* up :
       {"float32", "ef | topk:0.2 | ternary | rice", "dgc:0.5 | topk:0.2", "rotate:1024 | eden:4",
        "ef | lowrank:1", "ef | dct:2 | randk-by-norm:0.3", "ef | components:1 | topk:0.2"}) {
    const PreparedScenario prepared =
        small_scenario({{"compression.up", up}, {"compression.down", "ef | topk:0.3 | ternary"}});
    const RunResult here = run(prepared, {.fleet = {.workers = 1}});
    const Elsewhere one(prepared), two(prepared);
    const RunResult there =
        run(prepared, {.fleet = {.workers = 1, .elsewhere = {one.place(), two.place()}}});
    EXPECT_EQ(hash_of(there), hash_of(here)) << up;
    EXPECT_EQ(there.summary["final"], here.summary["final"]);
  }
}

TEST(RemotePlace, AnErrorComesBackAsItWas) {
  const PreparedScenario prepared = small_scenario();
  const Elsewhere other(prepared);
  const std::vector<float> model(prepared.data->schema.elements());
  const Digest digest = sha256(std::span<const float>(model));
  TrainTask task{.plan = prepared.scenario.training, .client = 99};
  auto local = *LocalPlace::make(prepared.data);
  const auto there = other.place()->train(task, {model, digest}),
             here = local->train(task, {model, digest});
  ASSERT_FALSE(there);
  EXPECT_EQ(there.error().code(), here.error().code());
  EXPECT_EQ(there.error().message(), here.error().message());
  task.client = 1;
  EXPECT_TRUE(other.place()->train(task, {model, digest})) << "and it goes on";
}

TEST(RemotePlace, WhatCanNotBeReadEndsTheService) {
  const PreparedScenario prepared = small_scenario();
  auto place = *LocalPlace::make(prepared.data);
  Rng rng(3, Purpose::kTest);
  for (int i = 0; i < 2000; ++i) {
    auto there = std::make_shared<Pipe>(), back = std::make_shared<Pipe>();
    End asks(there, back), serves(back, there);
    Bytes message(1 + rng.below(120));
    for (std::byte& byte : message) byte = static_cast<std::byte>(rng.below(256));
    message[0] = static_cast<std::byte>(rng.below(7));
    ASSERT_TRUE(asks.send(message).ok());
    ASSERT_TRUE(asks.send(Bytes(1, std::byte{4})).ok());  // the end
    const Status status = serve_work(serves, *place, prepared.data->schema.elements());
    const bool is_end = message[0] == std::byte{4};
    EXPECT_TRUE(is_end ? status.ok() : status.ok() || status.code() == Code::kCorrupt)
        << status.describe();
  }
}

}  // namespace
}  // namespace tern
