/* Misuse: every function with every kind of bad handle. A status or a zero, never a crash, and nothing is written. */
#include "check.h"

#define BAD(call) STATUS(INF_ERR_INVALID_HANDLE, call)

static char buf[64];
static size_t len = 7;
static uint32_t level = 7;
static inf_token token = 7;
static float logit[4];
static const float *logits;

static void runtime_functions(inf_runtime *rt) {
  inf_device_info device = { .struct_size = sizeof device };
  inf_model_params params = { .struct_size = sizeof params };
  inf_model *m = NULL;
  inf_load *ld = NULL;
  BAD(inf_runtime_shutdown(rt, 0, &err));
  BAD(inf_runtime_pump(rt, 0, &level, &err));
  inf_memory memory = { .struct_size = sizeof memory };
  inf_plan plan = { .struct_size = sizeof plan };
  BAD(inf_runtime_memory(rt, &memory, &err));
  BAD(inf_model_estimate(rt, &params, &plan, &err));
  BAD(inf_runtime_next_log(rt, buf, sizeof buf, &len, &level, &err));
  CHECK(inf_device_count(rt) == 0);
  BAD(inf_device_get(rt, 0, &device, &err));
  BAD(inf_model_load(rt, &params, &m, &err));
  BAD(inf_load_start(rt, &params, &ld, &err));
  BAD(inf_load_start_path(rt, "x", 1, NULL, 0, &ld, &err));
  inf_runtime_free(rt);
  CHECK(m == NULL && ld == NULL);
}

static void load_functions(inf_load *ld) {
  inf_model *m = NULL;
  float progress = 7;
  BAD(inf_load_wait(ld, 0, &progress, &m, &err));
  inf_load_cancel(ld);
  inf_load_free(ld);
  CHECK(m == NULL && progress == 7);
}

static void model_functions(inf_model *m) {
  inf_model_info info = { .struct_size = sizeof info };
  inf_sampler *sampler = NULL;
  inf_session *session = NULL;
  CHECK(inf_model_ref(m) == NULL);
  BAD(inf_model_get_info(m, &info, &err));
  BAD(inf_model_save_gguf(m, "/nonexistent/model.gguf", &err));
  BAD(inf_model_metadata(m, "general.architecture", buf, sizeof buf, &len, &err));
  CHECK(inf_model_is_eog(m, 2) == 0);
  BAD(inf_tokenize(m, "x", 1, 0, &token, 1, &len, &err));
  BAD(inf_detokenize(m, &token, 1, 0, buf, sizeof buf, &len, &err));
  BAD(inf_token_bytes(m, 3, buf, sizeof buf, &len, &err));
  BAD(inf_sampler_create(m, &sampler, &err));
  BAD(inf_session_create(m, NULL, &session, &err));
  BAD(inf_sampler_from_json(m, "{}", 2, &sampler, &err));
  BAD(inf_chat_render(m, "[]", 2, NULL, 0, NULL, 0, buf, sizeof buf, &len, &err));
  inf_model_free(m);
  CHECK(sampler == NULL && session == NULL);
}

static void sampler_functions(inf_sampler *s) {
  inf_sampler *copy = NULL;
  BAD(inf_sampler_clone(s, &copy, &err));
  BAD(inf_sampler_reset(s, &err));
  BAD(inf_sampler_set_seed(s, 1, &err));
  BAD(inf_sampler_add_temperature(s, 1.0f, &err));
  BAD(inf_sampler_add_top_k(s, 1, &err));
  BAD(inf_sampler_add_top_p(s, 0.5f, &err));
  BAD(inf_sampler_add_min_p(s, 0.5f, &err));
  BAD(inf_sampler_add_penalties(s, 1, 1.0f, 0.0f, 0.0f, &err));
  BAD(inf_sampler_add_dynamic_temperature(s, 0.5f, 1.0f, 1.0f, &err));
  BAD(inf_sampler_add_typical_p(s, 0.5f, &err));
  BAD(inf_sampler_add_top_n_sigma(s, 1.0f, &err));
  BAD(inf_sampler_add_xtc(s, 0.5f, 0.1f, &err));
  BAD(inf_sampler_add_dry(s, 1.0f, 1.75f, 2, 64, NULL, 0, &err));
  BAD(inf_sampler_add_mirostat(s, 5.0f, 0.1f, &err));
  BAD(inf_sampler_add_logit_bias(s, &token, logit, 1, &err));
  BAD(inf_sampler_pick(s, logit, 4, &token, &err));
  BAD(inf_sampler_accept(s, 1, &err));
  BAD(inf_sampler_set_constraint(s, INF_CONSTRAINT_REGEX, "a", 1, &err));
  inf_sampler_free(s);
  CHECK(copy == NULL);
}

