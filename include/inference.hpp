// libinference in C++17: classes that own the handles of inference.h, string views for its strings, range-for over the
// events of a generation. Nothing but inline calls; inference.h is the manual, and every member says which of its functions it calls.
//
//     namespace inf = inference;
//     inf::Model model = inf::Runtime::create().load("model.gguf");
//     inf::Session session = model.new_session();
//     for (const inf::Event &event : session.generate("Once upon a time")) std::cout << event.text();
//
// LIFE      Every class is one pointer, moves, and frees on destruction: in any order, on any thread, also while another thread uses it.
//           A default-constructed or moved-from object is empty; using it is Status::invalid_handle.
// ERRORS    What fails throws inference::Error. Compiled without exceptions, or with INFERENCE_RESULTS defined, the same functions
//           return Result<T> instead of T: `if (auto model = runtime.load(path)) use(*model); else log(model.error().what());`.
// STRUCTS   Params, infos and steps are those of inference.h with struct_size set and zeros elsewhere: all their fields are there by name.
// THREADS   As inference.h says: const members may be called by several threads at once, the others may not (Status::busy).
#ifndef INFERENCE_HPP
#define INFERENCE_HPP

#include "inference.h"

#include <cstring>
#include <exception>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#if !defined(INFERENCE_RESULTS) && !defined(__cpp_exceptions) && !defined(_CPPUNWIND)
#  define INFERENCE_RESULTS
#endif

namespace inference {

// ---- Numbers of inference.h with names and types ---------------------------------------------------------------------

using Token = inf_token;

enum class Status : inf_status {
  ok = INF_OK, invalid_argument = INF_ERR_INVALID_ARGUMENT, invalid_handle = INF_ERR_INVALID_HANDLE, abi = INF_ERR_ABI, busy = INF_ERR_BUSY,
  buffer_too_small = INF_ERR_BUFFER_TOO_SMALL, io = INF_ERR_IO, format = INF_ERR_FORMAT, unsupported = INF_ERR_UNSUPPORTED,
  out_of_memory = INF_ERR_OUT_OF_MEMORY, budget = INF_ERR_BUDGET, no_device = INF_ERR_NO_DEVICE, device_lost = INF_ERR_DEVICE_LOST,
  context_full = INF_ERR_CONTEXT_FULL, constraint = INF_ERR_CONSTRAINT, dead_end = INF_ERR_DEAD_END, template_failed = INF_ERR_TEMPLATE,
  state_mismatch = INF_ERR_STATE_MISMATCH, poisoned = INF_ERR_POISONED, cancelled = INF_ERR_CANCELLED, timeout = INF_ERR_TIMEOUT,
  internal = INF_ERR_INTERNAL, not_ready = INF_ERR_NOT_READY, shutdown = INF_ERR_SHUTDOWN, forked = INF_ERR_FORKED,
};

enum class EventType : uint32_t {
  none = INF_EV_NONE, progress = INF_EV_PROGRESS, text = INF_EV_TEXT, thinking = INF_EV_THINKING, tool_call = INF_EV_TOOL_CALL, done = INF_EV_DONE,
};

enum class Finish : uint32_t {
  none = 0, eos = INF_FINISH_EOS, stop = INF_FINISH_STOP, max_tokens = INF_FINISH_MAX_TOKENS, context_full = INF_FINISH_CONTEXT_FULL,
  tool_call = INF_FINISH_TOOL_CALL, cancelled = INF_FINISH_CANCELLED, error = INF_FINISH_ERROR,
};

// The languages of constraints.
enum class Constraint : uint32_t {
  none = 0, json_schema = INF_CONSTRAINT_JSON_SCHEMA, regex = INF_CONSTRAINT_REGEX, lark = INF_CONSTRAINT_LARK, gbnf = INF_CONSTRAINT_GBNF,
  json = INF_CONSTRAINT_JSON,
};

// "INF_ERR_BUSY".
inline const char *name_of(Status status) noexcept { return inf_status_name(static_cast<inf_status>(status)); }

// ---- Errors ----------------------------------------------------------------------------------------------------------

// What went wrong: a status, a sentence, two numbers.
class Error : public std::exception {
 public:
  Error() noexcept { raw_.status = INF_OK, raw_.message[0] = 0; }
  // What an INF_EV_DONE with INF_FINISH_ERROR says.
  explicit Error(const inf_event &event) noexcept : raw_{} {
    raw_.status = event.status;
    std::memcpy(raw_.message, event.error_text, event.error_len < sizeof raw_.message ? event.error_len : sizeof raw_.message - 1);
  }
  const char *what() const noexcept override { return raw_.message; }
  Status status() const noexcept { return static_cast<Status>(raw_.status); }
  int64_t detail(unsigned i) const noexcept { return raw_.detail[i & 1]; }
  // For calls of inference.h: its last argument.
  inf_error *raw() noexcept { return &raw_; }

