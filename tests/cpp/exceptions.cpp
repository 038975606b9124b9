// The C++ classes as most programs use them: errors are thrown.
#include "check.hpp"
#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

static_assert(sizeof(inf::Model) == sizeof(void *) && sizeof(inf::Generation) == sizeof(void *), "a class is a handle");
static_assert(!std::is_copy_constructible_v<inf::Session> && std::is_nothrow_move_constructible_v<inf::Session>);
static_assert(!std::is_copy_constructible_v<inf::Source> && std::is_nothrow_move_assignable_v<inf::Sampler>);

template <class F>
static void throws(inf::Status expected, F f) {
  try {
    f();
  } catch (const inf::Error &error) {
    if (error.status() == expected && error.what()[0]) return;
    std::fprintf(stderr, "%s, not %s: %s\n", inf::name_of(error.status()), inf::name_of(expected), error.what());
    std::exit(1);
  }
  CHECK(!"nothing was thrown");
}

// The text of a generation, and how it ended.
static std::pair<std::string, inf::Finish> read_all(inf::Generation g) {
  std::pair<std::string, inf::Finish> all;
  unsigned ends = 0;
  for (const inf::Event &event : g) {
    CHECK(event.type() != inf::EventType::none && ends == 0);
    all.first += event.text();
    if (event.type() == inf::EventType::done) all.second = event.finish(), ends++;
  }
  CHECK(ends == 1);
  return all;
}

static void generations(const inf::Model &model) {
  inf::Sampler greedy = model.new_sampler();
  inf::Session session = model.new_session();
  auto [text, finish] = read_all(session.generate(inf::GenerateParams("The smith", 24).with(greedy)));
  CHECK(!text.empty() && finish != inf::Finish::error);
  CHECK(session.n_tokens() > 0);

  // Tokens behind the text are the text.
  session.truncate(0);
  std::vector<inf::Token> tokens;
  for (const inf::Event &event : session.generate(inf::GenerateParams("The smith", 24).with(greedy)))
    tokens.insert(tokens.end(), event.tokens().begin(), event.tokens().end());
  CHECK(model.detokenize(tokens, INF_TOK_CONTINUES) == text);

  // Polled: the same.
  session.truncate(0);
  inf::Generation g = session.generate(inf::GenerateParams("The smith", 24).with(greedy));
  std::string polled;
  for (;;) {
    inf::Event event = g.next(0);
    polled += event.text();
    if (event.type() == inf::EventType::done) break;
    if (event.type() == inf::EventType::none) std::this_thread::yield();
  }
  CHECK(polled == text);

  // A stop string is not part of the answer.
  session.truncate(0);
  auto stopped = read_all(session.generate(inf::GenerateParams("The smith", 24).with(greedy).stop("[\" \"]")));
  CHECK(stopped.second == inf::Finish::stop && stopped.first.find(' ') == std::string::npos);
  throws(inf::Status::invalid_argument, [&] { session.generate(inf::GenerateParams("The smith").stop("[1]")); });
  throws(inf::Status::invalid_argument, [&] { session.generate("\xFF"); });

  // What fails inside is thrown by the loop, and is the last event for those who poll.
  inf::SessionParams small;
  small.n_ctx = 4;
  inf::Session tiny = model.new_session(small);
  throws(inf::Status::context_full, [&] { read_all(tiny.generate("The smith went to the forge and found no iron there")); });
  g = tiny.generate("The smith went to the forge and found no iron there");
  inf::Event event = g.next();
  while (event.type() != inf::EventType::done) event = g.next();
  CHECK(event.finish() == inf::Finish::error && event.status() == inf::Status::context_full && !event.error_text().empty());
}

static void cancel_and_order(const inf::Model &model) {
  inf::Session session = model.new_session();
  inf::Generation g = session.generate("The smith");
  throws(inf::Status::busy, [&] { session.truncate(0); });
  std::thread other([&] { g.cancel(); });
  inf::Finish finish = inf::Finish::none;
  for (const inf::Event &event : g) finish = event.finish();
  other.join();
  CHECK(finish == inf::Finish::cancelled || finish == inf::Finish::eos || finish == inf::Finish::context_full);

  // Parents first; moved-from objects are empty; the children still work.
  inf::Model shared = model.share();
  inf::Session child = shared.new_session();
  { inf::Model gone = std::move(shared); }
  CHECK(!shared && child);
  throws(inf::Status::invalid_handle, [&] { shared.info(); });
  CHECK(read_all(child.generate({ "The smith", 4 })).second != inf::Finish::error);
  inf::Session taken;
  taken = std::move(child);
  CHECK(taken.n_tokens() > 4 && child.n_tokens() == 0);
  inf::Generation running = taken.generate("on");
  taken = inf::Session();
}

