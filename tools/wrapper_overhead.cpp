// What reading one event costs in C and in C++, when all events of a generation wait in the queue. Go and Python measure the same:
// BenchmarkEvents in bindings/go, tools/wrapper_overhead.py. Usage: wrapper_overhead model.gguf
#include "inference.hpp"
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <thread>

namespace inf = inference;

static constexpr int ROUNDS = 20;

// A generation of which every event is queued.
static inf::Generation full(inf::Session &session, const inf::Sampler &greedy) {
  inf::GenerateParams params("The smith", 200);
  params.queue_capacity = 4096;
  inf::Generation g = session.generate(params.with(greedy));
  while (inf_session_truncate(session.get(), 1u << 20, nullptr) == INF_ERR_BUSY) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return g;
}

// Both copy the text, as a program would.
static unsigned read_in_c(inf_generation *g, char *text) {
  inf_error err;
  inf_event ev = {};
  ev.struct_size = sizeof ev;
  unsigned n = 0;
  while (!inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err) && ++n && ev.type != INF_EV_DONE)
    if (ev.type == INF_EV_TEXT) std::memcpy(text, ev.text, ev.text_len), text += ev.text_len;
  return n;
}

static unsigned read_in_cpp(inf::Generation &g, char *text) {
  unsigned n = 0;
  for (const inf::Event &event : g) n++, std::memcpy(text, event.text().data(), event.text().size()), text += event.text().size();
  return n;
}

int main(int argc, char **argv) {
  inf::Model model = inf::Runtime::create().load(argc > 1 ? argv[1] : "models/demo.gguf");
  inf::Sampler greedy = model.new_sampler();
  // Without an end, every round reads as many events.
  greedy.add_logit_bias(std::vector<inf::Token>{ model.info().eos }, std::vector<float>{ -INFINITY });
  std::vector<double> ns[2];
  std::vector<char> text(1 << 16);
  for (int round = 0; round < 2 * ROUNDS; round++) {
    inf::Session session = model.new_session();
    inf::Generation g = full(session, greedy);
    auto start = std::chrono::steady_clock::now();
    unsigned n = round % 2 ? read_in_cpp(g, text.data()) : read_in_c(g.get(), text.data());
    std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    ns[round % 2].push_back(spent.count() / n);
  }
  for (auto &times : ns) std::sort(times.begin(), times.end());
  std::printf("C:      %6.0f ns/event\nC++:    %6.0f ns/event\n", ns[0][ROUNDS / 2], ns[1][ROUNDS / 2]);
}
