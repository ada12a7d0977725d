#include "base/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <iterator>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace tern {
namespace {

static_assert(std::endian::native == std::endian::little,
              "parameters are copied as they lie in memory, which has to be little-endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kLengthBytes = 8;

/// A name from a file as it may stand in a message: short, and without control characters.
std::string shown_name(std::string_view text) {
  std::string result;
  for (char c : text.substr(0, 64))
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return text.size() > 64 ? result + "..." : result;
}

/// Walks the header with every white space outside of strings as a blank. To say where a header is
/// no JSON, the parser keeps what it read since the last token and spells each control character of
/// it, several times over: 100 MB of newlines would take gigabytes. In a string they end the parse.
class HeaderText {
 public:
  // NOLINTBEGIN(readability-identifier-naming): std::iterator_traits names them.
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = char;
  // NOLINTEND(readability-identifier-naming)

  explicit HeaderText(const char* at) : at_(at) {}
  char operator*() const {
    return !in_string_ && (*at_ == '\n' || *at_ == '\r' || *at_ == '\t') ? ' ' : *at_;
  }
  HeaderText& operator++() {
    if (*at_ == '"' && !escaped_) in_string_ = !in_string_;
    escaped_ = in_string_ && *at_ == '\\' && !escaped_;
    ++at_;
    return *this;
  }
  friend bool operator==(const HeaderText& a, const HeaderText& b) { return a.at_ == b.at_; }

 private:
  const char* at_;
  bool in_string_ = false;
  bool escaped_ = false;
};

/// What the header says of one tensor.
struct Entry {
  bool seen = false;
  uint64_t begin = 0;
  uint64_t end = 0;
};

/// Reads the header as events and stops at the first thing that doesn't belong. Against a schema it
/// keeps one entry for each tensor of the schema, so hostile nesting or millions of names cost
/// nothing; without one it keeps the tensors of the header.
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader() = default;
  explicit HeaderReader(const ParameterSchema& schema)
      : schema_(&schema), entries_(schema.tensors().size()) {
    for (size_t i = 0; i < schema.tensors().size(); ++i) index_[schema.tensors()[i].name] = i;
  }

  const std::vector<Entry>& entries() const { return entries_; }
  std::vector<TensorSpec>& own_tensors() { return own_; }  ///< without a schema; as in the header
  Status take_failure() { return std::move(failure_); }

  bool start_object(size_t) override {
    if (state_ == State::kStart) return go(State::kTop);
    if (state_ == State::kTensorValue) return go(State::kTensor);
    if (state_ == State::kMetadataValue) return go(State::kMetadata);
    return misplaced("an object");
  }

  bool key(string_t& name) override {
    if (state_ == State::kTop) {
      if (name == "__metadata__") {
        if (std::exchange(metadata_seen_, true)) return corrupt("'__metadata__' occurs twice");
        return go(State::kMetadataValue);
      }
      if (schema_ == nullptr ? !add(name) : !find(name)) return false;
      type_seen_ = shape_seen_ = offsets_seen_ = false;
      return go(State::kTensorValue);
    }
    if (state_ == State::kMetadata) return go(State::kMetadataText);
    if (name == "dtype" && !std::exchange(type_seen_, true)) return go(State::kType);
    numbers_.clear();
    if (name == "shape" && !std::exchange(shape_seen_, true)) return go(State::kShapeValue);
    if (name == "data_offsets" && !std::exchange(offsets_seen_, true))
      return go(State::kOffsetsValue);
    return corrupt(fmt::format("tensor '{}' has an unknown or repeated field '{}'",
                               shown_name(current().name), shown_name(name)));
  }

  bool end_object() override {
    if (state_ == State::kTop) return go(State::kEnd);
    if (state_ == State::kMetadata) return go(State::kTop);
    if (!type_seen_ || !shape_seen_ || !offsets_seen_)
      return corrupt(fmt::format("tensor '{}' lacks dtype, shape or data_offsets",
                                 shown_name(current().name)));
    return go(State::kTop);
  }

  bool start_array(size_t) override {
    if (state_ == State::kShapeValue) return go(State::kShape);
    if (state_ == State::kOffsetsValue) return go(State::kOffsets);
    return misplaced("an array");
  }

  bool end_array() override {
    if (state_ == State::kShape) {
      if (schema_ == nullptr) return take_shape() && go(State::kTensor);
      const std::vector<int64_t>& wanted = current().shape;
      if (!std::equal(numbers_.begin(), numbers_.end(), wanted.begin(), wanted.end(),
                      [](uint64_t a, int64_t b) { return a == static_cast<uint64_t>(b); }))
        return fail(error(
            Code::kInvalidArgument, "tensor '{}' has the shape [{}] in the file, [{}] in the model",
            shown_name(current().name), fmt::join(numbers_, ", "), fmt::join(wanted, ", ")));
      return go(State::kTensor);
    }
    if (numbers_.size() != 2)
      return corrupt(fmt::format("data_offsets of tensor '{}' has {} numbers instead of 2",
                                 shown_name(current().name), numbers_.size()));
    entries_[current_].begin = numbers_[0];
    entries_[current_].end = numbers_[1];
    return go(State::kTensor);
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (state_ != State::kShape && state_ != State::kOffsets) return misplaced("a number");
    if (numbers_.size() == kMaxRank)
      return corrupt(fmt::format("tensor '{}' has more than {} numbers in a list",
                                 shown_name(current().name), kMaxRank));
    numbers_.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (state_ == State::kMetadataText) return go(State::kMetadata);
    if (state_ != State::kType) return misplaced("a string");
    if (value != "F32")
      return fail(error(Code::kInvalidArgument, "tensor '{}' has the type {}; only F32 is read",
                        shown_name(current().name), shown_name(value)));
    return go(State::kTensor);
  }

  bool null() override { return misplaced("null"); }
  bool boolean(bool) override { return misplaced("a boolean"); }
  bool number_integer(number_integer_t) override { return misplaced("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return misplaced("a fraction or a number beyond 64 bits");
  }
  bool binary(binary_t&) override { return misplaced("binary data"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    return corrupt(fmt::format("the header is not JSON at its byte {}", position));
  }

 private:
  /// What comes next: a value (k...Value, kType, kMetadataText), an item of an open container, or
  /// nothing.
  enum class State {
    kStart,
    kTop,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kTensorValue,
    kTensor,
    kType,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kEnd,
  };

  const TensorSpec& current() const {
    return schema_ == nullptr ? own_[current_] : schema_->tensors()[current_];
  }

  bool find(const std::string& name) {
    const auto found = index_.find(name);
    if (found == index_.end())
      return fail(error(Code::kInvalidArgument,
                        "the file has a tensor '{}' that the model does not have",
                        shown_name(name)));
    current_ = found->second;
    if (std::exchange(entries_[current_].seen, true)) return twice(name);
    return true;
  }
  bool add(std::string& name) {
    if (name.empty()) return corrupt("a tensor has no name");
    current_ = own_.size();
    own_.emplace_back().name = std::move(name);
    entries_.push_back({.seen = true});
    return true;
  }
  bool take_shape() {
    // Zeros are left out of the bound, as in ParameterSchema::make.
    uint64_t product = 1;
    for (const uint64_t size : numbers_) {
      if (size > kMaxElements / product)
        return corrupt(
            fmt::format("tensor '{}' has more than 2^40 elements", shown_name(current().name)));
      product *= std::max<uint64_t>(size, 1);
    }
    own_[current_].shape.assign(numbers_.begin(), numbers_.end());
    return true;
  }

  bool go(State next) {
    state_ = next;
    return true;
  }
  bool fail(Status status) {
    failure_ = std::move(status);
    return false;
  }
  bool corrupt(std::string message) { return fail(Status(Code::kCorrupt, std::move(message))); }
  bool twice(const std::string& name) {
    return corrupt(fmt::format("tensor '{}' occurs twice", shown_name(name)));
  }
  bool misplaced(std::string_view what) {
    return corrupt(fmt::format("the header has {} where it does not belong", what));
  }

  const ParameterSchema* schema_ = nullptr;
  std::vector<TensorSpec> own_;
  std::unordered_map<std::string_view, size_t> index_;
  std::vector<Entry> entries_;
  State state_ = State::kStart;
  size_t current_ = 0;
  bool metadata_seen_ = false;
  bool type_seen_ = false;
  bool shape_seen_ = false;
  bool offsets_seen_ = false;
  std::vector<uint64_t> numbers_;
  Status failure_;
};

/// The order in which the tensors' data lie in the file; those that begin and end alike, having no
/// data, as in the header.
std::vector<size_t> order_of_data(const std::vector<Entry>& entries) {
  std::vector<size_t> order(entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::tuple(entries[a].begin, entries[a].end, a) <
           std::tuple(entries[b].begin, entries[b].end, b);
  });
  return order;
}

/// The ranges have to be as long as their tensors and to tile the data without overlap or gap.
Status check_ranges(std::span<const TensorSpec> tensors, const std::vector<Entry>& entries,
                    uint64_t data_bytes) {
  for (size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    const std::string& name = tensors[i].name;
    if (!entry.seen)
      return error(Code::kInvalidArgument, "the file has no tensor '{}'", shown_name(name));
    if (entry.begin > entry.end || entry.end > data_bytes)
      return error(Code::kCorrupt, "tensor '{}' runs past the end of the file", shown_name(name));
    if (entry.end - entry.begin != tensors[i].elements() * sizeof(float))
      return error(Code::kCorrupt, "tensor '{}' has {} bytes of data instead of {}",
                   shown_name(name), entry.end - entry.begin,
                   tensors[i].elements() * sizeof(float));
  }
  uint64_t covered = 0;
  for (size_t i : order_of_data(entries)) {
    if (entries[i].begin != covered)
      return error(Code::kCorrupt, "the data of tensor '{}' {}", shown_name(tensors[i].name),
                   entries[i].begin < covered ? "overlap those of another" : "begin after a gap");
    covered = entries[i].end;
  }
  if (covered != data_bytes)
    return error(Code::kCorrupt, "{} bytes at the end belong to no tensor", data_bytes - covered);
  return {};
}

/// Where the header ends and the data begin, after the header was read by `reader`.
Result<std::span<const std::byte>> read_header(std::span<const std::byte> file,
                                               HeaderReader& reader) {
  if (file.size() < kLengthBytes)
    return error(Code::kCorrupt, "not a safetensors file: {} bytes", file.size());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - kLengthBytes)
    return error(Code::kCorrupt, "not a safetensors file: a header of {} bytes in a file of {}",
                 header_bytes, file.size());
  const char* header = reinterpret_cast<const char*>(file.data()) + kLengthBytes;
  if (header_bytes == 0 || header[0] != '{')
    return error(Code::kCorrupt, "not a safetensors file: its header does not begin with '{{'");
  if (!nlohmann::json::sax_parse(HeaderText(header), HeaderText(header + header_bytes), &reader))
    return reader.take_failure();
  return file.subspan(kLengthBytes + header_bytes);
}

Status read_tensors(std::span<const std::byte> file, const ParameterSchema& schema,
                    std::span<float> out) {
  HeaderReader reader(schema);
  TERN_TRY(const std::span<const std::byte> data, read_header(file, reader));
  TERN_CHECK_OK(check_ranges(schema.tensors(), reader.entries(), data.size()));
  for (size_t i = 0; i < reader.entries().size(); ++i) {
    const Entry& entry = reader.entries()[i];
    // The data may begin at any byte: copied, never cast. An empty span may have no address to copy
    // from.
    if (entry.end > entry.begin)
      std::memcpy(out.data() + schema.offset(i), data.data() + entry.begin,
                  entry.end - entry.begin);
  }
  return {};
}

Result<ParameterSchema> read_schema(std::span<const std::byte> file) {
  HeaderReader reader;
  TERN_TRY(const std::span<const std::byte> data, read_header(file, reader));
  std::vector<TensorSpec>& tensors = reader.own_tensors();
  TERN_CHECK_OK(check_ranges(tensors, reader.entries(), data.size()));
  // Said here, since a name from a file is not fit for the message of ParameterSchema::make.
  std::unordered_set<std::string_view> names;
  for (const TensorSpec& tensor : tensors)
    if (!names.insert(tensor.name).second)
      return error(Code::kCorrupt, "tensor '{}' occurs twice", shown_name(tensor.name));
  std::vector<TensorSpec> in_order;
  in_order.reserve(tensors.size());
  for (const size_t i : order_of_data(reader.entries())) in_order.push_back(std::move(tensors[i]));
  return ParameterSchema::make(std::move(in_order));
}

/// The event parser reports bad JSON through its handler; what is left is an allocation that fails.
template <typename Read>
auto without_exceptions(const Read& read) -> decltype(read()) {
  try {
    return read();
  } catch (const std::exception& failure) {
    return error(Code::kInternal, "cannot read safetensors: {}", failure.what());
  }
}

}  // namespace

