#include "simulations/data_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/learning/temp_file.h"

namespace tern {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

ScratchFolder unpacked(const std::string& folder, const std::string& inner) {
  ScratchFolder scratch = ScratchFolder::make(folder + "/unpacked").value();
  fs::create_directories(scratch.path() + "/" + inner);
  return scratch;
}

TEST(DataSets, EachPresidentBecomesAFolder) {
  const std::string folder = test_folder(), into = folder + "/sotu";
  const DataSet& sotu = **find_data_set("sotu");
  {
    const ScratchFolder archive = unpacked(folder, "package/data");
    for (const char* name : {"1790_george_washington_n.txt", "1790_george_washington_n.json",
                             "1801_thomas_jefferson_dr.txt", "1802_thomas_jefferson_dr.txt",
                             "1802_thomas_jefferson_x.txt", "README.txt"})
      write_test_file(archive.path(), std::string("package/data/") + name, name);
    ASSERT_TRUE(arrange(sotu, archive, into).ok());
    EXPECT_EQ(arrange(sotu, archive, into).code(), Code::kInUse);
  }
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) found.push_back(fs::relative(entry.path(), folder).string());
  EXPECT_THAT(found, testing::UnorderedElementsAre(
                         "sotu/george_washington/1790_n.txt", "sotu/thomas_jefferson/1801_dr.txt",
                         "sotu/thomas_jefferson/1802_dr.txt", "sotu/thomas_jefferson/1802_x.txt"));
}

TEST(DataSets, OthersStayAsTheyAre) {
  const std::string folder = test_folder();
  const ScratchFolder archive = unpacked(folder, "cifar-10-batches-bin");
  write_test_file(archive.path(), "cifar-10-batches-bin/test_batch.bin", "x");
  ASSERT_TRUE(arrange(**find_data_set("cifar-10"), archive, folder + "/cifar").ok());
  EXPECT_TRUE(fs::exists(folder + "/cifar/test_batch.bin"));
}

TEST(DataSets, AnotherArchiveIsRefusedAndNothingIsLeft) {
  const std::string folder = test_folder();
  const DataSet& sotu = **find_data_set("sotu");
  const std::string file = write_test_file(folder, "sotu.tgz", "something else");
  const Status checked = check_archive(sotu, file);
  EXPECT_EQ(checked.code(), Code::kCorrupt);
  EXPECT_THAT(checked.describe(), HasSubstr("isn't the archive of sotu"));
  {
    const ScratchFolder archive = unpacked(folder, "package/data");
    EXPECT_THAT(arrange(sotu, archive, folder + "/sotu").describe(),
                HasSubstr("has no texts named"));
    fs::create_directories(archive.path() + "/another");
    EXPECT_EQ(arrange(sotu, archive, folder + "/sotu").code(), Code::kCorrupt);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1)
      << "more than sotu.tgz";
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
