/* A program of the first release: compiled against first/inference.h, run with today's library. Never changed, only added to.
 * Usage: old_program model.gguf */
#include "inference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inf_error err;

#define CHECK(condition) \
  do { if (!(condition)) { fprintf(stderr, "old program, line %d: %s: %s\n", __LINE__, #condition, err.message); exit(1); } } while (0)
#define OK(call) CHECK((call) == INF_OK)

/* Waits for the end of a generation; how many bytes of text it said. */
static size_t listen(inf_generation *g, inf_event *ev) {
  size_t said = 0;
  do {
    OK(inf_generation_next(g, INF_WAIT_FOREVER, ev, &err));
    CHECK(ev->struct_size == sizeof *ev);
    if (ev->type == INF_EV_TEXT) said += ev->text_len;
  } while (ev->type != INF_EV_DONE);
  CHECK(ev->finish >= INF_FINISH_EOS && ev->finish <= INF_FINISH_CONTEXT_FULL && ev->status == INF_OK && ev->output_tokens > 0);
  return said;
}

/* One's own loop: tokenize, append, step, logits, pick. */
static void own_loop(inf_model *m, const inf_model_info *info) {
  inf_session *s = NULL, *fork = NULL;
  inf_sampler *chain = NULL, *copy = NULL;
  inf_session_params params = { .struct_size = sizeof params, .n_ctx = 96, .prefill_chunk = 8, .flags = INF_SESSION_NO_SHARED_PREFIX, .overflow = INF_OVERFLOW_STOP };
  inf_step step = { .struct_size = sizeof step };
  inf_token tokens[64], picked = -1;
  const float *logits = NULL;
  char text[256], state_text[8];
  size_t n = 0, len = 0, n_logits = 0;
  OK(inf_session_create(m, &params, &s, &err));
  OK(inf_sampler_create(m, &chain, &err));
  OK(inf_sampler_set_seed(chain, 7, &err));
  OK(inf_sampler_add_penalties(chain, 16, 1.1f, 0, 0, &err));
  OK(inf_sampler_add_top_k(chain, 40, &err));
  OK(inf_sampler_add_top_p(chain, 0.9f, &err));
  OK(inf_sampler_add_min_p(chain, 0.05f, &err));
  OK(inf_sampler_add_temperature(chain, 0.7f, &err));
  OK(inf_sampler_clone(chain, &copy, &err));
  OK(inf_tokenize(m, "The smith looks at", INF_NUL, INF_TOK_ADD_SPECIAL, tokens, 64, &n, &err));
  OK(inf_detokenize(m, tokens, n, 0, text, sizeof text, &len, &err));
  CHECK(strstr(text, "smith"));
  OK(inf_token_bytes(m, tokens[n - 1], state_text, sizeof state_text, &len, &err));
  OK(inf_session_append(s, tokens, n, &err));
  do OK(inf_session_step(s, NULL, 2000, 0, &step, &err)); while (step.state == INF_STEP_PENDING);
  CHECK(step.state == INF_STEP_TOKEN && step.token == -1 && step.prefill_done == step.prefill_total);
  OK(inf_session_logits(s, &logits, &n_logits, &err));
  CHECK(n_logits == info->n_vocab);
  OK(inf_sampler_pick(chain, logits, n_logits, &picked, &err));
  CHECK(picked >= 0 && inf_model_is_eog(m, info->eos) == 1);
  OK(inf_session_fork(s, &fork, &err));
  OK(inf_session_append(s, &picked, 1, &err));
  OK(inf_session_step(fork, copy, 0, INF_STEP_IGNORE_EOG, &step, &err));
  CHECK(step.token == picked && inf_session_n_tokens(fork) == inf_session_n_tokens(s));
  OK(inf_session_save(s, NULL, 0, &len, &err));
  void *state = malloc(len);
  OK(inf_session_save(s, state, len, &len, &err));
  OK(inf_session_restore(fork, state, len, &err));
  OK(inf_session_truncate(fork, 1, &err));
  CHECK(inf_session_n_tokens(fork) == 1);
  free(state);
  inf_sampler_free(copy), inf_sampler_free(chain), inf_session_free(fork), inf_session_free(s);
}

int main(int argc, char **argv) {
  inf_runtime *rt = NULL;
  inf_load *ld = NULL;
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_runtime_params runtime = { .struct_size = sizeof runtime, .n_threads = 2, .host_memory_limit = 1u << 30, .log_level = 3 };
  inf_source file = { .struct_size = sizeof file, .kind = INF_SOURCE_PATH, .path = argv[1] };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files, .n_ctx_hint = 256, .kv_type = INF_KV_F16 };
  inf_plan plan = { .struct_size = sizeof plan };
  inf_model_info info = { .struct_size = sizeof info };
  inf_memory memory = { .struct_size = sizeof memory };
  inf_device_info device = { .struct_size = sizeof device };
  inf_event ev = { .struct_size = sizeof ev };
  float progress = 0;
  CHECK(argc > 1 && inf_abi_version() == INF_ABI_VERSION && !strcmp(inf_status_name(INF_ERR_BUSY), "INF_ERR_BUSY"));
  OK(inf_runtime_create(&runtime, &rt, &err));
  CHECK(inf_device_count(rt) >= 1);
  OK(inf_device_get(rt, 0, &device, &err));
  CHECK(device.kind == 0 && device.usable == 1 && !strcmp(device.id, "cpu"));
  OK(inf_model_estimate(rt, &load, &plan, &err));
  CHECK(plan.fits == 1 && plan.host_bytes >= plan.weights_bytes + plan.kv_bytes && plan.n_ctx == 256);
  OK(inf_load_start(rt, &load, &ld, &err));
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, &progress, &m, &err));
  CHECK(progress == 1.0f);
  OK(inf_model_get_info(m, &info, &err));
  CHECK(info.n_layers == plan.n_layers && (info.capabilities & INF_CAN_GENERATE) && !strcmp(info.architecture, "llama"));
  own_loop(m, &info);

  OK(inf_session_create(m, NULL, &s, &err));
  inf_generate_params ask = { .struct_size = sizeof ask, .text = "The smith", .text_len = INF_NUL, .max_tokens = 16, .queue_capacity = 4,
                              .stop_json = "[\"@@\"]", .stop_len = INF_NUL };
  OK(inf_generate_start(s, &ask, &g, &err));
  CHECK(listen(g, &ev) > 0 && ev.output_tokens <= 16);
  inf_generation_free(g);
  OK(inf_generate_json(s, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}],\"max_tokens\":16,\"sampling\":{\"temperature\":0}}", INF_NUL, &g, &err));
  CHECK(listen(g, &ev) > 0);
  inf_generation_free(g);
  OK(inf_runtime_memory(rt, &memory, &err));
  CHECK(memory.host >= plan.weights_bytes && memory.host_peak >= memory.host && memory.host_left > 0);
  inf_session_free(s), inf_load_free(ld), inf_model_free(m);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  CHECK(inf_session_append(s, &info.bos, 1, &err) == INF_ERR_INVALID_HANDLE);
  inf_runtime_free(rt);
  return 0;
}
