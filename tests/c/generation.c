/* Generations: events, stops, usage, polling, cancel, free during a wait, hooks. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

typedef struct { char text[8192]; size_t len; uint32_t n_text, n_progress; inf_event done; } transcript;

static int is_whole_utf8(const char *text, size_t len) {
  for (size_t i = 0; i < len;) {
    unsigned char c = (unsigned char)text[i++];
    int more = c < 0x80 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : -1;
    if (more < 0) return 0;
    while (more-- > 0) if (i >= len || ((unsigned char)text[i++] & 0xC0) != 0x80) return 0;
  }
  return 1;
}

static inf_generate_params ask(const char *text, uint32_t max_tokens) {
  inf_generate_params p = { .struct_size = sizeof p, .max_tokens = max_tokens, .text = text, .text_len = INF_NUL };
  return p;
}

/* Reads a generation to its end. */
static transcript read_all(inf_generation *g, int32_t timeout_ms) {
  transcript t = { .len = 0 };
  inf_event ev = { .struct_size = sizeof ev };
  do {
    OK(inf_generation_next(g, timeout_ms, &ev, &err));
    CHECK(ev.struct_size == sizeof ev && strlen(ev.text) == ev.text_len && strlen(ev.error_text) == ev.error_len);
    if (ev.type == INF_EV_TEXT) {
      CHECK(ev.text_len > 0 && is_whole_utf8(ev.text, ev.text_len) && t.len + ev.text_len < sizeof t.text);
      memcpy(t.text + t.len, ev.text, ev.text_len + 1);
      t.len += ev.text_len, t.n_text++;
    } else if (ev.type == INF_EV_PROGRESS) {
      CHECK(ev.n_done <= ev.n_total);
      t.n_progress++;
    } else {
      CHECK(ev.type == INF_EV_NONE || ev.type == INF_EV_DONE);
      if (timeout_ms == 0) sched_yield();
    }
  } while (ev.type != INF_EV_DONE);
  t.done = ev;
  t.done.text = t.done.error_text = NULL; /* borrowed: gone with the generation */
  return t;
}

static transcript run(inf_session *s, inf_generate_params p, int32_t timeout_ms) {
  inf_generation *g = NULL;
  OK(inf_generate_start(s, &p, &g, &err));
  transcript t = read_all(g, timeout_ms);
  inf_generation_free(g);
  return t;
}

static void events_and_usage(inf_model *m, inf_sampler *greedy) {
  inf_session *s = NULL;
  OK(inf_session_create(m, NULL, &s, &err));
  inf_generate_params p = ask("The smith", 24);
  p.sampler = greedy;
  transcript waited = run(s, p, INF_WAIT_FOREVER);
  CHECK(waited.n_text > 0 && waited.n_progress > 0 && waited.done.status == INF_OK && waited.done.error_len == 0);
  CHECK(waited.done.finish == INF_FINISH_MAX_TOKENS || waited.done.finish == INF_FINISH_EOS);
  CHECK(waited.done.output_tokens > 0 && waited.done.output_tokens <= 24 && waited.done.prompt_tokens > 0 && waited.done.cached_tokens == 0);
  CHECK(inf_session_n_tokens(s) == waited.done.prompt_tokens + waited.done.output_tokens);

  /* Continues from what it holds. */
  transcript more = run(s, ask(NULL, 4), INF_WAIT_FOREVER);
  CHECK(more.done.cached_tokens > 0 && more.done.finish != INF_FINISH_ERROR);
  /* The same prompt, polled: the same text. */
  OK(inf_session_truncate(s, 0, &err));
  transcript polled = run(s, p, 0);
  CHECK(!strcmp(polled.text, waited.text));

  /* A stop string ends the answer and is not in it. */
  char stop[64] = "";
  size_t at = waited.len / 2, n = waited.len - at < 3 ? waited.len - at : 3;
  while (((unsigned char)waited.text[at] & 0xC0) == 0x80) at++;
  snprintf(stop, sizeof stop, "[\"zzzz\",\"%.*s\"]", (int)n, waited.text + at);
  if (!strpbrk(waited.text + at, "\"\\\n") && is_whole_utf8(waited.text + at, n)) {
    char expected[8192];
    char needle[4] = { 0 };
    memcpy(needle, waited.text + at, n);
    snprintf(expected, sizeof expected, "%.*s", (int)(strstr(waited.text, needle) - waited.text), waited.text);
    OK(inf_session_truncate(s, 0, &err));
    p.stop_json = stop, p.stop_len = INF_NUL;
    transcript stopped = run(s, p, INF_WAIT_FOREVER);
    CHECK(stopped.done.finish == INF_FINISH_STOP && !strcmp(stopped.text, expected));
  }
  inf_session_free(s);
}