static void own_loop(const inf::Model &model) {
  inf::Session session = model.new_session();
  throws(inf::Status::not_ready, [&] { session.logits(); });
  std::vector<inf::Token> prompt = model.tokenize("The smith");
  CHECK(prompt.size() > 1 && model.detokenize(prompt) == "The smith");
  CHECK(!model.token_bytes(prompt.back()).empty());
  session.append(prompt);
  CHECK(session.step().token == -1);
  inf::View<float> logits = session.logits();
  CHECK(logits.size() == model.info().n_vocab);

  inf::Sampler chain = model.new_sampler();
  chain.set_seed(7), chain.add_penalties(64, 1.1f), chain.add_top_k(40), chain.add_top_p(0.95f), chain.add_min_p(0.05f), chain.add_temperature(0.8f);
  throws(inf::Status::invalid_argument, [&] { chain.add_temperature(-1); });
  inf::Sampler twin = chain.clone();
  inf::Token first = chain.pick(logits);
  CHECK(twin.pick(logits) == first && !model.is_eog(first));
  chain.reset(), chain.accept(first);

  inf::Sampler only = model.new_sampler();
  only.set_constraint(inf::Constraint::regex, "[ab]");
  std::string letter = model.token_bytes(only.pick(logits));
  CHECK(letter == "a" || letter == "b");
  only.set_constraint(inf::Constraint::none);
  throws(inf::Status::constraint, [&] { only.set_constraint(inf::Constraint::json_schema, "{"); });
  inf::Session formatted = model.new_session();
  std::string said, probabilities;
  for (const inf::Event &event : formatted.generate(inf::GenerateParams("Say").options("{\"response_format\":{\"type\":\"regex\",\"regex\":\"yes|no\"}}").logprobs(1))) {
    if (event.type() == inf::EventType::text) said += event.text();
    probabilities += event.logprobs_json();
  }
  CHECK((said == "yes" || said == "no") && probabilities.find("top_logprobs") != std::string::npos);

  inf::Session fork = session.fork();
  fork.append(std::vector<inf::Token>{ first });
  CHECK(fork.n_tokens() == session.n_tokens() + 1);
  inf::Step step = fork.step(chain, 0, INF_STEP_IGNORE_EOG);
  CHECK(step.state == INF_STEP_TOKEN && step.token >= 0);
}

static void chats_and_states(const inf::Model &model) {
  const char *messages = "[{\"role\":\"user\",\"content\":\"Who are you?\"}]", *options = "{\"chat_template\":\"{{ messages[0].content }} I am\"}";
  CHECK(model.render_chat(messages, {}, options) == "Who are you? I am");
  throws(inf::Status::invalid_argument, [&] { model.render_chat("[1]", {}, options); });
  inf::Sampler chain = model.new_sampler("{\"temperature\":0.8,\"top_k\":40,\"seed\":7}");
  throws(inf::Status::invalid_argument, [&] { model.new_sampler("{\"heat\":1}"); });
  chain.add_typical_p(0.9f), chain.add_top_n_sigma(2), chain.add_dynamic_temperature(0.5f, 1), chain.add_xtc(0.1f, 0.1f), chain.add_dry(0.8f, 1.75f, 2, 64);
  chain.add_logit_bias(std::vector<inf::Token>{ 5 }, std::vector<float>{ -1 }), chain.add_mirostat(5, 0.1f);
  inf::Session session = model.new_session(), copy = model.new_session();
  CHECK(!read_all(session.generate(inf::GenerateParams("", 8).chat(messages, {}, options).with(chain))).first.empty());
  std::string saved = session.save();
  copy.restore(saved);
  CHECK(copy.n_tokens() == session.n_tokens() && copy.save() == saved);
  throws(inf::Status::state_mismatch, [&] { copy.restore("not a state"); });
  throws(inf::Status::io, [&] { copy.save_file("no/such/folder/state"); });
  throws(inf::Status::io, [&] { copy.restore_file("no/such/state"); });
  const char *request = "{\"text\":\" and\",\"max_tokens\":4,\"sampling\":{\"temperature\":0}}";
  CHECK(read_all(session.generate_json(request)).first == read_all(copy.generate_json(request)).first);
}

