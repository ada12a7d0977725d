#include "base/status.h"

namespace tern {

const char* name(Code code) {
  switch (code) {
    case Code::kOk:
      return "ok";
    case Code::kInvalidArgument:
      return "invalid_argument";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kNotFound:
      return "not_found";
    case Code::kInUse:
      return "in_use";
    case Code::kOutOfRange:
      return "out_of_range";
    case Code::kIo:
      return "io";
    case Code::kNoSpace:
      return "no_space";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInternal:
      return "internal";
  }
  return "unknown";
}

Status Status::within(std::string_view context) && {
  message_ = fmt::format("{}: {}", context, message_);
  return std::move(*this);
}

std::string Status::describe() const {
  std::string text;
  if (!where_.file.empty()) text = where_.file;
  if (where_.line > 0) text += fmt::format(":{}", where_.line);
  if (!text.empty()) text += ": ";
  if (!where_.key.empty()) text += where_.key + ": ";
  return text + message_;
}

}  // namespace tern
