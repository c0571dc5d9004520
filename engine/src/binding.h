// From a C++ function to a Python function, by its signature alone, over the buffer protocol and the stable C API.
//
//   double dot(std::span<const float> a, std::span<const float> b);
//   TWHIN_EXPORT(dot, dot, "The inner product.");
//
// Arguments: std::span<T> and Matrix<T> (contiguous arrays; const T: may be read-only; None: an empty one), std::int64_t,
// double, and T& for a handle. Results: void, std::int64_t, double, std::string (as bytes), std::unique_ptr<T> (a handle).
// A handle's type has `static constexpr const char* kName`. It keeps the arrays and handles that it was made from alive.
// The GIL is released during the call. std::invalid_argument becomes ValueError, std::bad_alloc MemoryError, others RuntimeError.
#pragma once
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "arrays.h"

namespace twhin::python {

using Function = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

struct Raised {};  // a Python error is set

// ---- arguments

template <class T>
constexpr const char* formats() {  // the format characters of the struct module that stand for T here
  using V = std::remove_const_t<T>;
  if constexpr (std::is_same_v<V, float>) return "f";
  else if constexpr (std::is_same_v<V, double>) return "d";
  else if constexpr (std::is_same_v<V, std::uint8_t>) return "B?";
  else if constexpr (std::is_same_v<V, std::uint16_t>) return "H";
  else if constexpr (std::is_same_v<V, std::int32_t>) return "i";
  else if constexpr (std::is_same_v<V, std::uint32_t>) return "I";
  else if constexpr (std::is_same_v<V, std::int64_t>) return sizeof(long) == 8 ? "lq" : "q";
  else {
    static_assert(std::is_same_v<V, std::uint64_t>, "no array of this type crosses");
    return sizeof(long) == 8 ? "LQ" : "Q";
  }
}

template <class T>
class Buffer {  // a buffer that is held, and released with the GIL
 public:
  Buffer() = default;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (held_) PyBuffer_Release(&view_);
  }

  void take(PyObject* object, int dimensions) {
    if (object == Py_None) return;
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
    if (PyObject_GetBuffer(object, &view_, flags) != 0) throw Raised{};
    held_ = true;
    const char* known = formats<T>();
    bool fits = false;
    for (const char* one = known; *one; ++one) fits |= view_.format && view_.format[0] == *one && !view_.format[1];
    if (!fits || view_.ndim != dimensions || reinterpret_cast<std::uintptr_t>(view_.buf) % alignof(T) != 0) {
      PyErr_Format(PyExc_TypeError, "an array of %d dimensions of type '%c' is wanted, not %d of '%s'", dimensions, known[0],
                   view_.ndim, view_.format ? view_.format : "B");
      throw Raised{};
    }
  }

 protected:
  Py_buffer view_{};
  bool held_ = false;
};

template <class A>
struct Argument;

template <class T>
struct Argument<std::span<T>> : Buffer<T> {
  void take(PyObject* object) { Buffer<T>::take(object, 1); }
  std::span<T> value() {
    if (!this->held_) return {};
    return {static_cast<T*>(this->view_.buf), static_cast<std::size_t>(this->view_.shape[0])};
  }
};

template <class T>
struct Argument<Matrix<T>> : Buffer<T> {
  void take(PyObject* object) { Buffer<T>::take(object, 2); }
  Matrix<T> value() {
    if (!this->held_) return {};
    return {static_cast<T*>(this->view_.buf), static_cast<std::size_t>(this->view_.shape[0]),
            static_cast<std::size_t>(this->view_.shape[1])};
  }
};

template <>
struct Argument<std::int64_t> {
  void take(PyObject* object) {
    number = PyLong_AsLongLong(object);
    if (number == -1 && PyErr_Occurred()) throw Raised{};
  }
  std::int64_t value() { return number; }
  std::int64_t number = 0;
};

template <>
struct Argument<double> {
  void take(PyObject* object) {
    number = PyFloat_AsDouble(object);
    if (number == -1.0 && PyErr_Occurred()) throw Raised{};
  }
  double value() { return number; }
  double number = 0;
};

