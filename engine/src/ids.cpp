// Looking ids up and writing them as JSON.
#include "ids.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace twhin {
namespace {

constexpr std::size_t kNumberRoom = 22;  // 20 characters of an integer and two quotes
constexpr std::size_t kEscaped = 6;      // \u001f

// 0, or digits that begin with another: an id that could be spelt two ways would alias.
std::int64_t canonical(std::string_view text) {
  std::int64_t number = -1;
  if (text.empty() || text[0] < '0' || text[0] > '9' || (text[0] == '0' && text.size() > 1)) return -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size() ? number : -1;
}

char* escaped(unsigned char c, char* out) {
  constexpr char digits[] = "0123456789abcdef";
  *out++ = '\\';
  switch (c) {
    case '"': case '\\': *out++ = static_cast<char>(c); return out;
    case '\b': *out++ = 'b'; return out;
    case '\f': *out++ = 'f'; return out;
    case '\n': *out++ = 'n'; return out;
    case '\r': *out++ = 'r'; return out;
    case '\t': *out++ = 't'; return out;
    default: std::memcpy(out, "u00", 3); out += 3; *out++ = digits[c >> 4]; *out++ = digits[c & 15]; return out;
  }
}

}  // namespace

std::string_view Ids::text(std::size_t row) const {
  const auto total = static_cast<std::int64_t>(utf8_.size());
  const auto begin = std::clamp<std::int64_t>(offsets_[row], 0, total);
  const auto end = std::clamp<std::int64_t>(offsets_[row + 1], begin, total);
  return {reinterpret_cast<const char*>(utf8_.data()) + begin, static_cast<std::size_t>(end - begin)};
}

std::int64_t Ids::find(std::string_view external) const {
  if (offsets_.empty()) {
    const std::int64_t number = canonical(external);
    const auto found = std::lower_bound(numbers_.begin(), numbers_.end(), number);
    return number >= 0 && found != numbers_.end() && *found == number ? found - numbers_.begin() : -1;
  }
  std::size_t low = 0, high = size_;
  while (low < high) {
    const std::size_t middle = low + (high - low) / 2;
    if (text(middle) < external) low = middle + 1;
    else high = middle;
  }
  return low < size_ && text(low) == external ? static_cast<std::int64_t>(low) : -1;
}

std::size_t Ids::room(std::size_t row) const {
  return offsets_.empty() ? kNumberRoom : 2 + kEscaped * text(row).size();
}

char* Ids::write(std::size_t row, char* out) const {
  *out++ = '"';
  if (offsets_.empty()) {
    out = std::to_chars(out, out + kNumberRoom, numbers_[row]).ptr;
  } else {
    for (const char c : text(row)) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte < 0x20 || byte == '"' || byte == '\\') out = escaped(byte, out);
      else *out++ = c;
    }
  }
  *out++ = '"';
  return out;
}

}  // namespace twhin
