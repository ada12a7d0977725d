// Traces of devices: what their files may say, and that a wrong one is refused by its line.
#include "simulations/device_traces.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/simulations/small_scenario.h"

namespace tern {
namespace {

std::string file_of(const std::string& text) { return file_in("traces", "trace.csv", text); }

Result<DeviceTraces> devices_of(const std::string& text) {
  return read_device_traces({.devices = file_of(text)});
}
Result<DeviceTraces> windows_of(const std::string& text) {
  return read_device_traces({.availability = file_of(text)});
}

TEST(DeviceTraces, ReadsFedScalesFields) {
  const auto traces =
      devices_of("client,computation,communication\n432802,162,5648.109619499134\n");
  ASSERT_TRUE(traces) << traces.error().describe();
  ASSERT_EQ(traces->devices.size(), 1u);
  EXPECT_DOUBLE_EQ(traces->devices[0].samples, 1000 / (3 * 162.0));
  EXPECT_DOUBLE_EQ(traces->devices[0].up_bytes, 5648.109619499134 * 125);
  EXPECT_EQ(traces->devices[0].down_bytes, traces->devices[0].up_bytes);
  const auto windows = windows_of(
      "client,duration,active,inactive,finish_time,model\na,1,0,10,100,x\nb,1,5,50,100,y\n"
      "a,1,20,30,100,x\n");
  ASSERT_TRUE(windows) << windows.error().describe();
  ASSERT_EQ(windows->availabilities.size(), 2u);
  EXPECT_EQ(windows->availabilities[0].windows.size(), 2u);
  EXPECT_EQ(windows->availabilities[0].period, 100);
}

TEST(DeviceTraces, ReadsRatesOfASecond) {
  const auto traces = devices_of("samples_per_s,uplink_bytes_per_s\n50,1e4\n\"60\",2e4\n");
  ASSERT_TRUE(traces) << traces.error().describe();
  EXPECT_EQ(traces->devices[1].samples, 60);
  EXPECT_EQ(traces->devices[1].up_bytes, 2e4);
  EXPECT_EQ(traces->devices[1].down_bytes, 0) << "takes no time";
}

TEST(DeviceTraces, RefusesWhatIsWrongByItsLine) {
  struct Wrong {
    bool windows;
    const char *text, *expected;
  };
  const Wrong all[] = {
      {false, "", "trace.csv:1: the file is empty"},
      {false, "samples_per_s\n", "trace.csv:1: there is no row below the names"},
      {false, "speed\n3\n", "trace.csv:1: none of the columns samples_per_s"},
      {false, "samples_per_s,samples_per_s\n1,1\n", "trace.csv:1: column 'samples_per_s' is there"},
      {false, "samples_per_s,computation\n1,1\n", "trace.csv:1: samples_per_s and computation say"},
      {false, "uplink_bytes_per_s,communication\n1,1\n", "trace.csv:1: communication says what"},
      {false, "samples_per_s\n5\n0\n", "trace.csv:3: samples_per_s must be a number from 1 to"},
      {false, "samples_per_s\nnan\n", "trace.csv:2: samples_per_s must be a number"},
      {false, "samples_per_s\n5,6\n", "trace.csv:2: 2 cells, the first line has 1"},
      {false, "computation\n1e-9\n", "trace.csv:2: computation must be a number from"},
      {true, "client,active,inactive\na,0,1\n", "trace.csv:1: there is no column 'finish_time'"},
      {true, "client,active,inactive,finish_time\na,5,3,9\n",
       "trace.csv:2: inactive must be a number from 5 to 9, not '3'"},
      {true, "client,active,inactive,finish_time\na,5,12,9\n",
       "trace.csv:2: inactive must be a number from 5 to 9, not '12'"},
      {true, "client,active,inactive,finish_time\na,1,5,9\na,4,6,9\n",
       "trace.csv:3: active at 4, but an earlier row of client 'a' ends at 5"},
      {true, "client,active,inactive,finish_time\na,1,5,9\na,6,7,8\n",
       "trace.csv:3: finish_time is 8, but 9 in an earlier row of client 'a'"},
  };
  for (const Wrong& wrong : all) {
    const auto traces = wrong.windows ? windows_of(wrong.text) : devices_of(wrong.text);
    ASSERT_FALSE(traces) << wrong.text;
    EXPECT_NE(traces.error().describe().find(wrong.expected), std::string::npos)
        << traces.error().describe();
  }
  const auto missing = read_device_traces({.devices = "/nowhere/trace.csv"});
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().describe().find("/nowhere/trace.csv"), std::string::npos);
}

TEST(Availability, SaysHowLongADeviceStays) {
  const Availability two{.period = 100, .windows = {{0, 10}, {40, 100}}};
  EXPECT_EQ(two.stays(0), 10);
  EXPECT_EQ(two.stays(9.5), 0.5);
  EXPECT_EQ(two.stays(10), 0);
  EXPECT_EQ(two.stays(39), 0);
  EXPECT_EQ(two.stays(40), 70) << "over the end of the period";
  EXPECT_EQ(two.stays(395), 15);
  EXPECT_EQ(two.stays(410), 0);
  const Availability always{.period = 50, .windows = {{0, 50}}};
  EXPECT_EQ(always.stays(123), std::numeric_limits<double>::infinity());
  EXPECT_EQ((Availability{.period = 50, .windows = {}}).stays(7), 0);
}

TEST(Availability, SaysWhenADeviceComes) {
  const Availability two{.period = 100, .windows = {{0, 10}, {40, 100}}};
  EXPECT_EQ(two.comes(0), 40) << "later than now";
  EXPECT_EQ(two.comes(39.5), 0.5);
  EXPECT_EQ(two.comes(240), 60);
  EXPECT_EQ((Availability{.period = 50, .windows = {}}).comes(7),
            std::numeric_limits<double>::infinity());
}

TEST(Availability, CountsTheMostThatAreThereAtOnce) {
  DeviceTraces traces;
  EXPECT_EQ(most_at_once(traces, 7), 7u) << "without windows";
  traces.availabilities = {{.period = 10, .windows = {{0, 5}}},
                           {.period = 10, .windows = {{5, 9}}}};
  EXPECT_EQ(most_at_once(traces, 2), 1u) << "one goes as the other comes";
  EXPECT_EQ(most_at_once(traces, 5), 3u) << "each trace is of every second client";
  traces.availabilities.push_back({.period = 11, .windows = {}});
  EXPECT_EQ(most_at_once(traces, 3), 2u) << "who is never there isn't counted";
}

}  // namespace
}  // namespace tern
