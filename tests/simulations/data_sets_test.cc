#include "simulations/data_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/learning/temp_file.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string unpacked(const std::string& folder, const std::string& inner) {
  fs::create_directories(folder + "/unpacked/" + inner);
  return folder + "/unpacked";
}

TEST(DataSets, EachPresidentBecomesAFolder) {
  const std::string folder = test_folder(), archive = unpacked(folder, "package/data");
  for (const char* name : {"1790_george_washington_n.txt", "1790_george_washington_n.json",
                           "1801_thomas_jefferson_dr.txt", "1802_thomas_jefferson_dr.txt",
                           "1802_thomas_jefferson_x.txt", "README.txt"})
    write_test_file(archive, std::string("package/data/") + name, name);
  const DataSet& sotu = **find_data_set("sotu");
  const std::string into = folder + "/sotu";
  ASSERT_TRUE(arrange(sotu, archive, into).ok());
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(into))
    if (entry.is_regular_file()) found.push_back(fs::relative(entry.path(), into).string());
  EXPECT_THAT(found, testing::UnorderedElementsAre(
                         "george_washington/1790_n.txt", "thomas_jefferson/1801_dr.txt",
                         "thomas_jefferson/1802_dr.txt", "thomas_jefferson/1802_x.txt"));
  EXPECT_EQ(arrange(sotu, archive, into).code(), Code::kInUse);
  EXPECT_FALSE(fs::exists(into + ".part"));
}

TEST(DataSets, AnotherArchiveIsRefusedAndNothingIsLeft) {
  const std::string folder = test_folder();
  const DataSet& sotu = **find_data_set("sotu");
  const std::string file = write_test_file(folder, "sotu.tgz", "something else");
  const Status checked = check_archive(sotu, file);
  EXPECT_EQ(checked.code(), Code::kCorrupt);
  EXPECT_THAT(checked.describe(), HasSubstr("isn't the archive of sotu"));
  const std::string archive = unpacked(folder, "package/data");
  EXPECT_THAT(arrange(sotu, archive, folder + "/sotu").describe(), HasSubstr("has no texts named"));
  EXPECT_FALSE(fs::exists(folder + "/sotu"));
  fs::create_directories(archive + "/another");
  EXPECT_EQ(arrange(sotu, archive, folder + "/sotu").code(), Code::kCorrupt);
}

TEST(DataSets, AreKnownByName) {
  for (const DataSet& set : data_sets()) {
    EXPECT_EQ(*find_data_set(set.name), &set);
    EXPECT_TRUE(set.url.starts_with("https://")) << set.name;
    EXPECT_EQ(set.sha256.size(), 64U) << set.name;
  }
  EXPECT_THAT(find_data_set("mnist").error().message(), HasSubstr("there are sotu, cifar-10"));
}

}  // namespace
}  // namespace tern
