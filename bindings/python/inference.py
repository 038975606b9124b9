"""libinference from Python, with nothing but ctypes: for notebooks and for this project's own tools.

    import inference
    model = inference.load("model.gguf")
    session = model.session()
    for event in session.generate("Once upon a time", max_tokens=64):
        print(event.text, end="", flush=True)

inference.h is the manual: methods have the names of its functions. Objects free what they hold with `close`, `with` or the collector, in any
order. What fails raises `Error`, which has a `status` and a `detail`. Calls release the interpreter lock, so threads run beside each other.

The library is the one that `INF_LIBRARY` names, or that of this source tree, or that which the system finds; `use(path)` chooses another before the first call.
"""

import ctypes
import ctypes.util
import json
import os
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t, c_ssize_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

WAIT_FOREVER = -1
EV_NONE, EV_PROGRESS, EV_TEXT, EV_THINKING, EV_TOOL_CALL, EV_DONE = 0, 1, 2, 3, 4, 5
FINISH = {1: "eos", 2: "stop", 3: "max_tokens", 4: "context_full", 5: "tool_call", 6: "cancelled", 7: "error"}
TOK_ADD_SPECIAL, TOK_PARSE_SPECIAL, TOK_CONTINUES = 1, 2, 4
STEP_PENDING, STEP_TOKEN, STEP_END = 0, 1, 2
STEP_IGNORE_EOG = 1
SESSION_NO_SHARED_PREFIX = 1
OVERFLOW_ERROR, OVERFLOW_SHIFT, OVERFLOW_STOP = 0, 1, 2
KV_AUTO, KV_F32, KV_F16, KV_Q8_0 = 0, 1, 2, 3
ERR_INVALID_HANDLE, ERR_BUFFER_TOO_SMALL, ERR_CANCELLED, ERR_TIMEOUT = 2, 5, 19, 20


# ---- Structs of inference.h: a test compares them ----------------------------------------------------------------------


class Struct(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields):
        unknown = fields.keys() - {name for name, _ in self._fields_}
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        super().__init__(struct_size=ctypes.sizeof(self), **fields)


class inf_error(ctypes.Structure):
    _fields_ = [("detail", c_int64 * 2), ("status", c_uint32), ("reserved", c_uint32), ("message", c_char * 488)]


class inf_runtime_params(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("n_threads", c_uint32), ("host_driven", c_uint32), ("thread_priority", c_int32), ("cpu_mask", c_uint64 * 4),
        ("host_memory_limit", c_uint64), ("spin_us", c_uint32), ("log_level", c_uint32), ("log", c_void_p), ("log_user", c_void_p), ("thread", c_void_p), ("thread_user", c_void_p),
        ("options_json", c_char_p), ("options_len", c_size_t),
    ]  # fmt: skip


class inf_device_info(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("kind", c_uint32), ("index", c_uint32), ("usable", c_uint32), ("memory_total", c_uint64), ("memory_free", c_uint64),
        ("id", c_char * 32), ("name", c_char * 96), ("reason", c_char * 128),
    ]  # fmt: skip


class inf_memory(Struct):
    _fields_ = [("struct_size", c_uint32), ("reserved", c_uint32), ("host", c_uint64), ("host_peak", c_uint64), ("host_left", c_uint64)]


class inf_source(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("kind", c_uint32), ("name", c_char_p), ("path", c_char_p), ("data", c_void_p), ("native", c_ssize_t),
        ("size", c_uint64), ("offset", c_uint64), ("read_at", c_void_p), ("release", c_void_p), ("user", c_void_p), ("reserved_pointer", c_void_p),
    ]  # fmt: skip


class inf_model_params(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("n_sources", c_uint32), ("sources", POINTER(POINTER(inf_source))), ("device", c_char_p), ("n_ctx_hint", c_uint32),
        ("kv_type", c_uint32), ("wake", c_void_p), ("wake_user", c_void_p), ("wake_tag", c_uint64), ("options_json", c_char_p),
        ("options_len", c_size_t),
    ]  # fmt: skip


class inf_plan(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("fits", c_uint32), ("n_layers", c_uint32), ("n_ctx", c_uint32), ("weights_bytes", c_uint64),
        ("kv_bytes_per_token", c_uint64), ("kv_bytes", c_uint64), ("scratch_bytes", c_uint64), ("host_bytes", c_uint64), ("device_bytes", c_uint64),
        ("n_layers_on_device", c_uint32), ("reserved", c_uint32), ("device", c_char * 32),
    ]  # fmt: skip


