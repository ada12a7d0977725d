#include "base/npy.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "base/bytes.h"
#include "base/parameter_schema.h"

namespace tern {
namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";
constexpr std::string_view kFloat32 = "<f4";
constexpr size_t kAlignment = 64;

/// Text from a file as it may stand in a message: short, printable ASCII.
std::string shown_text(std::string_view text) {
  constexpr size_t kMost = 60;
  std::string result;
  for (const char c : text.substr(0, kMost)) result += c >= 0x20 && c < 0x7F ? c : '?';
  return text.size() > kMost ? result + "..." : result;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r' && c != '\v'); }

std::string print_shape(std::span<const int64_t> shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

/// The product of the dimensions. Zeros are left out of the bound: (2^39, 2^39, 0) has no elements,
/// yet its strides would overflow.
Result<size_t> count_elements(Code code, std::span<const int64_t> shape) {
  uint64_t product = 1;
  bool empty = false;
  for (const int64_t size : shape) {
    if (size < 0) return error(code, "the shape {} has a negative dimension", print_shape(shape));
    if (size == 0)
      empty = true;
    else if (static_cast<uint64_t>(size) > kMaxElements / product)
      return error(code, "the shape {} has more than 2^40 elements", print_shape(shape));
    else
      product *= static_cast<uint64_t>(size);
  }
  return empty ? 0 : product;
}

/// Reads the header's dictionary. Only what NumPy itself writes, with any spacing, quotes and order
/// of keys: no escapes, no expressions, nothing nested but the shape.
class DictionaryReader {
 public:
  explicit DictionaryReader(std::string_view text) : text_(text) {}

  /// Errors: kCorrupt, kUnsupported.
  Status read(std::vector<int64_t>& shape) {
    bool type_seen = false, order_seen = false, shape_seen = false;
    TERN_CHECK_OK(expect('{'));
    while (!take('}')) {
      TERN_TRY(const std::string_view key, string());
      TERN_CHECK_OK(expect(':'));
      if (key == "descr" && !std::exchange(type_seen, true)) {
        TERN_CHECK_OK(type());
      } else if (key == "fortran_order" && !std::exchange(order_seen, true)) {
        TERN_CHECK_OK(order());
      } else if (key == "shape" && !std::exchange(shape_seen, true)) {
        TERN_CHECK_OK(dimensions(shape));
      } else {
        return error(Code::kCorrupt, "the header has an unknown or repeated key '{}'",
                     shown_text(key));
      }
      if (take(',')) continue;
      TERN_CHECK_OK(expect('}'));
      break;
    }
    skip_space();
    if (at_ != text_.size()) return unexpected("nothing after the dictionary");
    if (!type_seen || !order_seen || !shape_seen)
      return error(Code::kCorrupt, "the header lacks '{}'",
                   !type_seen    ? "descr"
                   : !order_seen ? "fortran_order"
                                 : "shape");
    return {};
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Status unexpected(std::string_view expected) const {
    const std::string_view rest = text_.substr(at_);
    return error(Code::kCorrupt, "the header is malformed at its byte {}: expected {}, found {}",
                 at_, expected, rest.empty() ? "its end" : "'" + shown_text(rest) + "'");
  }
  Status expect(char c) {
    if (take(c)) return {};
    const char expected[] = {'\'', c, '\''};
    return unexpected({expected, sizeof expected});
  }

  Result<std::string_view> string() {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') return unexpected("a string");
    const size_t end =
        text_.find_first_of(std::string_view(quote == '"' ? "\"\\\n" : "'\\\n"), at_ + 1);
    if (end == std::string_view::npos || text_[end] != quote)
      return unexpected("a string that ends and has no escapes");
    const std::string_view inside = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inside;
  }

  Status type() {
    skip_space();
    const std::string_view rest = text_.substr(at_);
    if (rest.starts_with('[') || rest.starts_with('('))
      return error(Code::kUnsupported,
                   "the elements are structures, {}; expected '<f4' (float32, little-endian)",
                   shown_text(rest));
    TERN_TRY(const std::string_view found, string());
    if (found != kFloat32)
      return error(Code::kUnsupported,
                   "the elements are of type '{}'; expected '<f4' (float32, little-endian)",
                   shown_text(found));
    return {};
  }

  Status order() {
    skip_space();
    const std::string_view rest = text_.substr(at_);
    const std::string_view word =
        rest.substr(0, std::min(rest.find_first_of(" \t\n\r\f,}"), rest.size()));
    if (word == "True")
      return error(
          Code::kUnsupported,
          "fortran_order is True; expected False (C order: the last index varies fastest)");
    if (word != "False") return unexpected("True or False");
    at_ += word.size();
    return {};
  }

  Status dimensions(std::vector<int64_t>& shape) {
    TERN_CHECK_OK(expect('('));
    bool comma = true;
    while (!take(')')) {
      if (!comma) return unexpected("',' or ')'");
      if (shape.size() == kMaxRank)
        return error(Code::kCorrupt, "the shape has more than {} dimensions", kMaxRank);
      TERN_CHECK_OK(dimension(shape));
      comma = take(',');
    }
    // In Python (3) is a number; only (3,) is a shape.
    if (shape.size() == 1 && !comma) return unexpected("a shape of one dimension as '(N,)'");
    return {};
  }

  Status dimension(std::vector<int64_t>& shape) {
    skip_space();
    const size_t begin = at_;
    uint64_t value = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      value = value * 10 + static_cast<uint64_t>(text_[at_++] - '0');
      if (value > kMaxElements)
        return error(Code::kCorrupt, "dimension {} of the shape is above 2^40", shape.size());
    }
    const bool leading_zero = at_ > begin + 1 && text_[begin] == '0';
    if (at_ == begin || leading_zero) {
      at_ = begin;
      return unexpected("a number without sign, from 0 to 2^40");
    }
    shape.push_back(static_cast<int64_t>(value));
    return {};
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::vector<float> NpyArray::values() const {
  std::vector<float> values(elements);
  if (elements > 0) std::memcpy(values.data(), data.data(), data.size());
  return values;
}

Result<NpyArray> parse_npy(std::span<const std::byte> file) {
  ByteReader reader(file);
  const auto magic = reader.take_bytes(kNpyMagic.size());
  const auto major = reader.take<uint8_t>(), minor = reader.take<uint8_t>();
  if (!reader.ok() || std::memcmp(magic.data(), kNpyMagic.data(), kNpyMagic.size()) != 0)
    return error(Code::kCorrupt,
                 "not a .npy file: expected '\\x93NUMPY' and a version at its start");
  if (major < 1 || major > 3 || minor != 0)
    return error(Code::kUnsupported, ".npy format {}.{}; expected 1.0, 2.0 or 3.0", major, minor);
  const size_t header_bytes = major == 1 ? reader.take<uint16_t>() : reader.take<uint32_t>();
  if (!reader.ok() || header_bytes > reader.left())
    return error(Code::kCorrupt, "a header of {} bytes is cut off in a file of {}", header_bytes,
                 file.size());
  const auto header = reader.take_bytes(header_bytes);
  NpyArray array;
  array.data = reader.take_bytes(reader.left());
  TERN_CHECK_OK(DictionaryReader({reinterpret_cast<const char*>(header.data()), header.size()})
                    .read(array.shape));
  TERN_TRY(array.elements, count_elements(Code::kCorrupt, array.shape));
  if (array.data.size() != array.elements * sizeof(float))
    return error(Code::kCorrupt, "the shape {} needs {} bytes of data, the file has {}",
                 print_shape(array.shape), array.elements * sizeof(float), array.data.size());
  return array;
}

Result<std::vector<std::byte>> to_npy(std::span<const int64_t> shape,
                                      std::span<const float> values) {
  if (shape.size() > kMaxRank)
    return error(Code::kInvalidArgument, "a shape of {} dimensions; at most {} are written",
                 shape.size(), kMaxRank);
  TERN_TRY(const size_t elements, count_elements(Code::kInvalidArgument, shape));
  if (elements != values.size())
    return error(Code::kInvalidArgument, "the shape {} has {} elements, there are {} values",
                 print_shape(shape), elements, values.size());
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}",
                                   kFloat32, print_shape(shape));
  const size_t prefix = kNpyMagic.size() + 4;
  header.append((kAlignment - (prefix + header.size() + 1) % kAlignment) % kAlignment, ' ');
  header += '\n';

  std::vector<std::byte> file(prefix + header.size() + values.size_bytes());
  std::memcpy(file.data(), kNpyMagic.data(), kNpyMagic.size());
  store(file.data() + kNpyMagic.size(), uint8_t{1});
  store(file.data() + kNpyMagic.size() + 1, uint8_t{0});
  store(file.data() + kNpyMagic.size() + 2, static_cast<uint16_t>(header.size()));
  std::memcpy(file.data() + prefix, header.data(), header.size());
  if (!values.empty())
    std::memcpy(file.data() + prefix + header.size(), values.data(), values.size_bytes());
  return file;
}

}  // namespace tern
