/// One structured stream of what happens in a run. Progress bars, metrics.jsonl and logs are views
/// of it: a view is an EventSink and keeps what it needs.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tern {

using EventValue = std::variant<int64_t, double, std::string>;

struct Event {
  std::string_view name;  ///< snake_case, such as "update_counted"; docs/architecture.md lists them
  std::vector<std::pair<std::string_view, EventValue>> fields;

  bool has(std::string_view field) const {
    for (const auto& [key, value] : fields)
      if (key == field) return true;
    return false;
  }
  /// The number in `field`, 0 if there is none.
  double number(std::string_view field) const {
    for (const auto& [key, value] : fields) {
      if (key != field) continue;
      if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
      if (const auto* real = std::get_if<double>(&value)) return *real;
    }
    return 0;
  }
};

/// Threads: events come from the thread that owns the protocol state, one at a time.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void on(const Event& event) = 0;
};

/// Hands every event to several sinks, in order.
class EventFan : public EventSink {
 public:
  void add(EventSink& sink) { sinks_.push_back(&sink); }
  void on(const Event& event) override {
    for (EventSink* sink : sinks_) sink->on(event);
  }

 private:
  std::vector<EventSink*> sinks_;
};

}  // namespace tern
