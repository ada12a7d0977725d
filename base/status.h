/// Errors as values. A function that can fail returns `Status` or `Result<T>`; exceptions of
/// outside libraries are caught in the folder that wraps them. A Status is for what went wrong; an
/// expected outcome is a value of its own.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace tern {

/// Numbers are pinned: they cross the wire and are never reused.
enum class Code : uint8_t {
  kOk = 0,
  kInvalidArgument = 1,  ///< the caller or the user asked for something impossible
  kCorrupt = 2,          ///< bytes that are not what they claim to be
  kUnsupported = 3,      ///< well-formed, but of another version or kind
  kNotFound = 4,
  kInUse = 5,       ///< a folder, file or port that somebody else holds
  kOutOfRange = 6,  ///< a value beyond a limit of the plan, such as the norm bound
  kIo = 7,
  kNoSpace = 8,
  kCancelled = 9,
  kInternal = 10,  ///< a fault of Tern itself
};

/// The code's stable name, such as "corrupt".
const char* name(Code code);

/// Where in a user's input an error lies; empty or zero where it does not apply.
struct Where {
  std::string file;
  int line = 0;
  std::string key;
};

class [[nodiscard]] Status {
 public:
  Status() = default;  ///< ok
  Status(Code code, std::string message, Where where = {})
      : code_(code), message_(std::move(message)), where_(std::move(where)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const Where& where() const { return where_; }

  /// The same error with `context` put before its message: "context: message".
  Status within(std::string_view context) &&;
  Status at(Where where) && {
    where_ = std::move(where);
    return std::move(*this);
  }
  /// One paragraph for a person: "file:line: key: message".
  std::string describe() const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
  Where where_;
};

template <typename... Args>
Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

/// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Status> {
 public:
  using tl::expected<T, Status>::expected;
  Result(Status status) : tl::expected<T, Status>(tl::unexpect, std::move(status)) {}
};

}  // namespace tern

#define TERN_CONCAT_INNER(a, b) a##b
#define TERN_CONCAT(a, b) TERN_CONCAT_INNER(a, b)

/// TERN_TRY(auto x, f()): x becomes the value of the Result that f() gives, or the function returns
/// its Status.
#define TERN_TRY(declaration, ...)                                                 \
  auto TERN_CONCAT(tern_result_, __LINE__) = (__VA_ARGS__);                        \
  if (!TERN_CONCAT(tern_result_, __LINE__))                                        \
    return ::tern::Status(std::move(TERN_CONCAT(tern_result_, __LINE__)).error()); \
  declaration = std::move(*TERN_CONCAT(tern_result_, __LINE__))

/// TERN_CHECK_OK(f()): the function returns the Status of f() unless it is ok.
#define TERN_CHECK_OK(...)                                                                 \
  do {                                                                                     \
    if (::tern::Status tern_status = (__VA_ARGS__); !tern_status.ok()) return tern_status; \
  } while (false)
