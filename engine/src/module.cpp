// The Python module: whatever the other files have exported, and the switch of instruction sets.
#include <string>
#include <vector>

#include "binding.h"
#include "level.h"

namespace twhin::python {
namespace {

std::vector<PyMethodDef>& methods() {
  static std::vector<PyMethodDef> all;
  return all;
}

}  // namespace

void add(const char* name, Function function, const char* doc) {
  // The stable API wants the one-pointer type; METH_FASTCALL says what it really is.
  methods().push_back({name, reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(function)), METH_FASTCALL, doc});
}

}  // namespace twhin::python

namespace twhin {
namespace {

void set_level_by_name(std::span<const std::uint8_t> name) {
  const std::string_view text(reinterpret_cast<const char*>(name.data()), name.size());
  for (const Level known : kLevels) {
    if (text == name_of(known)) return set_level(known);
  }
  throw std::invalid_argument("there is no such instruction set; it has: off, plain, neon, avx2, avxvnni, avx512");
}

std::string current_name() { return std::string(name_of(level())); }

}  // namespace

TWHIN_EXPORT(level, current_name, "The instruction set in use.");
TWHIN_EXPORT(set_level, set_level_by_name, "Use another instruction set.");

}  // namespace twhin

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__native() {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "engine._native", "The compiled engine.", -1,
                                   nullptr, nullptr, nullptr, nullptr, nullptr};
  auto& all = twhin::python::methods();
  if (definition.m_methods == nullptr) {
    all.push_back({nullptr, nullptr, 0, nullptr});
    definition.m_methods = all.data();
  }
  return PyModule_Create(&definition);
}
