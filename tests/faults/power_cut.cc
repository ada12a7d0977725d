// What a power cut leaves of a folder. Loaded into a program by LD_PRELOAD, with
// TERN_POWER_CUT_ROOT naming the folder and TERN_POWER_CUT_IMAGE another one, it notes there what
// the program has asked the disk to keep, and nothing else:
//
//   IMAGE/INODE       a file as it was at its last fsync or fdatasync
//   IMAGE/INODE.dir   a folder's names at its last fsync: lines "inode name"
//   IMAGE/root        the inode of the folder itself
//
// tools/kill9 --power-cut kills the program and puts the folder together again from that. Notes are
// renamed into place, so that a kill leaves the one before or the one after. Stricter than a disk:
// a file system may keep more than it was asked to.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>

namespace {

template <typename F>
F next(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_NEXT, name));
}

struct Places {
  std::string root, image;
};
const Places& places() {
  static const Places found = [] {
    const char* root = std::getenv("TERN_POWER_CUT_ROOT");
    const char* image = std::getenv("TERN_POWER_CUT_IMAGE");
    return root != nullptr && image != nullptr ? Places{root, image} : Places{};
  }();
  return found;
}

bool inside(const std::string& path) {
  const std::string& root = places().root;
  return !root.empty() && path.starts_with(root) &&
         (path.size() == root.size() || path[root.size()] == '/');
}

std::string path_of(int fd) {
  char path[4096];
  const ssize_t length =
      ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), path, sizeof path);
  return length > 0 ? std::string(path, static_cast<size_t>(length)) : std::string();
}

std::mutex mutex;

/// A note that didn't come about would make the program look worse than it is: end at once.
void check(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "power_cut: %s: %s\n", what, std::strerror(errno));
  std::abort();
}

void write_note(const std::string& name, const std::string& content) {
  const std::string path = places().image + "/" + name;
  std::FILE* const file = std::fopen((path + ".new").c_str(), "wb");
  check(file != nullptr, "cannot write a note");
  check(std::fwrite(content.data(), 1, content.size(), file) == content.size() &&
            std::fclose(file) == 0 && std::rename((path + ".new").c_str(), path.c_str()) == 0,
        "cannot write a note");
}

void note(int fd) {
  const std::string path = path_of(fd);
  if (!inside(path)) return;
  const std::lock_guard lock(mutex);
  struct stat about {};
  check(::fstat(fd, &about) == 0, "fstat");
  const std::string inode = std::to_string(about.st_ino);
  std::string content;
  if (S_ISDIR(about.st_mode)) {
    if (path == places().root) write_note("root", inode);
    DIR* const folder = ::opendir(path.c_str());
    check(folder != nullptr, "opendir");
    while (const dirent* entry = ::readdir(folder))
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0)
        content += std::to_string(entry->d_ino) + " " + entry->d_name + "\n";
    ::closedir(folder);
    return write_note(inode + ".dir", content);
  }
  if (!S_ISREG(about.st_mode)) return;
  content.resize(static_cast<size_t>(about.st_size));
  const int reader = next<int (*)(const char*, int, ...)>("open")(path.c_str(), O_RDONLY);
  check(reader >= 0, "open");
  size_t at = 0;
  while (at < content.size()) {
    const ssize_t got =
        ::pread(reader, content.data() + at, content.size() - at, static_cast<off_t>(at));
    if (got <= 0) break;
    at += static_cast<size_t>(got);
  }
  ::close(reader);
  content.resize(at);
  write_note(inode, content);
}

/// A file that is new gets an inode that another one may have had.
int opened(int fd, int flags, bool was_there) {
  if (fd >= 0 && (flags & O_CREAT) != 0 && !was_there && inside(path_of(fd))) {
    struct stat about {};
    if (::fstat(fd, &about) == 0)
      ::unlink((places().image + "/" + std::to_string(about.st_ino)).c_str());
  }
  return fd;
}

template <typename Open>
int open_as(const char* name, const char* path, int flags, mode_t mode) {
  const bool was_there = ::access(path, F_OK) == 0;
  return opened(next<Open>(name)(path, flags, mode), flags, was_there);
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as<int (*)(const char*, int, ...)>("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_of(flags, arguments);
  va_end(arguments);
  return open_as<int (*)(const char*, int, ...)>("open64", path, flags, mode);
}

int fsync(int fd) {
  const int result = next<int (*)(int)>("fsync")(fd);
  if (result == 0) note(fd);
  return result;
}

int fdatasync(int fd) {
  const int result = next<int (*)(int)>("fdatasync")(fd);
  if (result == 0) note(fd);
  return result;
}
}