 private:
  inf_error raw_;
};

// A T, or why there is none. Look before you take: the value of a failed result is undefined, as *optional is.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) noexcept : either_(std::move(value)) {}
  Result(const Error &error) noexcept : either_(error) {}
  explicit operator bool() const noexcept { return either_.index() == 0; }
  T &operator*() & noexcept { return *std::get_if<0>(&either_); }
  T &&operator*() && noexcept { return std::move(*std::get_if<0>(&either_)); }
  T *operator->() noexcept { return std::get_if<0>(&either_); }
  const Error &error() const noexcept { return *std::get_if<1>(&either_); }

 private:
  std::variant<T, Error> either_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() noexcept = default;
  Result(const Error &error) noexcept : error_(error) {}
  explicit operator bool() const noexcept { return !error_; }
  const Error &error() const noexcept { return *error_; }

 private:
  std::optional<Error> error_;
};

// Programs of both kinds can be linked together: each has classes of its own.
#ifdef INFERENCE_RESULTS
#  define INFERENCE_FAIL(error) return error
inline namespace results {
template <class T>
using Returned = Result<T>;
#else
#  define INFERENCE_FAIL(error) throw error
inline namespace exceptions {
template <class T>
using Returned = T;
#endif

// ---- Views and structs -----------------------------------------------------------------------------------------------

// n values that belong to somebody else: what std::span is in C++20.
template <class T>
class View {
 public:
  View() noexcept = default;
  View(const T *data, size_t size) noexcept : data_(data), size_(size) {}
  // A vector, an array, a span: whatever has data() and size().
  template <class C, class = decltype(std::declval<const C &>().data())>
  View(const C &values) noexcept : data_(values.data()), size_(values.size()) {}
  const T *data() const noexcept { return data_; }
  size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  const T *begin() const noexcept { return data_; }
  const T *end() const noexcept { return data_ + size_; }
  const T &operator[](size_t i) const noexcept { return data_[i]; }

 private:
  const T *data_ = nullptr;
  size_t size_ = 0;
};

// A struct of inference.h, zeroed, with its struct_size.
template <class C>
struct Sized : C {
  Sized() noexcept : C{} { this->struct_size = sizeof(C); }
};

using DeviceInfo = Sized<inf_device_info>;
using Memory = Sized<inf_memory>;
using ModelInfo = Sized<inf_model_info>;
using Plan = Sized<inf_plan>;
using SessionParams = Sized<inf_session_params>;
using Step = Sized<inf_step>;

// A struct with options_json. The string is borrowed until the call that takes the struct.
template <class C>
struct WithOptions : Sized<C> {
  WithOptions &options(std::string_view json) noexcept {
    this->options_json = json.data(), this->options_len = json.size();
    return *this;
  }
};

using RuntimeParams = WithOptions<inf_runtime_params>;
using ModelParams = WithOptions<inf_model_params>;

namespace detail {

inline void free_handle(inf_runtime *h) noexcept { inf_runtime_free(h); }
inline void free_handle(inf_load *h) noexcept { inf_load_free(h); }
inline void free_handle(inf_model *h) noexcept { inf_model_free(h); }
inline void free_handle(inf_session *h) noexcept { inf_session_free(h); }
inline void free_handle(inf_sampler *h) noexcept { inf_sampler_free(h); }
inline void free_handle(inf_generation *h) noexcept { inf_generation_free(h); }

// Owns one handle.
template <class H>
class Handle {
 public:
  Handle() noexcept = default;
  explicit Handle(H *h) noexcept : h_(h) {}
  Handle(Handle &&other) noexcept : h_(other.release()) {}
  Handle &operator=(Handle &&other) noexcept { return std::swap(h_, other.h_), *this; }
  ~Handle() { if (h_) free_handle(h_); }
  explicit operator bool() const noexcept { return h_ != nullptr; }
  // For calls of inference.h; stays owned.
  H *get() const noexcept { return h_; }
  // Gives up ownership.
  H *release() noexcept { return std::exchange(h_, nullptr); }

 private:
  H *h_ = nullptr;
};

// A T made by a call that fills (H **out, inf_error *).
template <class T, class H, class Call>
Returned<T> make(Call call) {
  H *out = nullptr;
  Error error;
  if (call(&out, error.raw())) INFERENCE_FAIL(error);
  return T(out);
}

// A call that gives nothing but a status.
template <class Call>
Returned<void> check(Call call) {
  Error error;
  if (call(error.raw())) INFERENCE_FAIL(error);
  return Returned<void>();
}

// A struct or number that a call fills.
template <class T, class Call>
Returned<T> filled(Call call) {
  T out{};
  Error error;
  if (call(&out, error.raw())) INFERENCE_FAIL(error);
  return out;
}

// A string or vector from a call (buffer, capacity, *length): once if guess is enough, else twice.
template <class C, class Call>
Returned<C> buffered(size_t guess, Call call) {
  C out(guess, typename C::value_type());
  size_t length = 0;
  Error error;
  inf_status status = call(out.data(), out.size(), &length, error.raw());
  if (status == INF_ERR_BUFFER_TOO_SMALL) {
    out.resize(length + 1); // with room for the NUL
    status = call(out.data(), out.size(), &length, error.raw());
  }
  if (status) INFERENCE_FAIL(error);
  out.resize(length);
  return out;
}

} // namespace detail

// ---- Sources: where a model's bytes come from ------------------------------------------------------------------------

// One input file. Handing it to a load gives it away; what it owns is destroyed when the load does not need it any more.
class Source {
 public:
  static Source path(const char *utf8) noexcept {
    Source s(INF_SOURCE_PATH);
    s.raw_.path = utf8;
    return s;
  }
  // An open file, or size bytes of it from offset (0 = all that follow). Duplicated by the load.
  static Source native(intptr_t fd, uint64_t offset = 0, uint64_t size = 0) noexcept {
    Source s(INF_SOURCE_NATIVE);
    s.raw_.native = fd, s.raw_.offset = offset, s.raw_.size = size;
    return s;
  }
  // Bytes that stay yours, until the load has ended.
  static Source borrowed(View<unsigned char> bytes, const char *name = nullptr) noexcept {
    Source s(INF_SOURCE_MEMORY);
    s.raw_.data = bytes.data(), s.raw_.size = bytes.size(), s.raw_.name = name;
    return s;
  }
  // A container of bytes, moved in.
  template <class Bytes>
  static Source memory(Bytes bytes, const char *name = nullptr) {
    Bytes *kept = new Bytes(std::move(bytes));
    Source s(INF_SOURCE_MEMORY);
    s.raw_.data = kept->data(), s.raw_.size = kept->size(), s.raw_.name = name;
    s.own(kept);
    return s;
  }
  // A callable `size_t (uint64_t offset, void *to, size_t n)` that reads as pread does, on any thread, and does not throw.
  template <class Read>
  static Source reader(uint64_t size, Read read, const char *name = nullptr) {
    Source s(INF_SOURCE_READER);
    s.raw_.size = size, s.raw_.name = name;
    s.raw_.read_at = [](void *user, uint64_t offset, void *to, size_t n) noexcept -> size_t { return (*static_cast<Read *>(user))(offset, to, n); };
    s.own(new Read(std::move(read)));
    return s;
  }

  Source(Source &&other) noexcept : raw_(other.give()) {}
  Source &operator=(Source &&other) noexcept { return std::swap(raw_, other.raw_), *this; }
  ~Source() { if (raw_.release) raw_.release(raw_.user); }
  // For calls of inference.h: the struct, whose release is now up to the load.
  Sized<inf_source> give() noexcept { return std::exchange(raw_, Sized<inf_source>()); }

 private:
  explicit Source(uint32_t kind) noexcept { raw_.kind = kind; }
  template <class T>
  void own(T *kept) noexcept { raw_.user = kept, raw_.release = [](void *user) { delete static_cast<T *>(user); }; }

  Sized<inf_source> raw_;
};

// ---- Generations -----------------------------------------------------------------------------------------------------

// One message of a generation. What it points to is there until the next one is asked for.
class Event {
 public:
  EventType type() const noexcept { return static_cast<EventType>(raw_.type); }
  std::string_view text() const noexcept { return { raw_.text, raw_.text_len }; }
  View<Token> tokens() const noexcept { return { raw_.tokens, raw_.n_tokens }; }
  // One object per token, in the shape of OpenAI's API; "" if it was not asked for.
  std::string_view logprobs_json() const noexcept { return { raw_.logprobs_json, raw_.logprobs_len }; }
  Finish finish() const noexcept { return static_cast<Finish>(raw_.finish); }
  Status status() const noexcept { return static_cast<Status>(raw_.status); }
  std::string_view error_text() const noexcept { return { raw_.error_text, raw_.error_len }; }
  // Everything else: progress, usage, times.
  const inf_event &raw() const noexcept { return raw_; }
  inf_event &raw() noexcept { return raw_; }

 private:
  Sized<inf_event> raw_;
};

// One running request. Range-for waits for its events, the last of which is EventType::done, and throws what fails. With results instead
// of exceptions, what fails is in the last event, with Finish::error; as it is, always, for those who call next.
class Generation : public detail::Handle<inf_generation> {
 public:
  using Handle::Handle;

  // inf_generation_next: what comes within timeout_ms, EventType::none if nothing does.
  Returned<Event> next(int32_t timeout_ms = INF_WAIT_FOREVER) {
    Event event;
    Error error;
    if (inf_generation_next(get(), timeout_ms, &event.raw(), error.raw())) INFERENCE_FAIL(error);
    return event;
  }
  // inf_generation_cancel. Any thread.
  void cancel() const noexcept { inf_generation_cancel(get()); }

  struct Sentinel {};
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Event;
    using difference_type = std::ptrdiff_t;
    using pointer = const Event *;
    using reference = const Event &;
    explicit Iterator(inf_generation *g) : g_(g) { wait(); }
    const Event &operator*() const noexcept { return event_; }
    const Event *operator->() const noexcept { return &event_; }
    Iterator &operator++() {
      event_.type() == EventType::done ? void(ended_ = true) : wait();
      return *this;
    }
    bool operator!=(Sentinel) const noexcept { return !ended_; }
    bool operator==(Sentinel) const noexcept { return ended_; }

   private:
    void wait() {
      inf_event &raw = event_.raw();
      inf_status status = inf_generation_next(g_, INF_WAIT_FOREVER, &raw, error_.raw());
#ifdef INFERENCE_RESULTS
      if (!status) return;
      raw = Sized<inf_event>();
      raw.type = INF_EV_DONE, raw.finish = INF_FINISH_ERROR, raw.status = status;
      raw.error_text = error_.what(), raw.error_len = std::strlen(error_.what());
#else
      if (status) throw error_;
      if (raw.finish == INF_FINISH_ERROR) throw Error(raw);
#endif
    }

    inf_generation *g_;
    bool ended_ = false;
    Event event_;
    Error error_;
  };
  Iterator begin() { return Iterator(get()); }
  Sentinel end() const noexcept { return {}; }
};

// ---- Samplers --------------------------------------------------------------------------------------------------------

// A chain of stages; greedy while it is empty.
class Sampler : public detail::Handle<inf_sampler> {
 public:
  using Handle::Handle;

  Returned<Sampler> clone() const { return detail::make<Sampler, inf_sampler>([this](auto... a) { return inf_sampler_clone(get(), a...); }); }
  Returned<void> reset() { return detail::check([this](auto e) { return inf_sampler_reset(get(), e); }); }
  Returned<void> set_seed(uint64_t seed) { return detail::check([&](auto e) { return inf_sampler_set_seed(get(), seed, e); }); }
  Returned<void> add_temperature(float t) { return detail::check([&](auto e) { return inf_sampler_add_temperature(get(), t, e); }); }
  Returned<void> add_top_k(uint32_t k) { return detail::check([&](auto e) { return inf_sampler_add_top_k(get(), k, e); }); }
  Returned<void> add_top_p(float p) { return detail::check([&](auto e) { return inf_sampler_add_top_p(get(), p, e); }); }
  Returned<void> add_min_p(float p) { return detail::check([&](auto e) { return inf_sampler_add_min_p(get(), p, e); }); }
  Returned<void> add_typical_p(float p) { return detail::check([&](auto e) { return inf_sampler_add_typical_p(get(), p, e); }); }
  Returned<void> add_top_n_sigma(float n) { return detail::check([&](auto e) { return inf_sampler_add_top_n_sigma(get(), n, e); }); }
  Returned<void> add_mirostat(float tau, float eta) { return detail::check([&](auto e) { return inf_sampler_add_mirostat(get(), tau, eta, e); }); }
  Returned<void> add_dynamic_temperature(float min, float max, float exponent = 1) {
    return detail::check([&](auto e) { return inf_sampler_add_dynamic_temperature(get(), min, max, exponent, e); });
  }
  Returned<void> add_xtc(float probability, float threshold) {
    return detail::check([&](auto e) { return inf_sampler_add_xtc(get(), probability, threshold, e); });
  }
  Returned<void> add_dry(float multiplier, float base, uint32_t allowed_len, uint32_t last_n, std::string_view breakers_json = {}) {
    return detail::check([&](auto e) {
      return inf_sampler_add_dry(get(), multiplier, base, allowed_len, last_n, breakers_json.data(), breakers_json.size(), e);
    });
  }
  // As many biases as tokens.
  Returned<void> add_logit_bias(View<Token> tokens, View<float> bias) {
    size_t n = tokens.size() < bias.size() ? tokens.size() : bias.size();
    return detail::check([&](auto e) { return inf_sampler_add_logit_bias(get(), tokens.data(), bias.data(), n, e); });
  }
  Returned<void> add_penalties(uint32_t last_n, float repeat, float frequency = 0, float presence = 0) {
    return detail::check([&](auto e) { return inf_sampler_add_penalties(get(), last_n, repeat, frequency, presence, e); });
  }
  Returned<Token> pick(View<float> logits) {
    return detail::filled<Token>([&](auto... a) { return inf_sampler_pick(get(), logits.data(), logits.size(), a...); });
  }
  Returned<void> accept(Token t) { return detail::check([&](auto e) { return inf_sampler_accept(get(), t, e); }); }
  // Only what continues a text of this language; Constraint::none and no source allow everything again.
  Returned<void> set_constraint(Constraint kind, std::string_view source = {}) {
    return detail::check([&](auto e) { return inf_sampler_set_constraint(get(), static_cast<uint32_t>(kind), source.data(), source.size(), e); });
  }
};

// ---- Sessions --------------------------------------------------------------------------------------------------------

// What to generate. The strings are borrowed until the call that takes it.
struct GenerateParams : Sized<inf_generate_params> {
  GenerateParams(std::string_view prompt = {}, uint32_t most_tokens = 0) noexcept { text = prompt.data(), text_len = prompt.size(), max_tokens = most_tokens; }
  GenerateParams(const char *prompt, uint32_t most_tokens = 0) noexcept : GenerateParams(std::string_view(prompt), most_tokens) {}
  // A JSON array of strings.
  GenerateParams &stop(std::string_view json) noexcept { return stop_json = json.data(), stop_len = json.size(), *this; }
  // A whole conversation instead of a prompt, with the tools it may call, and options of the template.
  GenerateParams &chat(std::string_view messages, std::string_view tools = {}, std::string_view options = {}) noexcept {
    messages_json = messages.data(), messages_len = messages.size();
    tools_json = tools.data(), tools_len = tools.size(), options_json = options.data(), options_len = options.size();
    return *this;
  }
  GenerateParams &with(const Sampler &chain) noexcept { return sampler = chain.get(), *this; }
  // For a prompt too: {"response_format":{..}}; for chats also tool_choice and what the template knows.
  GenerateParams &options(std::string_view json) noexcept { return options_json = json.data(), options_len = json.size(), *this; }
  // The probability of each token, and of the n likeliest ones in its place.
  GenerateParams &logprobs(uint32_t n) noexcept { return top_logprobs = n, *this; }
};

// One sequence of tokens.
class Session : public detail::Handle<inf_session> {
 public:
  using Handle::Handle;

  // inf_generate_start. Not on a temporary: a session that is destroyed cancels its generation.
  Returned<Generation> generate(const GenerateParams &params) & {
    return detail::make<Generation, inf_generation>([&](auto... a) { return inf_generate_start(get(), &params, a...); });
  }
  // inf_generate_json: prompt or messages, sampling and all else in one JSON text.
  Returned<Generation> generate_json(std::string_view request) & {
    return detail::make<Generation, inf_generation>([&](auto... a) { return inf_generate_json(get(), request.data(), request.size(), a...); });
  }
  Returned<Session> fork() { return detail::make<Session, inf_session>([this](auto... a) { return inf_session_fork(get(), a...); }); }
  Returned<void> truncate(uint32_t n_tokens) { return detail::check([&](auto e) { return inf_session_truncate(get(), n_tokens, e); }); }
  uint32_t n_tokens() const noexcept { return inf_session_n_tokens(get()); }
  Returned<void> append(View<Token> tokens) {
    return detail::check([&](auto e) { return inf_session_append(get(), tokens.data(), tokens.size(), e); });
  }
  // inf_session_step with a chain that chooses the next token.
  Returned<Step> step(Sampler &chain, uint32_t budget_us = 0, uint32_t flags = 0) { return step(chain.get(), budget_us, flags); }
  // inf_session_step that chooses nothing.
  Returned<Step> step(uint32_t budget_us = 0) { return step(nullptr, budget_us, 0); }
  // What the session is, as bytes, and back.
  Returned<std::string> save() {
    size_t size = 0;
    Error error;
    if (inf_session_save(get(), nullptr, 0, &size, error.raw())) INFERENCE_FAIL(error);
    return detail::buffered<std::string>(size, [this](auto... a) { return inf_session_save(get(), a...); });
  }
  Returned<void> restore(std::string_view saved) {
    return detail::check([&](auto e) { return inf_session_restore(get(), saved.data(), saved.size(), e); });
  }
  Returned<void> save_file(const char *path) { return detail::check([&](auto e) { return inf_session_save_file(get(), path, e); }); }
  Returned<void> restore_file(const char *path) { return detail::check([&](auto e) { return inf_session_restore_file(get(), path, e); }); }
  // inf_session_logits: of the last position, until the next call on this session.
  Returned<View<float>> logits() & {
    const float *data = nullptr;
    size_t n = 0;
    Error error;
    if (inf_session_logits(get(), &data, &n, error.raw())) INFERENCE_FAIL(error);
    return View<float>(data, n);
  }

 private:
  Returned<Step> step(inf_sampler *chain, uint32_t budget_us, uint32_t flags) {
    return detail::filled<Step>([&](auto... a) { return inf_session_step(get(), chain, budget_us, flags, a...); });
  }
};

// ---- Models and loads ------------------------------------------------------------------------------------------------

// Weights and a tokenizer, shared by any number of sessions.
class Model : public detail::Handle<inf_model> {
 public:
  using Handle::Handle;

  // inf_model_ref: a second owner.
  Model share() const noexcept { return Model(inf_model_ref(get())); }
  Returned<ModelInfo> info() const { return detail::filled<ModelInfo>([this](auto... a) { return inf_model_get_info(get(), a...); }); }
  Returned<std::string> metadata(const char *key) const {
    return detail::buffered<std::string>(64, [&](auto... a) { return inf_model_metadata(get(), key, a...); });
  }
  // As a GGUF file, as it is held: quantised or not.
  Returned<void> save_gguf(const char *path) const { return detail::check([&](auto e) { return inf_model_save_gguf(get(), path, e); }); }
  bool is_eog(Token t) const noexcept { return inf_model_is_eog(get(), t) != 0; }

  // flags: INF_TOK_*.
  Returned<std::vector<Token>> tokenize(std::string_view text, uint32_t flags = INF_TOK_ADD_SPECIAL) const {
    size_t guess = text.size() / 2 + 8;
    return detail::buffered<std::vector<Token>>(guess, [&](auto... a) { return inf_tokenize(get(), text.data(), text.size(), flags, a...); });
  }
  Returned<std::string> detokenize(View<Token> tokens, uint32_t flags = 0) const {
    size_t guess = tokens.size() * 6 + 16;
    return detail::buffered<std::string>(guess, [&](auto... a) { return inf_detokenize(get(), tokens.data(), tokens.size(), flags, a...); });
  }
  Returned<std::string> token_bytes(Token t) const {
    return detail::buffered<std::string>(64, [&](auto... a) { return inf_token_bytes(get(), t, a...); });
  }

  Returned<Sampler> new_sampler() const { return detail::make<Sampler, inf_sampler>([this](auto... a) { return inf_sampler_create(get(), a...); }); }
  // inf_sampler_from_json.
  Returned<Sampler> new_sampler(std::string_view json) const {
    return detail::make<Sampler, inf_sampler>([&](auto... a) { return inf_sampler_from_json(get(), json.data(), json.size(), a...); });
  }
  // inf_chat_render: the prompt that a chat would compute.
  Returned<std::string> render_chat(std::string_view messages, std::string_view tools = {}, std::string_view options = {}) const {
    return detail::buffered<std::string>(1024, [&](auto... a) {
      return inf_chat_render(get(), messages.data(), messages.size(), tools.data(), tools.size(), options.data(), options.size(), a...);
    });
  }
  Returned<Session> new_session(const SessionParams &params = {}) const {
    return detail::make<Session, inf_session>([&](auto... a) { return inf_session_create(get(), &params, a...); });
  }
};

// A model load in the background.
class Load : public detail::Handle<inf_load> {
 public:
  using Handle::Handle;

  // inf_load_wait: the model if the load ends within timeout_ms. progress gets the share of bytes read, 0 to 1.
  Returned<std::optional<Model>> poll(int32_t timeout_ms = 0, float *progress = nullptr) {
    inf_model *out = nullptr;
    Error error;
    inf_status status = inf_load_wait(get(), timeout_ms, progress, &out, error.raw());
    if (status == INF_ERR_TIMEOUT) return std::optional<Model>();
    if (status) INFERENCE_FAIL(error);
    return std::optional<Model>(Model(out));
  }
  // inf_load_wait until the end.
  Returned<Model> wait() {
    return detail::make<Model, inf_model>([this](auto... a) { return inf_load_wait(get(), INF_WAIT_FOREVER, nullptr, a...); });
  }
  // inf_load_cancel. Any thread.
  void cancel() const noexcept { inf_load_cancel(get()); }
};

// ---- Runtimes --------------------------------------------------------------------------------------------------------

struct LogLine {
  uint32_t level; // 1 error, 2 warning, 3 info, 4 debug; 0 = no line waits
  std::string text;
};

// Threads, devices, log.
class Runtime : public detail::Handle<inf_runtime> {
 public:
  using Handle::Handle;

  static Returned<Runtime> create(const RuntimeParams &params = {}) {
    return detail::make<Runtime, inf_runtime>([&](auto... a) { return inf_runtime_create(&params, a...); });
  }
  Returned<void> shutdown(int32_t timeout_ms = INF_WAIT_FOREVER) {
    return detail::check([&](auto e) { return inf_runtime_shutdown(get(), timeout_ms, e); });
  }
  // inf_runtime_pump: whether work may remain.
  Returned<uint32_t> pump(uint32_t budget_us) {
    return detail::filled<uint32_t>([&](auto... a) { return inf_runtime_pump(get(), budget_us, a...); });
  }
  Returned<Memory> memory() const { return detail::filled<Memory>([this](auto... a) { return inf_runtime_memory(get(), a...); }); }
  // inf_model_estimate: what a model of these sources will need.
  Returned<Plan> estimate(std::vector<Source> sources, ModelParams params = {}) {
    Sources taken(sources, params);
    return detail::filled<Plan>([&](auto... a) { return inf_model_estimate(get(), &params, a...); });
  }
  Returned<Plan> estimate(Source source, ModelParams params = {}) { return estimate(list_of(std::move(source)), params); }
  // inf_runtime_next_log. One reader at a time, or a line may change between asking for its length and taking it.
  Returned<LogLine> next_log() {
    LogLine line = { 0, std::string(256, 0) };
    size_t length = 0;
    Error error;
    inf_status status = INF_ERR_BUFFER_TOO_SMALL;
    while ((status = inf_runtime_next_log(get(), line.text.data(), line.text.size(), &length, &line.level, error.raw())) == INF_ERR_BUFFER_TOO_SMALL)
      line.text.resize(length + 1);
    if (status) INFERENCE_FAIL(error);
    line.text.resize(length);
    return line;
  }
  uint32_t n_devices() const noexcept { return inf_device_count(get()); }
  Returned<DeviceInfo> device(uint32_t i) const { return detail::filled<DeviceInfo>([&](auto... a) { return inf_device_get(get(), i, a...); }); }

  // inf_load_start_path: the file at path (UTF-8).
  Returned<Load> start_load(std::string_view path, std::string_view options_json = {}) {
    return detail::make<Load, inf_load>([&](auto... a) {
      return inf_load_start_path(get(), path.data(), path.size(), options_json.empty() ? nullptr : options_json.data(), options_json.size(), a...);
    });
  }
  // inf_load_start.
  Returned<Load> start_load(std::vector<Source> sources, ModelParams params = {}) {
    Sources taken(sources, params);
    return detail::make<Load, inf_load>([&](auto... a) { return inf_load_start(get(), &params, a...); });
  }
  // One source: `runtime.start_load(Source::path(path))`.
  Returned<Load> start_load(Source source, ModelParams params = {}) { return start_load(list_of(std::move(source)), params); }
  // Loads the file at path and waits for it.
  Returned<Model> load(std::string_view path, std::string_view options_json = {}) {
#ifdef INFERENCE_RESULTS
    Result<Load> load = start_load(path, options_json);
    if (!load) return load.error();
    return load->wait();
#else
    return start_load(path, options_json).wait();
#endif
  }
  // inf_model_load.
  Returned<Model> load(std::vector<Source> sources, ModelParams params = {}) {
    Sources taken(sources, params);
    return detail::make<Model, inf_model>([&](auto... a) { return inf_model_load(get(), &params, a...); });
  }
  // One source: `runtime.load(Source::memory(bytes))`.
  Returned<Model> load(Source source, ModelParams params = {}) { return load(list_of(std::move(source)), params); }

 private:
  static std::vector<Source> list_of(Source source) {
    std::vector<Source> one;
    one.push_back(std::move(source));
    return one;
  }
  // Gives sources to params, for a call that releases them whether it fails or not.
  struct Sources {
    Sources(std::vector<Source> &sources, ModelParams &params) {
      structs.reserve(sources.size()), pointers.reserve(sources.size());
      for (Source &source : sources) structs.push_back(source.give()), pointers.push_back(&structs.back());
      params.n_sources = static_cast<uint32_t>(pointers.size()), params.sources = pointers.data();
    }
    std::vector<Sized<inf_source>> structs;
    std::vector<const inf_source *> pointers;
  };
};

} // inline namespace
} // namespace inference

#undef INFERENCE_FAIL
#endif // INFERENCE_HPP