template <class T>
struct Argument<T&> {
  Argument() = default;
  Argument(const Argument&) = delete;
  Argument& operator=(const Argument&) = delete;
  ~Argument() { Py_XDECREF(owner); }
  void take(PyObject* object) {
    pointer = static_cast<T*>(PyCapsule_GetPointer(object, std::remove_const_t<T>::kName));
    if (pointer == nullptr) throw Raised{};
    Py_INCREF(object);
    owner = object;
  }
  T& value() { return *pointer; }
  T* pointer = nullptr;
  PyObject* owner = nullptr;
};

// ---- results

inline PyObject* returned(std::int64_t value) { return PyLong_FromLongLong(value); }
inline PyObject* returned(double value) { return PyFloat_FromDouble(value); }
inline PyObject* returned(const std::string& value) {
  return PyBytes_FromStringAndSize(value.data(), static_cast<Py_ssize_t>(value.size()));
}

class Unlocked {  // the GIL, released for as long as this lives
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() { PyEval_RestoreThread(state_); }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

template <class T>
struct IsHandle : std::false_type {};
template <class T>
struct IsHandle<std::unique_ptr<T>> : std::true_type {};

// ---- calls

template <class R, class... A>
struct Call {
  using Arguments = std::tuple<Argument<A>...>;

  template <std::size_t... I>
  static void take(Arguments& arguments, PyObject* const* given, std::index_sequence<I...>) {
    (std::get<I>(arguments).take(given[I]), ...);
  }

  template <R (*F)(A...), std::size_t... I>
  static R run(Arguments& arguments, std::index_sequence<I...>) {
    const Unlocked unlocked;
    return F(std::get<I>(arguments).value()...);
  }

  template <R (*F)(A...)>
  static PyObject* answer(PyObject* const* given) {
    constexpr auto order = std::index_sequence_for<A...>{};
    if constexpr (IsHandle<R>::value) {
      return handle<F>(given);
    } else {
      Arguments arguments;
      take(arguments, given, order);
      if constexpr (std::is_void_v<R>) {
        run<F>(arguments, order);
        return Py_NewRef(Py_None);
      } else {
        return returned(run<F>(arguments, order));
      }
    }
  }

  template <R (*F)(A...)>
  static PyObject* handle(PyObject* const* given) {
    using T = typename R::element_type;
    struct Kept {  // declared last, the object is gone before what it points into
      Arguments arguments;
      R object;
    };
    constexpr auto order = std::index_sequence_for<A...>{};
    auto kept = std::make_unique<Kept>();
    take(kept->arguments, given, order);
    kept->object = run<F>(kept->arguments, order);
    PyObject* capsule = PyCapsule_New(kept->object.get(), T::kName, [](PyObject* gone) {
      delete static_cast<Kept*>(PyCapsule_GetContext(gone));
    });
    if (capsule == nullptr) throw Raised{};
    PyCapsule_SetContext(capsule, kept.release());
    return capsule;
  }
};

template <auto F>
struct Wrapped;

template <class R, class... A, R (*F)(A...)>
struct Wrapped<F> {
  static PyObject* call(PyObject*, PyObject* const* given, Py_ssize_t count) {
    if (count != static_cast<Py_ssize_t>(sizeof...(A))) {
      PyErr_Format(PyExc_TypeError, "%zu arguments are wanted, not %zd", sizeof...(A), count);
      return nullptr;
    }
    try {
      return Call<R, A...>::template answer<F>(given);
    } catch (const Raised&) {
    } catch (const std::invalid_argument& error) {
      PyErr_SetString(PyExc_ValueError, error.what());
    } catch (const std::bad_alloc&) {
      PyErr_NoMemory();
    } catch (const std::exception& error) {
      PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
  }
};

void add(const char* name, Function function, const char* doc);

struct Added {
  Added(const char* name, Function function, const char* doc) { add(name, function, doc); }
};

}  // namespace twhin::python

#define TWHIN_EXPORT(name, function, doc) \
  static const ::twhin::python::Added added_##name(#name, &::twhin::python::Wrapped<&function>::call, doc)
