#include "coordinator/views/report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "coordinator/views/progress.h"

namespace tern {

/// Chart.js, from the Debian file; CMake writes the source that defines it.
extern const char* const kChartJs;

namespace {

using nlohmann::json;

constexpr size_t kMaxPoints = 1000;
constexpr size_t kMaxTasks = 120;
constexpr std::string_view kNone = "&ndash;";

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string dump(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

/// JSON that can stand in a script block: no "<", so nothing in it can close the block.
std::string dump_for_script(const json& value) {
  std::string out;
  for (const char c : dump(value)) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

/// The value at a dotted path, or null.
const json& at(const json& object, std::string_view path) {
  static const json null;
  const json* here = &object;
  while (true) {
    const size_t dot = path.find('.');
    if (!here->is_object()) return null;
    const auto found = here->find(path.substr(0, dot));
    if (found == here->end()) return null;
    here = &*found;
    if (dot == std::string_view::npos) return *here;
    path.remove_prefix(dot + 1);
  }
}

/// A finite number at a dotted path.
std::optional<double> number(const json& object, std::string_view path) {
  const json& value = at(object, path);
  if (!value.is_number() || !std::isfinite(value.get<double>())) return std::nullopt;
  return value.get<double>();
}

std::string grouped(std::string digits) {
  const size_t first = digits.starts_with('-') ? 1 : 0;
  for (size_t i = digits.size(); i > first + 3;) digits.insert(i -= 3, 1, ',');
  return digits;
}

std::string count(double value) { return grouped(fmt::format("{:.0f}", value)); }

std::string duration(double seconds) {
  if (seconds < 120) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (seconds < 7200) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole / 60 % 60);
}

std::string fraction(std::optional<double> value) {
  return value ? fmt::format("{:.4f}", *value) : std::string(kNone);
}

/// A headline figure; `note` is HTML.
std::string tile(std::string_view label, const std::string& value, const std::string& note) {
  return fmt::format(
      "<div class=\"tile\"><div class=\"label\">{}</div><div class=\"value\">{}</div>"
      "<div class=\"note\">{}</div></div>\n",
      escape(label), value, note);
}

std::string traffic_tile(const json& summary, std::string_view label, std::string_view direction) {
  const auto bytes = number(summary, fmt::format("bytes.{}", direction));
  const auto dense = number(summary, fmt::format("bytes.dense_{}", direction));
  if (!bytes) return tile(label, std::string(kNone), "");
  std::string note;
  if (dense && *bytes > 0) {
    const double ratio = *dense / *bytes;
    note = fmt::format("{:.{}f}x less than float32 ({})", ratio, ratio < 9.95 ? 1 : 0,
                       human_bytes(*dense));
  }
  return tile(label, human_bytes(*bytes), note);
}

std::string headlines(const json& summary, const std::vector<json>& metrics) {
  double updates = 0;
  double refused = 0;
  size_t void_rounds = 0;
  for (const json& round : metrics) {
    updates += number(round, "updates").value_or(0);
    refused += number(round, "refused").value_or(0);
    const json& is_void = at(round, "void");
    if (is_void.is_boolean() ? is_void.get<bool>() : number(round, "void").value_or(0) > 0)
      ++void_rounds;
  }
  std::string out;
  const auto late = number(summary, "late.accuracy");
  out += tile("Accuracy, last 10 evaluations", fraction(late),
              number(summary, "final.accuracy")
                  ? fmt::format("at the end {:.4f}", *number(summary, "final.accuracy"))
                  : "");
  out +=
      tile("Best accuracy", fraction(number(summary, "best.accuracy")),
           number(summary, "best.round") ? "round " + count(*number(summary, "best.round")) : "");
  out += traffic_tile(summary, "Sent by clients", "up");
  out += traffic_tile(summary, "Sent to clients", "down");
  const auto rounds = number(summary, "rounds");
  std::string note = fmt::format("{} updates, {} refused", count(updates), count(refused));
  if (void_rounds > 0)
    note += fmt::format(", {} void round{}", void_rounds, void_rounds == 1 ? "" : "s");
  out += tile("Rounds", count(rounds.value_or(static_cast<double>(metrics.size()))), note);
  const auto wall = number(summary, "seconds.wall");
  const auto samples = number(summary, "samples_trained");
  out += tile("Wall time", wall ? duration(*wall) : std::string(kNone),
              samples ? count(*samples) + " examples trained" : "");
  if (at(summary, "target.reached").is_boolean()) {
    const bool reached = at(summary, "target.reached").get<bool>();
    const auto round = number(summary, "target.round");
    const auto up = number(summary, "target.bytes_up");
    std::string when;
    if (reached && up) when = "after " + human_bytes(*up) + " from clients";
    out += tile("Target", reached ? (round ? "round " + count(*round) : "reached") : "not reached",
                when);
  }
  return out;
}

std::string scalar(const json& value) {
  if (value.is_null()) return std::string(kNone);
  if (value.is_string()) return escape(value.get<std::string>());
  if (value.is_number_integer()) return grouped(value.dump());
  if (value.is_number_float()) {
    const double number = value.get<double>();
    if (!std::isfinite(number)) return std::string(kNone);
    return fmt::format("{:.6g}", number);
  }
  return escape(dump(value));
}

void summary_rows(const json& value, const std::string& path, std::string& out) {
  if (value.is_object() && !value.empty()) {
    for (const auto& [key, inner] : value.items())
      summary_rows(inner, path.empty() ? key : fmt::format("{}.{}", path, key), out);
    return;
  }
  const bool numeric = value.is_number();
  // A seed is a name, not an amount.
  const std::string shown = path == "seed" && numeric ? value.dump() : scalar(value);
  out += fmt::format("<tr><th scope=\"row\">{}</th><td{}>{}</td></tr>\n", escape(path),
                     numeric ? " class=\"number\"" : "", shown);
}

/// How often each chain was given, under rate control; else nothing.
std::string chains_card(const json& summary) {
  const json& chains = at(summary, "rate_control.chains");
  if (!chains.is_array() || chains.empty()) return {};
  double total = 0;
  for (const json& chain : chains) total += number(chain, "updates").value_or(0);
  std::string rows;
  for (const json& chain : chains) {
    const double updates = number(chain, "updates").value_or(0);
    rows += fmt::format(
        "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{:.1f} "
        "%</td></tr>\n",
        scalar(at(chain, "chain")), count(updates), total > 0 ? 100 * updates / total : 0.0);
  }
  return fmt::format(
      "<section class=\"card\"><h2>Updates asked for with each "
      "chain</h2><table><tbody>\n{}</tbody></table></section>\n",
      rows);
}

/// [[x, y], ...] of at most about kMaxPoints points: every k-th and the last.
json thinned(const std::vector<std::pair<double, double>>& points) {
  json out = json::array();
  const size_t step = (points.size() + kMaxPoints - 1) / kMaxPoints;
  for (size_t i = 0; i < points.size(); ++i)
    if (i % step == 0 || i + 1 == points.size())
      out.push_back(json::array({points[i].first, points[i].second}));
  return out;
}

/// [client, from, until, end] of the last rounds' tasks, as many as can be told apart.
json last_tasks(const std::vector<json>& metrics) {
  json tasks = json::array();
  for (auto row = metrics.rbegin(); row != metrics.rend() && tasks.size() < kMaxTasks; ++row)
    for (const json& task : at(*row, "tasks"))
      if (tasks.size() < kMaxTasks && task.is_array() && task.size() == 4) tasks.push_back(task);
  return tasks;
}

json chart_data(const std::vector<json>& metrics) {
  std::vector<std::pair<double, double>> accuracy;
  std::vector<std::pair<double, double>> timed;
  std::vector<std::pair<double, double>> loss;
  std::vector<std::pair<double, double>> train_loss;
  std::vector<std::pair<double, double>> up;
  std::vector<std::pair<double, double>> down;
  std::vector<std::pair<double, double>> stale;
  std::vector<std::pair<double, double>> stale_max;
  std::vector<std::pair<double, double>> waiting;
  double total_up = 0;
  double total_down = 0;
  for (size_t i = 0; i < metrics.size(); ++i) {
    const json& row = metrics[i];
    const double round = number(row, "round").value_or(static_cast<double>(i + 1));
    if (const auto y = number(row, "accuracy")) accuracy.emplace_back(round, *y);
    const auto seconds = number(row, "virtual_seconds");
    if (const auto y = number(row, "accuracy"); y && seconds) timed.emplace_back(*seconds, *y);
    if (const auto y = number(row, "loss")) loss.emplace_back(round, *y);
    if (const auto y = number(row, "train_loss")) train_loss.emplace_back(round, *y);
    if (const auto y = number(row, "waiting")) waiting.emplace_back(round, *y);
    if (const auto y = number(row, "staleness")) stale.emplace_back(round, *y);
    if (const auto y = number(row, "staleness_max")) stale_max.emplace_back(round, *y);
    up.emplace_back(round, total_up += number(row, "bytes_up").value_or(0));
    down.emplace_back(round, total_down += number(row, "bytes_down").value_or(0));
  }
  return {{"accuracy", thinned(accuracy)},
          {"timed", thinned(timed)},
          {"loss", thinned(loss)},
          {"train_loss", thinned(train_loss)},
          {"up", thinned(up)},
          {"down", thinned(down)},
          {"stale", thinned(stale)},
          {"stale_max", thinned(stale_max)},
          {"waiting", thinned(waiting)},
          {"tasks", last_tasks(metrics)}};
}

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1b2733; --soft: #5b6b7b;
  --line: #dde3ea; --first: #1f6fb8; --second: #c8590a; --third: #8a97a5; --fourth: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --page: #12171d; --card: #1b222b; --text: #e4eaf0; --soft: #9aa9b8;
  --line: #323d49; --first: #6cb4f5; --second: #ffa45c; --third: #71808f; --fourth: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.45;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 10px; }
.subtitle { color: var(--soft); margin: 0 0 20px; overflow-wrap: anywhere; }
.tiles, .columns { display: grid; gap: 12px; margin-bottom: 12px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(min(100%, 230px), 1fr)); }
.columns { grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; min-width: 0; }
.label, .note { color: var(--soft); font-size: 0.85rem; }
.value { font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.note:empty { display: none; }
.card { margin-bottom: 12px; }
.columns .card { margin-bottom: 0; }
.columns .wide { grid-column: 1 / -1; }
.columns.text { align-items: start; }
.plot { position: relative; height: 280px; }
.plot.tall { height: 420px; }
.none { color: var(--soft); }
pre { margin: 0; overflow-x: auto; font-size: 0.85rem; line-height: 1.5; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; font-weight: normal; padding: 5px 0; border-top: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); padding-right: 16px; white-space: nowrap; }
td { overflow-wrap: anywhere; }
td.number { font-variant-numeric: tabular-nums; }
tr:first-child > * { border-top: 0; }
@media (max-width: 640px) {
  main { padding: 16px 10px 32px; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px; }
  .tile { padding: 10px 12px; }
  .value { font-size: 1.2rem; }
  .plot { height: 230px; }
  tr { display: flex; flex-wrap: wrap; justify-content: space-between; border-top: 1px solid var(--line); }
  tr:first-child, th, td { border-top: 0; }
  td { min-width: 0; }
}
)css";

constexpr std::string_view kScript = R"js(
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const charts = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const bytes = (value) => {
    const units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let unit = 0;
    while (Math.abs(value) >= 1000 && unit + 1 < units.length) { value /= 1000; ++unit; }
    return Number(value.toPrecision(3)) + " " + units[unit];
  };
  const line = (label, points, tone, dash, width) => ({
    label, tone, data: points.map(([x, y]) => ({x, y})), borderDash: dash || [], borderWidth: width || 2,
    pointRadius: points.length < 2 ? 3 : 0, pointHitRadius: 8, tension: 0, fill: false});
  const round = {label: "round", title: (x) => "Round " + x, ticks: {precision: 0}};
  const time = {label: "seconds on the virtual clock", title: (x) => "After " + plain(x) + " s", ticks: {}};
  const draw = (id, across, lines, format, zero) => {
    const canvas = document.getElementById(id);
    if (!lines.some((l) => l.data.length)) {
      const none = document.createElement("p");
      none.className = "none";
      none.textContent = "Nothing was measured.";
      canvas.parentElement.replaceWith(none);
      return;
    }
    charts.push(new Chart(canvas, {
      type: "line",
      data: {datasets: lines},
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, interaction: {mode: "nearest", axis: "x", intersect: false},
        plugins: {
          legend: {display: lines.length > 1, align: "start", labels: {boxWidth: 24, boxHeight: 0}},
          tooltip: {callbacks: {title: (items) => across.title(items[0].parsed.x),
                                label: (item) => item.dataset.label + ": " + format(item.parsed.y)}}},
        scales: {
          x: {type: "linear", title: {display: true, text: across.label}, ticks: {...across.ticks, maxRotation: 0, maxTicksLimit: 8}},
          y: {beginAtZero: zero, ticks: {callback: format, maxTicksLimit: 7}}}}}));
  };
  // A bar from the plan to the end of each task; a row for each client.
  const timeline = (id, tasks) => {
    const rows = [...new Set(tasks.map((task) => task[0]))].sort((a, b) => a - b);
    const ends = [["counted", "--first"], ["late", "--second"], ["refused", "--fourth"], ["failed", "--third"]];
    const sets = ends.map(([end, tone]) => ({
      label: end, backgroundColor: () => colour(tone), grouped: false, barPercentage: 0.7, categoryPercentage: 1, minBarLength: 2,
      data: tasks.filter((task) => task[3] === end).map(([client, from, until]) => ({x: [from, until], y: String(client)}))}));
    charts.push(new Chart(document.getElementById(id), {
      type: "bar",
      data: {labels: rows.map(String), datasets: sets.filter((set) => set.data.length)},
      options: {
        indexAxis: "y", animation: false, responsive: true, maintainAspectRatio: false,
        plugins: {
          legend: {display: true, align: "start", labels: {boxWidth: 12, boxHeight: 12}},
          tooltip: {callbacks: {title: (items) => "Client " + items[0].label,
                                label: ({dataset, raw}) => dataset.label + " after " + plain(raw.x[1] - raw.x[0]) + " s, at " + plain(raw.x[1]) + " s"}}},
        scales: {
          x: {type: "linear", min: Math.min(...tasks.map((task) => task[1])), title: {display: true, text: time.label},
              ticks: {maxRotation: 0, maxTicksLimit: 8}},
          y: {type: "category", title: {display: true, text: "client"}, ticks: {autoSkip: true}}}}}));
  };
  const paint = () => {
    const text = colour("--soft"), grid = colour("--line");
    for (const chart of charts) {
      for (const set of chart.data.datasets) if (set.tone) set.borderColor = set.backgroundColor = colour(set.tone);
      for (const axis of Object.values(chart.options.scales)) {
        axis.ticks.color = text;
        axis.grid = {color: grid, borderColor: grid};
        if (axis.title) axis.title.color = text;
      }
      chart.options.plugins.legend.labels.color = text;
      chart.update("none");
    }
  };
  const plain = (value) => String(Number(Number(value).toPrecision(4)));
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  draw("accuracy", round, [line("test accuracy", data.accuracy, "--first")], plain, false);
  if (document.getElementById("timed")) draw("timed", time, [line("test accuracy", data.timed, "--first")], plain, false);
  if (document.getElementById("stale"))
    draw("stale", round, [line("mean", data.stale, "--first"), line("oldest", data.stale_max, "--second", [], 1)], plain, true);
  if (document.getElementById("waiting")) {
    draw("waiting", round, [line("mean of the counted clients", data.waiting, "--first")], plain, true);
    timeline("tasks", data.tasks);
  }
  draw("loss", round, [line("test", data.loss, "--first"), line("training", data.train_loss, "--second", [], 1)], plain, false);
  draw("bytes", round, [line("from clients", data.up, "--first"), line("to clients", data.down, "--second", [5, 4])], bytes, true);
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
})();
)js";