static void wild_text_is_whole_characters(inf_model *m) {
  inf_session *s = NULL;
  inf_sampler *wild = NULL;
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_create(m, &wild, &err));
  OK(inf_sampler_add_temperature(wild, 20.0f, &err));
  OK(inf_sampler_set_seed(wild, 11, &err));
  inf_generate_params p = ask("\xF0\x9F\x99\x82", 150);
  p.sampler = wild;
  CHECK(run(s, p, 1000).done.finish != INF_FINISH_ERROR);
  inf_sampler_free(wild);
  inf_session_free(s);
}

static void the_recommended_chain_and_a_full_context(inf_model *m) {
  inf_session *s = NULL;
  inf_session_params small = { .struct_size = sizeof small, .n_ctx = 24 };
  OK(inf_session_create(m, &small, &s, &err));
  transcript t = run(s, ask("One day", 0), INF_WAIT_FOREVER);
  CHECK(t.done.finish == INF_FINISH_CONTEXT_FULL || t.done.finish == INF_FINISH_EOS);
  CHECK(inf_session_n_tokens(s) <= 24);
  /* A prompt that cannot fit fails as an event, and the session is as it was. */
  uint32_t before = inf_session_n_tokens(s);
  transcript full = run(s, ask("one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
                               "seventeen eighteen nineteen twenty twenty-one twenty-two twenty-three twenty-four", 4), INF_WAIT_FOREVER);
  CHECK(full.done.finish == INF_FINISH_ERROR && full.done.status == INF_ERR_CONTEXT_FULL && full.done.error_len > 0);
  CHECK(inf_session_n_tokens(s) == before);
  inf_session_free(s);
}

/* Guesses change nothing that is said. */
static void drafting(inf_model *m) {
  const char *text = "The smith has a sword. The smith has a sword. The smith has a sword. The smith";
  inf_session *plain = NULL, *drafted = NULL;
  OK(inf_session_create(m, NULL, &plain, &err));
  OK(inf_session_create(m, NULL, &drafted, &err));
  for (int i = 0; i < 2; i++) {
    inf_sampler *sampler = NULL;
    OK(inf_sampler_create(m, &sampler, &err));
    if (i) OK(inf_sampler_add_temperature(sampler, 0.7f, &err));
    OK(inf_sampler_set_seed(sampler, 7, &err));
    OK(inf_session_truncate(plain, 0, &err));
    OK(inf_session_truncate(drafted, 0, &err));
    inf_generate_params p = ask(text, 60);
    p.sampler = sampler;
    transcript expected = run(plain, p, INF_WAIT_FOREVER);
    p.n_draft = 16;
    transcript got = run(drafted, p, INF_WAIT_FOREVER);
    CHECK(!strcmp(got.text, expected.text) && inf_session_n_tokens(plain) == inf_session_n_tokens(drafted));
    inf_sampler_free(sampler);
  }
  inf_session_free(plain), inf_session_free(drafted);
}

static void refusals(inf_session *s) {
  inf_generation *g = NULL;
  inf_generate_params p = ask("\xC3(", 4);
  INVALID(inf_generate_start(s, &p, &g, &err));
  p = ask("x", 4);
  p.stop_json = "{}", p.stop_len = INF_NUL;
  INVALID(inf_generate_start(s, &p, &g, &err));
  p = ask("x", 4);
  p.n_draft = 17;
  INVALID(inf_generate_start(s, &p, &g, &err));
  p = ask("x", 4);
  p.draft = (const inf_model *)s;
  STATUS(INF_ERR_INVALID_HANDLE, inf_generate_start(s, &p, &g, &err));
  INVALID(inf_generate_start(s, NULL, &g, &err));
  INVALID(inf_generate_start(s, &p, NULL, &err));
  CHECK(g == NULL);
}