class inf_model_info(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("n_vocab", c_uint32), ("n_ctx_max", c_uint32), ("n_embd", c_uint32), ("n_layers", c_uint32),
        ("capabilities", c_uint32), ("bos", c_int32), ("eos", c_int32), ("n_params", c_uint64), ("architecture", c_char * 32),
        ("quantization", c_char * 32), ("device", c_char * 32),
    ]  # fmt: skip


class inf_session_params(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("n_ctx", c_uint32), ("prefill_chunk", c_uint32), ("flags", c_uint32), ("overflow", c_uint32),
        ("n_keep", c_uint32), ("priority", c_int32), ("reserved", c_uint32),
    ]  # fmt: skip


class inf_step(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("state", c_uint32), ("token", c_int32), ("prefill_done", c_uint32), ("prefill_total", c_uint32),
        ("logprob", c_float),
    ]  # fmt: skip


class inf_generate_params(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("max_tokens", c_uint32), ("text", c_char_p), ("text_len", c_size_t), ("messages_json", c_char_p),
        ("messages_len", c_size_t), ("tools_json", c_char_p), ("tools_len", c_size_t), ("options_json", c_char_p), ("options_len", c_size_t),
        ("stop_json", c_char_p), ("stop_len", c_size_t), ("sampler", c_void_p), ("draft", c_void_p), ("n_draft", c_uint32),
        ("queue_capacity", c_uint32), ("wake", c_void_p), ("wake_user", c_void_p), ("wake_tag", c_uint64), ("top_logprobs", c_uint32),
        ("reserved", c_uint32),
    ]  # fmt: skip


class inf_event(Struct):
    _fields_ = [
        ("struct_size", c_uint32), ("type", c_uint32), ("finish", c_uint32), ("status", c_uint32), ("_text", c_void_p), ("text_len", c_size_t),
        ("_tokens", POINTER(c_int32)), ("n_tokens", c_size_t), ("error_text", c_char_p), ("error_len", c_size_t), ("n_done", c_uint32),
        ("n_total", c_uint32), ("prompt_tokens", c_uint32), ("cached_tokens", c_uint32), ("output_tokens", c_uint32), ("reserved", c_uint32),
        ("prefill_ms", c_float), ("decode_ms", c_float), ("_logprobs_json", c_void_p), ("logprobs_len", c_size_t),
    ]  # fmt: skip


# ---- Functions of inference.h: the arguments before the error; with it they give a status ----------------------------------

