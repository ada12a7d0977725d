#include "compression/updates/rate_control.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <vector>

namespace tern {

namespace {

/// Least error first, then fewest bytes.
bool better(const Rung& a, const Rung& b, uint32_t cohort) {
  const double error_a = error_in_mean(a, cohort), error_b = error_in_mean(b, cohort);
  return error_a != error_b ? error_a < error_b : a.bytes < b.bytes;
}

/// The places of the rungs that the client can use.
std::vector<size_t> usable(std::span<const Rung> ladder, bool keeps_state) {
  std::vector<size_t> places;
  for (size_t i = 0; i < ladder.size(); ++i)
    if (keeps_state || !ladder[i].codec.error_feedback()) places.push_back(i);
  if (places.empty())
    for (size_t i = 0; i < ladder.size(); ++i) places.push_back(i);
  return places;
}

RateQuery query_of(const RateClient& client, const RoundQuery& round, double deadline) {
  return {.budget_bytes = client.bytes_per_second * deadline,
          .cohort = round.cohort,
          .keeps_state = client.keeps_state,
          .importance = client.importance,
          .worst_error = round.worst_error};
}

/// The lower convex hull of the rungs' bytes and errors, from the cheapest to the most accurate.
std::vector<size_t> hull_of(std::span<const Rung> ladder, bool keeps_state, uint32_t cohort) {
  std::vector<size_t> places = usable(ladder, keeps_state);
  const auto error = [&](size_t place) { return error_in_mean(ladder[place], cohort); };
  std::ranges::sort(places, [&](size_t a, size_t b) {
    if (ladder[a].bytes != ladder[b].bytes) return ladder[a].bytes < ladder[b].bytes;
    return error(a) != error(b) ? error(a) < error(b) : a < b;
  });
  std::vector<size_t> hull;
  for (const size_t place : places) {
    if (!hull.empty() && error(place) >= error(hull.back())) continue;
    const auto gain = [&](size_t from, size_t to) {
      return (error(from) - error(to)) / (ladder[to].bytes - ladder[from].bytes);
    };
    while (hull.size() > 1 && gain(hull.back(), place) >= gain(hull[hull.size() - 2], hull.back()))
      hull.pop_back();
    hull.push_back(place);
  }
  return hull;
}

}  // namespace

std::string_view name(RateReason reason) {
  switch (reason) {
    case RateReason::kMostAccurate:
      return "most_accurate";
    case RateReason::kFits:
      return "fits";
    case RateReason::kNoneFits:
      return "none_fits";
    case RateReason::kGuard:
      return "guard";
    case RateReason::kUnknownLink:
      return "unknown_link";
  }
  return "";
}

double error_in_mean(const Rung& rung, uint32_t cohort) {
  return rung.codec.error_feedback() ? rung.nmse : rung.nmse / std::max(cohort, 1u);
}

RateChoice choose_rung(std::span<const Rung> ladder, const RateQuery& query) {
  const std::vector<size_t> places = usable(ladder, query.keeps_state);
  const auto cheaper = [&](size_t a, size_t b) { return ladder[a].bytes < ladder[b].bytes; };
  const auto finer = [&](size_t a, size_t b) { return better(ladder[a], ladder[b], query.cohort); };
  const size_t finest = *std::ranges::min_element(places, finer);
  std::vector<size_t> fitting;
  for (const size_t place : places)
    if (ladder[place].bytes <= query.budget_bytes) fitting.push_back(place);
  RateChoice choice{*std::ranges::min_element(places, cheaper), RateReason::kNoneFits};
  if (!fitting.empty()) {
    choice.rung = *std::ranges::min_element(fitting, finer);
    const bool finest_fits = !finer(finest, choice.rung);
    choice.reason = finest_fits ? RateReason::kMostAccurate : RateReason::kFits;
  }
  const auto sound = [&](size_t place) {
    return query.importance * error_in_mean(ladder[place], query.cohort) <= query.worst_error;
  };
  if (sound(choice.rung) || choice.rung == finest) return choice;
  std::vector<size_t> sound_ones;
  std::ranges::copy_if(places, std::back_inserter(sound_ones), sound);
  const size_t guarded =
      sound_ones.empty() ? finest : *std::ranges::min_element(sound_ones, cheaper);
  return {guarded, RateReason::kGuard};
}

double slowest_seconds(std::span<const Rung> ladder, std::span<const RateClient> clients,
                       const RoundQuery& query) {
  double slowest = 0;
  for (const RateClient& client : clients) {
    const RateChoice choice = choose_rung(ladder, query_of(client, query, 0));
    slowest = std::max(slowest, ladder[choice.rung].bytes / client.bytes_per_second);
  }
  return slowest;
}

double shortest_deadline(std::span<const Rung> ladder, std::span<const RateClient> clients,
                         const RoundQuery& query, double mean_error) {
  // Choices change only where a rung begins to fit.
  const double least = slowest_seconds(ladder, clients, query);
  std::vector<double> deadlines{least};
  for (const RateClient& client : clients)
    for (const Rung& rung : ladder) {
      // Rounding must not keep out the rung that the deadline is made for.
      double seconds = rung.bytes / client.bytes_per_second;
      while (client.bytes_per_second * seconds < rung.bytes)
        seconds = std::nextafter(seconds, std::numeric_limits<double>::infinity());
      if (seconds > least) deadlines.push_back(seconds);
    }
  std::ranges::sort(deadlines);
  const auto too_short = [&](double deadline) {
    double errors = 0, weights = 0;
    for (const RateClient& client : clients) {
      const RateChoice choice = choose_rung(ladder, query_of(client, query, deadline));
      errors += client.importance * error_in_mean(ladder[choice.rung], query.cohort);
      weights += client.importance;
    }
    return errors > mean_error * weights;
  };
  // More time never means more error, so the ones that are too short come first.
  const auto found = std::partition_point(deadlines.begin(), deadlines.end(), too_short);
  return found == deadlines.end() ? deadlines.back() : *found;
}

std::vector<double> divide_bytes(std::span<const Rung> ladder, std::span<const RateClient> clients,
                                 const RoundQuery& query, double mean_bytes) {
  const std::vector<size_t> hulls[] = {hull_of(ladder, false, query.cohort),
                                       hull_of(ladder, true, query.cohort)};
  struct Step {
    double gain = 0;  // of weighted error, a byte
    size_t client = 0;
    double from = 0, to = 0;  // bytes
  };
  std::vector<Step> steps;
  std::vector<double> budgets;
  double left = mean_bytes * static_cast<double>(clients.size());
  for (const RateClient& client : clients) {
    const std::vector<size_t>& hull = hulls[client.keeps_state ? 1 : 0];
    for (size_t i = 1; i < hull.size(); ++i) {
      const Rung &from = ladder[hull[i - 1]], &to = ladder[hull[i]];
      const double less = error_in_mean(from, query.cohort) - error_in_mean(to, query.cohort);
      steps.push_back({.gain = client.importance * (less / (to.bytes - from.bytes)),
                       .client = budgets.size(),
                       .from = from.bytes,
                       .to = to.bytes});
    }
    budgets.push_back(ladder[hull[0]].bytes);
    left -= budgets.back();
  }
  if (left < 0) return std::vector<double>(clients.size(), mean_bytes);
  // On a hull gains fall from step to step, so a client's steps stay in order.
  std::ranges::sort(steps, [](const Step& a, const Step& b) {
    if (a.gain != b.gain) return a.gain > b.gain;
    return a.client != b.client ? a.client < b.client : a.from < b.from;
  });
  for (const Step& step : steps) {
    const bool waits = budgets[step.client] != step.from;  // for one that didn't fit
    if (waits || step.to - step.from > left) continue;
    budgets[step.client] = step.to;
    left -= step.to - step.from;
  }
  return budgets;
}

}  // namespace tern
