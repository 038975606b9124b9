// The C++ classes in a program without exceptions: what fails is in the Result.
#include "check.hpp"

#ifdef __cpp_exceptions
#  error "compile with -fno-exceptions"
#endif

int main(int argc, char **argv) {
  CHECK(argc > 1);
  std::string options = options_of(argc, argv);
  inf::RuntimeParams params;
  params.host_driven = 1, params.options(options);
  inf::Result<inf::Runtime> rt = inf::Runtime::create(params);
  CHECK(rt);
  inf::Result<uint32_t> more = rt->pump(100);
  CHECK(more && *more == 0);

  inf::Result<inf::Model> missing = rt->load("no/such/file.gguf");
  CHECK(!missing && missing.error().status() == inf::Status::io && std::strstr(missing.error().what(), "no/such/file.gguf"));
  inf::Result<inf::Model> loaded = rt->load(argv[1]);
  CHECK(loaded);
  inf::Model model = *std::move(loaded);

  inf::Result<inf::Session> session = model.new_session();
  inf::Result<inf::Sampler> chain = model.new_sampler();
  CHECK(session && chain && chain->add_temperature(0.5f));
  inf::Result<void> refused = chain->add_temperature(-1);
  CHECK(!refused && refused.error().status() == inf::Status::invalid_argument);

  inf::Result<inf::Generation> g = session->generate(inf::GenerateParams("The smith", 8).with(*chain));
  CHECK(g);
  std::string text;
  for (const inf::Event &event : *g) text += event.text();
  CHECK(!text.empty());
  inf::Result<inf::Event> again = g->next();
  CHECK(again && again->type() == inf::EventType::done);

  // Waiting that fails is a last event, too.
  unsigned n = 0;
  for (const inf::Event &event : inf::Generation()) {
    CHECK(event.type() == inf::EventType::done && event.finish() == inf::Finish::error && event.status() == inf::Status::invalid_handle);
    CHECK(!event.error_text().empty() && ++n == 1);
  }
  CHECK(n == 1 && rt->shutdown());
  return 0;
}
