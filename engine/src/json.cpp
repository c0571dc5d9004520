// Writing the candidates of an answer, in JSON or as bare rows. What a field is called is told by the Shape.
#include <charconv>
#include <cmath>
#include <cstring>

#include "answer.h"

namespace twhin {
namespace {

constexpr std::size_t kScoreRoom = 24, kModeRoom = 12;

char* copy(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

// The shortest digits that name the float, always as a number with a fraction; null for what is no number, as JSON has none.
char* write_score(float score, char* out) {
  if (!std::isfinite(score)) return copy("null", out);
  char* const end = std::to_chars(out, out + kScoreRoom, score).ptr;
  for (const char* c = out; c != end; ++c)
    if (*c == '.' || *c == 'e') return end;
  return copy(".0", end);
}

}  // namespace

std::string Answer::json(const Shape& shape) const {
  const Ids& ids = *plan.relation->target->ids;
  const std::size_t names = shape.before_id.size() + shape.before_score.size() + shape.before_mode.size() + shape.after.size();
  std::size_t room = 2;
  for (const Pick& pick : slate_) ids.fetch(static_cast<std::size_t>(pick.row));
  for (const Pick& pick : slate_) room += names + ids.room(static_cast<std::size_t>(pick.row)) + kScoreRoom + kModeRoom + 1;
  std::string text(room, '\0');
  char* out = copy("[", text.data());
  for (const Pick& pick : slate_) {
    if (&pick != slate_.data()) out = copy(",", out);
    out = ids.write(static_cast<std::size_t>(pick.row), copy(shape.before_id, out));
    out = write_score(pick.score, copy(shape.before_score, out));
    out = copy(shape.before_mode, out);
    const bool of_mode = pick.mode >= 0 && static_cast<std::size_t>(pick.mode) < plan.modes.size();
    out = of_mode ? std::to_chars(out, out + kModeRoom, plan.modes[static_cast<std::size_t>(pick.mode)].cluster).ptr
                  : copy("null", out);
    out = copy(shape.after, out);
  }
  out = copy("]", out);
  text.resize(static_cast<std::size_t>(out - text.data()));
  return text;
}

std::string Answer::rows() const {
  std::string bytes(slate_.size() * sizeof(std::int32_t), '\0');
  for (std::size_t i = 0; i < slate_.size(); ++i)
    std::memcpy(bytes.data() + i * sizeof(std::int32_t), &slate_[i].row, sizeof(std::int32_t));
  return bytes;
}

}  // namespace twhin