static void session_functions(inf_session *s) {
  inf_step step = { .struct_size = sizeof step };
  inf_generate_params params = { .struct_size = sizeof params };
  inf_generation *g = NULL;
  inf_session *fork = NULL;
  BAD(inf_session_fork(s, &fork, &err));
  BAD(inf_session_save(s, buf, sizeof buf, &len, &err));
  BAD(inf_session_restore(s, buf, sizeof buf, &err));
  BAD(inf_session_save_file(s, "/nonexistent/state", &err));
  BAD(inf_session_restore_file(s, "/nonexistent/state", &err));
  BAD(inf_session_append(s, &token, 1, &err));
  BAD(inf_session_step(s, NULL, 0, 0, &step, &err));
  BAD(inf_session_logits(s, &logits, &len, &err));
  BAD(inf_session_truncate(s, 0, &err));
  CHECK(inf_session_n_tokens(s) == 0);
  BAD(inf_generate_start(s, &params, &g, &err));
  BAD(inf_generate_json(s, "{}", 2, &g, &err));
  inf_session_free(s);
  CHECK(g == NULL && logits == NULL && fork == NULL);
}

static void generation_functions(inf_generation *g) {
  inf_event ev = { .struct_size = sizeof ev };
  BAD(inf_generation_next(g, 0, &ev, &err));
  inf_generation_cancel(g);
  inf_generation_free(g);
}

/* A bad handle for each kind but the one that it is of: 1 runtime, 2 model, 3 sampler, 4 session, 5 generation, 6 load, 0 none. */
static void everything(void *bad, int kind) {
  if (kind != 1) runtime_functions(bad);
  if (kind != 2) model_functions(bad);
  if (kind != 3) sampler_functions(bad);
  if (kind != 4) session_functions(bad);
  if (kind != 5) generation_functions(bad);
  if (kind != 6) load_functions(bad);
  CHECK(len == 7 && level == 7 && token == 7 && buf[0] == 0);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_sampler *sampler = NULL;
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_load *ld = NULL;
  inf_generate_params ask = { .struct_size = sizeof ask, .max_tokens = 2, .text = "x", .text_len = 1 };
  inf_event ev = { .struct_size = sizeof ev };
  inf_step step = { .struct_size = sizeof step };
  OK(inf_sampler_create(m, &sampler, &err));
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_generate_start(s, &ask, &g, &err));
  OK(inf_load_start_path(rt, argv[1], INF_NUL, NULL, 0, &ld, &err));

  int on_the_stack = 0;
  void *heap = malloc(64);
  uintptr_t bits = (uintptr_t)m;
  void *invented[] = { NULL, (void *)1, (void *)8, (void *)-1, (void *)-2, &on_the_stack, heap, (void *)(uintptr_t)&main, (void *)(bits ^ 1),
                       (void *)(bits + 1), (void *)(bits ^ ((uintptr_t)1 << 30)), (void *)(bits | (uintptr_t)0xFFFFFFF), (void *)~bits };
  for (size_t i = 0; i < sizeof invented / sizeof *invented; i++) everything(invented[i], 0);
  free(heap);
  everything(rt, 1), everything(m, 2), everything(sampler, 3), everything(s, 4), everything(g, 5), everything(ld, 6);

  /* Bad handles inside calls on good ones. */
  do OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err)); while (ev.type != INF_EV_DONE);
  BAD(inf_session_step(s, (inf_sampler *)m, 0, 0, &step, &err));
  ask.sampler = (inf_sampler *)s;
  inf_generation *none = NULL;
  BAD(inf_generate_start(s, &ask, &none, &err));
  CHECK(none == NULL);

  inf_model *second = NULL;
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &second, &err));
  inf_model_free(second);

  /* All are still what they were; then they are freed, twice, and are nothing. */
  OK(inf_session_truncate(s, 0, &err));
  /* Joined here: otherwise a worker may still be letting go of the model when main returns, and valgrind calls that a leak. */
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  for (int twice = 0; twice < 2; twice++) {
    inf_runtime_free(rt), inf_model_free(m), inf_sampler_free(sampler), inf_session_free(s), inf_generation_free(g), inf_load_free(ld);
  }
  everything(rt, 0), everything(m, 0), everything(sampler, 0), everything(s, 0), everything(g, 0), everything(ld, 0);
  return 0;
}
