// SPDX-License-Identifier: MIT
// V8's calls for embedders that keep the machine code of WebAssembly modules, as functions for JavaScript: wireBytes, serialize,
// deserialize.
//
// Node has no call for this, V8 has (v8-wasm.h: CompiledWasmModule, WasmModuleCompilation). Headers of the Node that runs this are not on every
// machine, so the few declarations that are needed stand here. They hold for one V8 only: v8-code.ts loads this file into no other.

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <variant>

extern "C" {
// js_native_api.h
typedef struct napi_env__ *napi_env;
typedef struct napi_value__ *napi_value;
typedef struct napi_ref__ *napi_ref;
typedef struct napi_callback_info__ *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);
int napi_get_cb_info(napi_env, napi_callback_info, size_t *argc, napi_value *argv, napi_value *self, void **data);
int napi_create_function(napi_env, const char *name, size_t length, napi_callback, void *data, napi_value *result);
int napi_set_named_property(napi_env, napi_value object, const char *name, napi_value value);
int napi_get_typedarray_info(napi_env, napi_value, int *type, size_t *length, void **data, napi_value *buffer, size_t *offset);
int napi_create_arraybuffer(napi_env, size_t length, void **data, napi_value *result);
int napi_create_reference(napi_env, napi_value, uint32_t count, napi_ref *result);
int napi_get_reference_value(napi_env, napi_ref, napi_value *result);
int napi_delete_reference(napi_env, napi_ref);
}

namespace v8 {

namespace internal::wasm {
class NativeModule;
}

class Isolate {
 public:
  static Isolate *GetCurrent();
};

// A handle is the address of a slot; Node-API's values are the same.
template <class T>
class Local {
 public:
  void *slot;
};

class Value {
 public:
  bool IsWasmModuleObject() const;
};

template <class T>
class MemorySpan {
 public:
  const T *data;
  size_t size;
};

struct OwnedBuffer {
  std::unique_ptr<const uint8_t[]> buffer;
  size_t size;
};

class CompiledWasmModule {
 public:
  MemorySpan<const uint8_t> GetWireBytesRef();
  OwnedBuffer Serialize();

 private:
  std::shared_ptr<internal::wasm::NativeModule> module_;
  std::string url_;
};

class WasmModuleObject {
 public:
  CompiledWasmModule GetCompiledModule();
};

class WasmStreaming {
 public:
  class ModuleCachingInterface {
   public:
    virtual MemorySpan<const uint8_t> GetWireBytes() const = 0;
    virtual bool SetCachedCompiledModuleBytes(MemorySpan<const uint8_t>) = 0;
  };
};

class WasmModuleCompilation {
 public:
  WasmModuleCompilation();
  ~WasmModuleCompilation();
  void OnBytesReceived(const uint8_t *bytes, size_t size);
  void SetHasCompiledModuleBytes();
  void Finish(Isolate *, const std::function<void(WasmStreaming::ModuleCachingInterface &)> &,
              const std::function<void(std::variant<Local<WasmModuleObject>, Local<Value>>)> &);

 private:
  void *impl_;
};

}  // namespace v8

namespace {

// The only argument, null unless it is a WebAssembly.Module.
v8::WasmModuleObject *module_of(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value module = nullptr;
  napi_get_cb_info(env, info, &count, &module, nullptr, nullptr);
  if (count < 1 || !reinterpret_cast<v8::Value *>(module)->IsWasmModuleObject()) return nullptr;
  return reinterpret_cast<v8::WasmModuleObject *>(module);
}

napi_value array_buffer(napi_env env, const uint8_t *data, size_t size) {
  napi_value result = nullptr;
  void *bytes = nullptr;
  if (napi_create_arraybuffer(env, size, &bytes, &result) != 0) return nullptr;
  if (size > 0) std::memcpy(bytes, data, size);
  return result;
}

// wireBytes(module: WebAssembly.Module): ArrayBuffer, what it was made from.
napi_value wire_bytes(napi_env env, napi_callback_info info) {
  v8::WasmModuleObject *module = module_of(env, info);
  if (module == nullptr) return nullptr;
  v8::CompiledWasmModule compiled = module->GetCompiledModule();
  const v8::MemorySpan<const uint8_t> wasm = compiled.GetWireBytesRef();
  return array_buffer(env, wasm.data, wasm.size);
}

// serialize(module: WebAssembly.Module): ArrayBuffer. Empty when V8's optimising compiler has done none of its functions yet.
napi_value serialize(napi_env env, napi_callback_info info) {
  v8::WasmModuleObject *module = module_of(env, info);
  if (module == nullptr) return nullptr;
  const v8::OwnedBuffer code = module->GetCompiledModule().Serialize();
  return array_buffer(env, code.buffer.get(), code.size);
}

using Bytes = v8::MemorySpan<const uint8_t>;

bool bytes_of(napi_env env, napi_value array, Bytes *bytes) {
  int type;
  void *data;
  if (napi_get_typedarray_info(env, array, &type, &bytes->size, &data, nullptr, nullptr) != 0) return false;
  bytes->data = static_cast<const uint8_t *>(data);
  return true;
}

// deserialize(wasm: Uint8Array, code: Uint8Array): WebAssembly.Module | undefined, undefined when V8 has no use for the code: another version, CPU or
// other options. The code must be what `serialize` made of a module of just these bytes: V8 ends the process over anything else.
napi_value deserialize(napi_env env, napi_callback_info info) {
  struct State {
    bool is_over = false;
    bool is_used = false;
    napi_ref module = nullptr;
  };
  size_t count = 2;
  napi_value arguments[2] = {};
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Bytes wasm{};
  Bytes code{};
  if (count < 2 || !bytes_of(env, arguments[0], &wasm) || !bytes_of(env, arguments[1], &code)) return nullptr;
  // V8 tells of the module before it says that it has used the code; and it compiles what it cannot use the code for, which may take until later.
  const auto state = std::make_shared<State>();
  {
    v8::WasmModuleCompilation compilation;
    compilation.SetHasCompiledModuleBytes();
    compilation.OnBytesReceived(wasm.data, wasm.size);
    compilation.Finish(
        v8::Isolate::GetCurrent(),
        [&](v8::WasmStreaming::ModuleCachingInterface &caching) {
          state->is_used = caching.SetCachedCompiledModuleBytes(code);
        },
        [state, env](std::variant<v8::Local<v8::WasmModuleObject>, v8::Local<v8::Value>> result) {
          if (state->is_over || result.index() != 0) return;
          napi_create_reference(env, static_cast<napi_value>(std::get<0>(result).slot), 1, &state->module);
        });
  }
  state->is_over = true;
  if (state->module == nullptr) return nullptr;
  napi_value module = nullptr;
  if (state->is_used) napi_get_reference_value(env, state->module, &module);
  napi_delete_reference(env, state->module);
  return module;
}

void add(napi_env env, napi_value exports, const char *name, napi_callback callback) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, SIZE_MAX, callback, nullptr, &function) == 0)
    napi_set_named_property(env, exports, name, function);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1() { return 8; }

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  add(env, exports, "wireBytes", wire_bytes);
  add(env, exports, "serialize", serialize);
  add(env, exports, "deserialize", deserialize);
  return exports;
}