std::string text_or(const json& summary, std::string_view path, std::string_view otherwise) {
  const json& value = at(summary, path);
  return value.is_string() ? escape(value.get<std::string>()) : std::string(otherwise);
}

}  // namespace

std::string render_report(const json& summary, const std::vector<json>& metrics,
                          std::string_view config_toml) {
  const std::string model = text_or(summary, "model.name", "a model");
  std::string subtitle;
  const auto add = [&](const std::string& part) {
    if (!subtitle.empty()) subtitle += " &middot; ";
    subtitle += part;
  };
  if (const auto parameters = number(summary, "model.parameters"))
    add(count(*parameters) + " parameters");
  if (at(summary, "seed").is_number()) add("seed " + at(summary, "seed").dump());
  if (at(summary, "version").is_string()) add("Tern " + text_or(summary, "version", ""));
  if (at(summary, "config_sha256").is_string())
    add("configuration " + escape(at(summary, "config_sha256").get<std::string>().substr(0, 12)));

  std::string rows;
  if (summary.is_object()) summary_rows(summary, "", rows);

  std::string page;
  page.reserve(std::size_t{1} << 18);
  page +=
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'\">\n";
  page += fmt::format("<title>Tern: {}</title>\n<style>{}</style>\n</head>\n<body>\n<main>\n",
                      model, kStyle);
  page += fmt::format("<h1>Federated training of {}</h1>\n<p class=\"subtitle\">{}</p>\n", model,
                      subtitle);
  page += fmt::format("<div class=\"tiles\">\n{}</div>\n", headlines(summary, metrics));
  const bool timed = number(summary, "virtual_seconds").has_value();
  page +=
      "<div class=\"columns\">\n"
      "<section class=\"card\"><h2>Test accuracy</h2><div class=\"plot\"><canvas id=\"accuracy\" "
      "role=\"img\" aria-label=\"Test accuracy by round\"></canvas></div></section>\n"
      "<section class=\"card\"><h2>Loss</h2><div class=\"plot\"><canvas id=\"loss\" role=\"img\" "
      "aria-label=\"Test and training loss by round\"></canvas></div></section>\n";
  if (timed)
    page +=
        "<section class=\"card wide\"><h2>Test accuracy over time</h2><div class=\"plot\"><canvas "
        "id=\"timed\" role=\"img\" aria-label=\"Test accuracy by virtual time\"></canvas></div>"
        "</section>\n";
  const bool some_were_late = std::ranges::any_of(
      metrics, [](const json& row) { return number(row, "staleness_max").value_or(0) > 0; });
  if (some_were_late)
    page +=
        "<section class=\"card wide\"><h2>Age of the updates, in versions</h2><div "
        "class=\"plot\"><canvas id=\"stale\" role=\"img\" aria-label=\"Staleness of the counted "
        "updates by round\"></canvas></div></section>\n";
  const auto has_tasks = [](const json& row) { return at(row, "tasks").is_array(); };
  if (std::ranges::any_of(metrics, has_tasks))
    page +=
        "<section class=\"card wide\"><h2>Seconds that counted clients waited for their round's "
        "end</h2><div class=\"plot\"><canvas id=\"waiting\" role=\"img\" aria-label=\"Mean waiting "
        "time by round\"></canvas></div></section>\n"
        "<section class=\"card wide\"><h2>The last tasks of the devices</h2><div class=\"plot "
        "tall\"><canvas id=\"tasks\" role=\"img\" aria-label=\"When each client was at its "
        "tasks\"></canvas></div></section>\n";
  page +=
      "<section class=\"card wide\"><h2>Bytes so far</h2><div class=\"plot\"><canvas id=\"bytes\" "
      "role=\"img\" aria-label=\"Cumulative bytes from and to clients by round\"></canvas></div>"
      "</section>\n</div>\n";
  page += chains_card(summary);
  page += fmt::format(
      "<div class=\"columns text\">\n<section "
      "class=\"card\"><h2>Configuration</h2><pre><code>{}</code></pre></section>\n"
      "<section "
      "class=\"card\"><h2>Summary</h2><table><tbody>\n{}</tbody></table></section>\n</div>\n</"
      "main>\n",
      escape(config_toml), rows);
  page += fmt::format("<script type=\"application/json\" id=\"data\">{}</script>\n",
                      dump_for_script(chart_data(metrics)));
  page += fmt::format("<script>{}</script>\n<script>{}</script>\n</body>\n</html>\n", kChartJs,
                      kScript);
  return page;
}

}  // namespace tern