std::vector<std::byte> to_safetensors(const ParameterSchema& schema,
                                      std::span<const float> parameters,
                                      const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  // Names of a schema differ; operator[] would compare each with all before it.
  auto& tensors = header.get_ref<nlohmann::ordered_json::object_t&>();
  for (size_t i = 0; i < schema.tensors().size(); ++i) {
    const TensorSpec& tensor = schema.tensors()[i];
    const size_t begin = schema.offset(i) * sizeof(float);
    tensors.emplace_back(tensor.name,
                         nlohmann::ordered_json{
                             {"dtype", "F32"},
                             {"shape", tensor.shape},
                             {"data_offsets", {begin, begin + tensor.elements() * sizeof(float)}}});
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  // Spaces make the data begin at a multiple of 8, so that other libraries can map the file.
  text.append((8 - text.size() % 8) % 8, ' ');

  const uint64_t header_bytes = text.size();
  const std::span<const std::byte> data = std::as_bytes(parameters.first(schema.elements()));
  std::vector<std::byte> file(kLengthBytes + text.size() + data.size());
  std::memcpy(file.data(), &header_bytes, kLengthBytes);
  std::memcpy(file.data() + kLengthBytes, text.data(), text.size());
  if (!data.empty())
    std::memcpy(file.data() + kLengthBytes + text.size(), data.data(), data.size());
  return file;
}

Status from_safetensors(std::span<const std::byte> file, const ParameterSchema& schema,
                        std::span<float> out) {
  if (out.size() != schema.elements())
    return error(Code::kInternal, "{} floats of room for {} parameters", out.size(),
                 schema.elements());
  return without_exceptions([&] { return read_tensors(file, schema, out); });
}

Result<ParameterSchema> safetensors_schema(std::span<const std::byte> file) {
  return without_exceptions([&] { return read_schema(file); });
}

}  // namespace tern