HANDLE, OUT, SIZE = c_void_p, POINTER(c_void_p), POINTER(c_size_t)
BYTES, BUFFER = (c_char_p, c_size_t), (c_void_p, c_size_t, SIZE)
FALLIBLE = {
    "runtime_create": (POINTER(inf_runtime_params), OUT),
    "runtime_shutdown": (HANDLE, c_int32),
    "runtime_pump": (HANDLE, c_uint32, POINTER(c_uint32)),
    "runtime_memory": (HANDLE, POINTER(inf_memory)),
    "runtime_next_log": (HANDLE, *BUFFER, POINTER(c_uint32)),
    "device_get": (HANDLE, c_uint32, POINTER(inf_device_info)),
    "load_start_path": (HANDLE, *BYTES, *BYTES, OUT),
    "load_wait": (HANDLE, c_int32, POINTER(c_float), OUT),
    "model_get_info": (HANDLE, POINTER(inf_model_info)),
    "model_estimate": (HANDLE, POINTER(inf_model_params), POINTER(inf_plan)),
    "model_save_gguf": (HANDLE, c_char_p),
    "model_metadata": (HANDLE, c_char_p, *BUFFER),
    "tokenize": (HANDLE, *BYTES, c_uint32, *BUFFER),
    "detokenize": (HANDLE, c_void_p, c_size_t, c_uint32, *BUFFER),
    "token_bytes": (HANDLE, c_int32, *BUFFER),
    "sampler_create": (HANDLE, OUT),
    "chat_render": (HANDLE, *BYTES, *BYTES, *BYTES, *BUFFER),
    "sampler_from_json": (HANDLE, *BYTES, OUT),
    "sampler_clone": (HANDLE, OUT),
    "sampler_reset": (HANDLE,),
    "sampler_set_seed": (HANDLE, c_uint64),
    "sampler_add_temperature": (HANDLE, c_float),
    "sampler_add_top_k": (HANDLE, c_uint32),
    "sampler_add_top_p": (HANDLE, c_float),
    "sampler_add_min_p": (HANDLE, c_float),
    "sampler_add_penalties": (HANDLE, c_uint32, c_float, c_float, c_float),
    "sampler_add_dynamic_temperature": (HANDLE, c_float, c_float, c_float),
    "sampler_add_typical_p": (HANDLE, c_float),
    "sampler_add_top_n_sigma": (HANDLE, c_float),
    "sampler_add_xtc": (HANDLE, c_float, c_float),
    "sampler_add_dry": (HANDLE, c_float, c_float, c_uint32, c_uint32, *BYTES),
    "sampler_add_mirostat": (HANDLE, c_float, c_float),
    "sampler_add_logit_bias": (HANDLE, POINTER(c_int32), POINTER(c_float), c_size_t),
    "sampler_set_constraint": (HANDLE, c_uint32, *BYTES),
    "sampler_pick": (HANDLE, POINTER(c_float), c_size_t, POINTER(c_int32)),
    "sampler_accept": (HANDLE, c_int32),
    "session_create": (HANDLE, POINTER(inf_session_params), OUT),
    "session_fork": (HANDLE, OUT),
    "session_truncate": (HANDLE, c_uint32),
    "session_append": (HANDLE, POINTER(c_int32), c_size_t),
    "session_step": (HANDLE, HANDLE, c_uint32, c_uint32, POINTER(inf_step)),
    "session_save": (HANDLE, *BUFFER),
    "session_restore": (HANDLE, *BYTES),
    "session_save_file": (HANDLE, c_char_p),
    "session_restore_file": (HANDLE, c_char_p),
    "session_logits": (HANDLE, POINTER(POINTER(c_float)), SIZE),
    "generate_start": (HANDLE, POINTER(inf_generate_params), OUT),
    "generate_json": (HANDLE, *BYTES, OUT),
    "generation_next": (HANDLE, c_int32, POINTER(inf_event)),
}
INFALLIBLE = {
    "status_name": (c_char_p, c_uint32),
    "version": (c_char_p,),
    "build_info_json": (c_char_p,),
    "device_count": (c_uint32, HANDLE),
    "model_is_eog": (c_uint32, HANDLE, c_int32),
    "session_n_tokens": (c_uint32, HANDLE),
    "load_cancel": (None, HANDLE),
    "generation_cancel": (None, HANDLE),
    **{f"{kind}_free": (None, HANDLE) for kind in ("runtime", "load", "model", "session", "sampler", "generation")},
}

_library = None


def use(path) -> None:
    """Takes the library at `path`; all objects of one program come from one library."""
    global _library
    library = ctypes.CDLL(str(path))
    for name, arguments in FALLIBLE.items():
        getattr(library, f"inf_{name}").argtypes = (*arguments, POINTER(inf_error))
        getattr(library, f"inf_{name}").restype = c_uint32
    for name, (result, *arguments) in INFALLIBLE.items():
        getattr(library, f"inf_{name}").argtypes = arguments
        getattr(library, f"inf_{name}").restype = result
    _library = library


def _find() -> str:
    name = {"win32": "inference.dll", "darwin": "libinference.0.dylib"}.get(sys.platform, "libinference.so.0")
    built = Path(__file__).resolve().parents[2] / "build" / name
    return os.environ.get("INF_LIBRARY") or (str(built) if built.exists() else ctypes.util.find_library("inference") or name)


def _function(name: str):
    if _library is None:
        use(_find())
    return getattr(_library, f"inf_{name}")


class Error(Exception):
    """What a call reports: `status` is its number, `name` its name, `detail` two numbers that inference.h explains."""

    def __init__(self, status: int, message: str, detail=(0, 0)):
        self.status, self.name, self.detail = status, _function("status_name")(status).decode(), tuple(detail)
        super().__init__(f"{self.name}: {message}")


