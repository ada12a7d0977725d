#include "coordinator/sessions.h"

#include <algorithm>

namespace tern {

Session* Sessions::find(uint32_t number) {
  const auto found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : &found->second;
}

const Session* Sessions::find(uint32_t number) const {
  const auto found = by_number_.find(number);
  return found == by_number_.end() ? nullptr : &found->second;
}

Session* Sessions::find(uint32_t number, const Connection& from) {
  Session* session = find(number);
  return session != nullptr && session->connection == from ? session : nullptr;
}

std::optional<uint32_t> Sessions::number_of(const Connection& connection) const {
  for (const auto& [number, session] : by_number_)
    if (session.connection == connection) return number;
  return std::nullopt;
}

std::vector<uint32_t> Sessions::trainers() const {
  std::vector<uint32_t> numbers;
  for (const auto& [number, session] : by_number_)
    if (!session.evaluator && session.examples > 0) numbers.push_back(number);
  std::ranges::sort(numbers);
  return numbers;
}

uint32_t Sessions::largest_announced() const {
  constexpr uint64_t kMostTimesMedian = 64;
  std::vector<uint32_t> announced;
  for (const auto& [number, session] : by_number_)
    if (!session.evaluator && session.examples > 0) announced.push_back(session.examples);
  if (announced.empty()) return 1;
  std::ranges::sort(announced);
  const uint64_t most = kMostTimesMedian * announced[announced.size() / 2];
  return static_cast<uint32_t>(std::min<uint64_t>(announced.back(), most));
}

}  // namespace tern