static void sources(inf::Runtime &rt, const char *path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  inf::Session session = rt.load(inf::Source::path(path)).new_session();
  CHECK(read_all(session.generate({ "The", 2 })).second != inf::Finish::error);
  CHECK(rt.load(inf::Source::memory(bytes, "kept.gguf")).info().n_vocab > 0);
  inf::View<unsigned char> view(reinterpret_cast<const unsigned char *>(bytes.data()), bytes.size());
  CHECK(rt.load(inf::Source::borrowed(view)).info().n_vocab > 0);

  // What a reader owns is gone when the load has ended, also when it fails, also when it never began.
  auto alive = std::make_shared<std::atomic<int>>(0);
  auto read = [&bytes, alive](uint64_t offset, void *to, size_t n) {
    (*alive)++;
    std::memcpy(to, bytes.data() + offset, n);
    return n;
  };
  CHECK(rt.load(inf::Source::reader(bytes.size(), read, "pak.gguf")).info().n_vocab > 0 && *alive > 0);
  throws(inf::Status::format, [&] { rt.load(inf::Source::reader(bytes.size() / 2, read)); });
  throws(inf::Status::invalid_handle, [&] { inf::Runtime().load(inf::Source::reader(bytes.size(), read)); });
  { inf::Source unused = inf::Source::reader(1, read); inf::Source moved = std::move(unused); }
  CHECK(alive.use_count() == 2);
  throws(inf::Status::invalid_argument, [&] { rt.load(inf::Source::native(-1)); });
  try {
    rt.load("no/such/file.gguf");
  } catch (const std::exception &error) {
    CHECK(std::strstr(error.what(), "no/such/file.gguf"));
  }
}

static void loads(inf::Runtime &rt, const char *path) {
  inf::Load load = rt.start_load(path, "{\"n_ctx\":128}");
  std::optional<inf::Model> model;
  float progress = 0;
  while (!(model = load.poll(1, &progress))) CHECK(progress < 1);
  CHECK(progress == 1 && *model);
  throws(inf::Status::invalid_argument, [&] { load.wait(); });
  inf::Load other = rt.start_load(inf::Source::path(path));
  other.cancel();
  try { other.wait(); } catch (const inf::Error &error) { CHECK(error.status() == inf::Status::cancelled); }
}

int main(int argc, char **argv) {
  CHECK(argc > 1 && !std::strcmp(inf::name_of(inf::Status::busy), "INF_ERR_BUSY"));
  std::string options = options_of(argc, argv);
  inf::RuntimeParams params;
  params.n_threads = 2, params.log_level = 4, params.options(options);
  inf::Runtime rt = inf::Runtime::create(params);
  CHECK(rt.n_devices() >= 1 && !std::strcmp(rt.device(0).id, "cpu"));
  throws(inf::Status::invalid_argument, [&] { rt.device(1000); });
  throws(inf::Status::invalid_argument, [] { inf::RuntimeParams bad; inf::Runtime::create(bad.options("{\"?\":1}")); });
  throws(inf::Status::invalid_argument, [&] { rt.pump(0); });

  inf::Model model = rt.load(argv[1]);
  CHECK(model.metadata("general.architecture") == model.info().architecture);
  throws(inf::Status::invalid_argument, [&] { model.metadata("no.such.key"); });
  generations(model);
  cancel_and_order(model);
  own_loop(model);
  chats_and_states(model);
  CHECK(rt.memory().host > 0 && rt.estimate(inf::Source::path(argv[1])).fits == 1);
  sources(rt, argv[1]);
  loads(rt, argv[1]);

  inf::LogLine line = rt.next_log();
  CHECK(line.level >= 1 && line.level <= 4 && !line.text.empty());
  while (line.level) line = rt.next_log();
  rt.shutdown();
  throws(inf::Status::shutdown, [&] { model.new_session(); });
  return 0;
}