def call(name: str, *arguments) -> None:
    """Calls `inf_<name>` and raises what it reports."""
    error = inf_error()
    if _function(name)(*arguments, byref(error)):
        raise Error(error.status, error.message.decode(errors="replace"), error.detail)


def _json(value) -> tuple[bytes | None, int]:
    """A value as a JSON argument and its length; None is NULL."""
    text = None if value is None else json.dumps(value).encode()
    return text, len(text or b"")


def _buffered(name: str, element, guess: int, *arguments, after=()):
    """What a call writes into (buffer, capacity, *length): once if `guess` elements are enough, else twice."""
    n = c_size_t()
    while True:
        buffer = (element * guess)()
        try:
            call(name, *arguments, buffer, guess, byref(n), *after)
            return buffer[: n.value]
        except Error as error:
            if error.status != ERR_BUFFER_TOO_SMALL:
                raise
            guess = n.value + 1


def version() -> str:
    return _function("version")().decode()


def build_info() -> dict:
    return json.loads(_function("build_info_json")())


class Handle:
    """Owns one handle; `kind` is what its `free` is called after."""

    kind = ""

    def __init__(self, create: str, *arguments):
        self.raw = c_void_p()
        call(create, *arguments, byref(self.raw))
        self._free = _function(f"{self.kind}_free")

    def close(self) -> None:
        """Frees it, now; twice is fine."""
        if self.raw:
            self._free(self.raw)
            self.raw = c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if hasattr(self, "_free"):
            self.close()


class Runtime(Handle):
    """Threads, devices, log. Keywords are fields of inf_runtime_params; `options` are its options_json."""

    kind = "runtime"

    def __init__(self, options: dict | None = None, **fields):
        text, length = _json(options)
        super().__init__("runtime_create", byref(inf_runtime_params(options_json=text, options_len=length, **fields)))

    def shutdown(self, timeout_ms: int = WAIT_FOREVER) -> None:
        call("runtime_shutdown", self.raw, timeout_ms)

    def pump(self, budget_us: int) -> bool:
        more = c_uint32()
        call("runtime_pump", self.raw, budget_us, byref(more))
        return more.value == 1

    def next_log(self) -> tuple[int, str]:
        """(level, line); level 0 if none waits."""
        level = c_uint32()
        line = _buffered("runtime_next_log", c_char, 512, self.raw, after=(byref(level),))
        return level.value, line.decode()

    def memory(self) -> inf_memory:
        out = inf_memory()
        call("runtime_memory", self.raw, byref(out))
        return out

    def estimate(self, path, n_ctx: int = 0, kv_type: int = 0) -> inf_plan:
        """What the model at path will need, from its header."""
        source, out = inf_source(path=os.fspath(path).encode()), inf_plan()
        sources = (POINTER(inf_source) * 1)(ctypes.pointer(source))
        call("model_estimate", self.raw, byref(inf_model_params(n_sources=1, sources=sources, n_ctx_hint=n_ctx, kv_type=kv_type)), byref(out))
        return out

    def devices(self) -> list[inf_device_info]:
        found = [inf_device_info() for _ in range(_function("device_count")(self.raw))]
        for i, info in enumerate(found):
            call("device_get", self.raw, i, byref(info))
        return found

    def start_load(self, path, **options) -> "Load":
        """Loads in the background; options are those of inf_load_start_path."""
        return Load(self, path, options)

    def load(self, path, **options) -> "Model":
        return self.start_load(path, **options).wait()


class Load(Handle):
    """A model load in the background."""

    kind = "load"

    def __init__(self, runtime: Runtime, path, options: dict):
        name = os.fspath(path).encode()
        self.progress = 0.0
        super().__init__("load_start_path", runtime.raw, name, len(name), *_json(options))

    def poll(self, timeout_ms: int = 0) -> "Model | None":
        """The model, if the load ends in time; `progress` says how far it is, 0 to 1."""
        try:
            return self.wait(timeout_ms)
        except Error as error:
            if error.status != ERR_TIMEOUT:
                raise
            return None

    def wait(self, timeout_ms: int = WAIT_FOREVER) -> "Model":
        share = c_float(self.progress)
        try:
            return Model("load_wait", self.raw, timeout_ms, byref(share))
        finally:
            self.progress = share.value

    def cancel(self) -> None:
        _function("load_cancel")(self.raw)