/* A queue that nobody reads keeps the generation alive: the session is lent until it is cancelled. */
static void cancel_gives_the_session_back(inf_session *s) {
  inf_generation *g = NULL;
  inf_event ev = { .struct_size = sizeof ev };
  inf_generate_params p = ask("The river", 0);
  p.queue_capacity = 1;
  OK(inf_generate_start(s, &p, &g, &err));
  do OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err)); while (ev.type == INF_EV_PROGRESS);
  inf_token token = 3;
  STATUS(INF_ERR_BUSY, inf_session_append(s, &token, 1, &err));
  STATUS(INF_ERR_BUSY, inf_session_truncate(s, 0, &err));
  inf_generation *second = NULL;
  STATUS(INF_ERR_BUSY, inf_generate_start(s, &p, &second, &err));
  CHECK(inf_session_n_tokens(s) > 0);
  inf_generation_cancel(g);
  OK(inf_session_truncate(s, 0, &err));
  CHECK(read_all(g, INF_WAIT_FOREVER).done.finish == INF_FINISH_CANCELLED);
  OK(inf_generation_next(g, 0, &ev, &err));
  CHECK(ev.type == INF_EV_DONE && ev.finish == INF_FINISH_CANCELLED);
  INVALID(inf_generation_next(g, -2, &ev, &err));
  inf_generation_free(g);
  STATUS(INF_ERR_INVALID_HANDLE, inf_generation_next(g, 0, &ev, &err));
}

static void *wait_in_vain(void *generation) {
  inf_event ev = { .struct_size = sizeof ev };
  inf_status status;
  do status = inf_generation_next(generation, INF_WAIT_FOREVER, &ev, NULL); while (status == INF_OK && ev.type != INF_EV_DONE);
  return (void *)(uintptr_t)(status == INF_OK ? 1000u : status);
}

/* Freed while another thread waits: that thread is told, or it had just seen the end, or it came too late. */
static void free_wakes_a_waiter(inf_session *s) {
  for (int i = 0; i < 20; i++) {
    inf_generation *g = NULL;
    inf_generate_params p = ask("On the hill", 500);
    OK(inf_generate_start(s, &p, &g, &err));
    pthread_t thread;
    void *outcome = NULL;
    CHECK(!pthread_create(&thread, NULL, wait_in_vain, g));
    for (int spins = 0; spins < i * 50; spins++) sched_yield();
    inf_generation_free(g);
    pthread_join(thread, &outcome);
    CHECK(outcome == (void *)1000u || outcome == (void *)INF_ERR_CANCELLED || outcome == (void *)INF_ERR_INVALID_HANDLE);
    OK(inf_session_truncate(s, 0, &err));
  }
}

typedef struct { inf_generation *_Atomic g; inf_session *s; atomic_int calls, early, refused; } wake_state;

static void on_wake(void *user, uint64_t tag) {
  wake_state *state = user;
  inf_event ev = { .struct_size = sizeof ev };
  inf_step step = { .struct_size = sizeof step };
  CHECK(tag == 77);
  atomic_fetch_add(&state->calls, 1);
  CHECK(inf_session_step(state->s, NULL, 0, 0, &step, NULL) == INF_ERR_BUSY);
  if (!state->g) atomic_fetch_add(&state->early, 1);
  else if (inf_generation_next(state->g, INF_WAIT_FOREVER, &ev, NULL) == INF_ERR_BUSY) atomic_fetch_add(&state->refused, 1);
}

static void wakes(inf_session *s) {
  wake_state state = { .s = s };
  inf_generation *g = NULL;
  inf_generate_params p = ask("The bell", 30);
  p.wake = on_wake, p.wake_user = &state, p.wake_tag = 77;
  OK(inf_generate_start(s, &p, &g, &err));
  state.g = g;
  read_all(g, INF_WAIT_FOREVER);
  /* After the free no call is in progress, and none comes: the counts are final, and state may go. */
  inf_generation_free(g);
  CHECK(atomic_load(&state.calls) > 0);
  CHECK(atomic_load(&state.calls) == atomic_load(&state.early) + atomic_load(&state.refused));
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_session *s = NULL;
  inf_sampler *greedy = NULL;
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_create(m, &greedy, &err));
  events_and_usage(m, greedy);
  wild_text_is_whole_characters(m);
  the_recommended_chain_and_a_full_context(m);
  drafting(m);
  refusals(s);
  cancel_gives_the_session_back(s);
  free_wakes_a_waiter(s);
  wakes(s);

  /* Shut down in the middle: the generation ends, the session is dead, everything can be freed. */
  inf_generation *g = NULL;
  inf_token token = 3;
  inf_generate_params p = ask("At last", 0);
  OK(inf_generate_start(s, &p, &g, &err));
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  CHECK(read_all(g, INF_WAIT_FOREVER).done.type == INF_EV_DONE);
  STATUS(INF_ERR_SHUTDOWN, inf_session_append(s, &token, 1, &err));
  inf_runtime_free(rt);
  inf_model_free(m);
  inf_session_free(s);
  inf_generation_free(g);
  inf_sampler_free(greedy);
  return 0;
}
