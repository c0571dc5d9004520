// The Python module: whatever the other files have exported.
#include <vector>

#include "binding.h"

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