def load(path, **options) -> "Model":
    """Loads a model on a runtime of its own."""
    return Runtime().load(path, **options)


class Model(Handle):
    """Weights and a tokenizer, shared by any number of sessions and threads."""

    kind = "model"

    def info(self) -> inf_model_info:
        out = inf_model_info()
        call("model_get_info", self.raw, byref(out))
        return out

    def save_gguf(self, path) -> None:
        """Writes the model as it is held, quantised or not."""
        call("model_save_gguf", self.raw, os.fspath(path).encode())

    def metadata(self, key: str) -> str:
        return _buffered("model_metadata", c_char, 128, self.raw, key.encode()).decode()

    def is_eog(self, token: int) -> bool:
        return _function("model_is_eog")(self.raw, token) == 1

    def tokenize(self, text: str | bytes, flags: int = TOK_ADD_SPECIAL) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return _buffered("tokenize", c_int32, len(data) + 8, self.raw, data, len(data), flags)

    def detokenize(self, tokens, flags: int = 0) -> bytes:
        """Bytes, because tokens may end inside a character."""
        return _buffered("detokenize", c_char, len(tokens) * 6 + 16, self.raw, (c_int32 * len(tokens))(*tokens), len(tokens), flags)

    def token_bytes(self, token: int) -> bytes:
        return _buffered("token_bytes", c_char, 64, self.raw, token)

    def sampler(self, seed: int | None = None, **stages) -> "Sampler":
        """A chain; the keywords are its stages in their order: `sampler(seed=1, top_k=40, temperature=0.8)`. Without any it is greedy."""
        chain = Sampler("sampler_create", self.raw)
        if seed is not None:
            call("sampler_set_seed", chain.raw, seed)
        for name, value in stages.items():
            chain.add(name, *(value if isinstance(value, tuple) else (value,)))
        return chain

    def sampler_from(self, sampling: dict) -> "Sampler":
        """A chain from the JSON of inf_sampler_from_json."""
        return Sampler("sampler_from_json", self.raw, *_json(sampling))

    def render_chat(self, messages: list[dict], tools=None, options: dict | None = None) -> str:
        """The prompt that a chat would compute."""
        return _buffered("chat_render", c_char, 1024, self.raw, *_json(messages), *_json(tools), *_json(options)).decode()

    def session(self, **fields) -> "Session":
        """Keywords are fields of inf_session_params."""
        return Session("session_create", self.raw, byref(inf_session_params(**fields)))


CONSTRAINTS = {None: 0, "json_schema": 1, "regex": 2, "lark": 3, "gbnf": 4, "json": 5}


class Sampler(Handle):
    """A chain of stages that chooses tokens."""

    kind = "sampler"

    def add(self, stage: str, *values) -> None:
        """Adds a stage by the name of its function: `add("penalties", 64, 1.1, 0, 0)`."""
        call(f"sampler_add_{stage}", self.raw, *values)

    def add_logit_bias(self, bias: dict[int, float]) -> None:
        self.add("logit_bias", (c_int32 * len(bias))(*bias), (c_float * len(bias))(*bias.values()), len(bias))

    def add_dry(self, multiplier: float, base: float, allowed_len: int, last_n: int, breakers: list[str] | None = None) -> None:
        self.add("dry", multiplier, base, allowed_len, last_n, *_json(breakers))

    def set_constraint(self, kind: str | None, source: str | dict = "") -> None:
        """Only what continues a text of this language: json_schema (a dict or JSON), regex, lark, gbnf, json; None allows everything again."""
        text = source if isinstance(source, str) else json.dumps(source)
        data = text.encode()
        call("sampler_set_constraint", self.raw, CONSTRAINTS[kind], data, len(data))

    def clone(self) -> "Sampler":
        return Sampler("sampler_clone", self.raw)

    def reset(self) -> None:
        call("sampler_reset", self.raw)

    def pick(self, logits) -> int:
        token = c_int32()
        call("sampler_pick", self.raw, logits, len(logits), byref(token))
        return token.value

    def accept(self, token: int) -> None:
        call("sampler_accept", self.raw, token)


class Session(Handle):
    """One sequence of tokens. One thread at a time."""

    kind = "session"

    def generate(self, text: str = "", max_tokens: int = 0, stop=(), sampler: Sampler | None = None, **fields) -> "Generation":
        """Keywords beside these are fields of inf_generate_params."""
        data, (stops, stop_len) = text.encode(), _json(list(stop))
        fields |= {"text": data, "text_len": len(data), "stop_json": stops, "stop_len": stop_len, "sampler": sampler.raw if sampler else None}
        return Generation(self, "generate_start", byref(inf_generate_params(max_tokens=max_tokens, **fields)))

    def chat(self, messages: list[dict], tools=None, options: dict | None = None, **asked) -> "Generation":
        """Answers a whole conversation; what the session holds of it is not computed again. Other keywords as `generate`."""
        names = ("messages", "tools", "options")
        for name, (text, length) in zip(names, map(_json, (messages, tools, options))):
            asked |= {f"{name}_json": text, f"{name}_len": length}
        return self.generate(**asked)

    def generate_json(self, request: dict) -> "Generation":
        return Generation(self, "generate_json", *_json(request))

    def save(self) -> bytes:
        n = c_size_t()
        call("session_save", self.raw, None, 0, byref(n))
        return _buffered("session_save", c_char, n.value, self.raw)

    def restore(self, saved: bytes) -> None:
        call("session_restore", self.raw, saved, len(saved))

    def save_file(self, path) -> None:
        call("session_save_file", self.raw, os.fspath(path).encode())

    def restore_file(self, path) -> None:
        call("session_restore_file", self.raw, os.fspath(path).encode())

    def fork(self) -> "Session":
        return Session("session_fork", self.raw)

    def truncate(self, n_tokens: int) -> None:
        call("session_truncate", self.raw, n_tokens)

    def __len__(self) -> int:
        return _function("session_n_tokens")(self.raw)

    def append(self, tokens) -> None:
        call("session_append", self.raw, (c_int32 * len(tokens))(*tokens), len(tokens))

    def step(self, sampler: Sampler | None = None, budget_us: int = 0, flags: int = 0) -> inf_step:
        out = inf_step()
        call("session_step", self.raw, sampler.raw if sampler else None, budget_us, flags, byref(out))
        return out

    def logits(self) -> ctypes.Array:
        """A copy; `numpy.frombuffer(logits, "f4")` makes an array of it for free."""
        data, n = POINTER(c_float)(), c_size_t()
        call("session_logits", self.raw, byref(data), byref(n))
        return (c_float * n.value).from_buffer_copy(ctypes.cast(data, POINTER(c_float * n.value)).contents)


class Event:
    """One message of a generation. At the end, `usage` is the whole inf_event."""

    __slots__ = ("type", "text", "tokens", "logprobs", "finish", "usage")

    def __init__(self, raw: inf_event):
        self.type = raw.type
        self.text = ctypes.string_at(raw._text, raw.text_len).decode() if raw.text_len else ""
        self.tokens = raw._tokens[: raw.n_tokens] if raw.n_tokens else []
        self.logprobs = json.loads(ctypes.string_at(raw._logprobs_json, raw.logprobs_len)) if raw.logprobs_len else []
        self.finish = FINISH.get(raw.finish, "")
        self.usage = raw if raw.type == EV_DONE else None


class Generation(Handle):
    """One running request: iterate over its events, the last of which has the type EV_DONE. What fails in it is raised."""

    kind = "generation"

    def __init__(self, session: Session, start: str, *arguments):
        self.session = session  # A session that is collected would cancel this.
        super().__init__(start, session.raw, *arguments)
        self.event, self.error, self.call_next = inf_event(), inf_error(), _function("generation_next")

    def next(self, timeout_ms: int = WAIT_FOREVER) -> Event:
        raw, error = self.event, self.error
        if self.call_next(self.raw, timeout_ms, raw, error):
            raise Error(error.status, error.message.decode(errors="replace"), error.detail)
        if raw.type == EV_DONE:
            self.event = inf_event()
            if raw.status:
                raise Error(raw.status, raw.error_text.decode())
            raw._text = raw.error_text = None  # Borrowed: gone with the generation.
        event = Event(raw)
        raw._logprobs_json = None
        return event

    def __iter__(self):
        while True:
            event = self.next()
            yield event
            if event.type == EV_DONE:
                return

    def text(self) -> str:
        """Everything that it says."""
        return "".join(event.text for event in self)

    def cancel(self) -> None:
        _function("generation_cancel")(self.raw)
