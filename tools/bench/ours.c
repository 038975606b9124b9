/* libinference under measurement, through its public header alone. */
#include "harness.h"
#include "inference.h"

#include <stdio.h>
#include <string.h>

#define MAX_SEQUENCES 64

/* Busy-wait of a worker: what the header advises for throughput. llama.cpp's workers spin longer. */
#define SPIN_US 200

static inf_error err;
static inf_runtime *runtime;
static inf_model *model;
static inf_session *session;
static unsigned n_vocab;

static void must(inf_status status) {
  if (status != INF_OK) quit("%s: %s", inf_status_name(status), err.message);
}

void engine_open(const struct settings *settings) {
  inf_source file = { .struct_size = sizeof file, .path = settings->path };
  const inf_source *files[] = { &file };
  char options[128] = "{}";
  /* "SET", "-", either with "+mmap" behind it. */
  const char *extra = strchr(settings->variant, '+');
  const int set_len = extra ? (int)(extra - settings->variant) : (int)strlen(settings->variant);
  if (settings->variant[0] != '-') snprintf(options, sizeof options, "{\"kernels\":\"%.*s\"}", set_len, settings->variant);
  inf_runtime_params threads = { .struct_size = sizeof threads, .n_threads = settings->n_threads, .spin_us = SPIN_US };
  threads.options_json = options;
  threads.options_len = INF_NUL;
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files, .n_ctx_hint = settings->n_ctx };
  if (extra) {
    if (strcmp(extra, "+mmap")) quit("no variant %s", settings->variant);
    load.options_json = "{\"mmap\":true}";
    load.options_len = INF_NUL;
  }
  inf_model_info info = { .struct_size = sizeof info };
  must(inf_runtime_create(&threads, &runtime, &err));
  must(inf_model_load(runtime, &load, &model, &err));
  must(inf_model_get_info(model, &info, &err));
  must(inf_session_create(model, NULL, &session, &err));
  n_vocab = info.n_vocab;
}

void engine_close(void) {
  inf_session_free(session);
  inf_model_free(model);
  must(inf_runtime_shutdown(runtime, INF_WAIT_FOREVER, &err));
  inf_runtime_free(runtime);
}

unsigned engine_n_vocab(void) {
  return n_vocab;
}

void engine_clear(void) {
  engine_truncate(0);
}

void engine_truncate(unsigned n) {
  must(inf_session_truncate(session, n, &err));
}

void engine_eval(const int32_t *tokens, unsigned n) {
  inf_step step = { .struct_size = sizeof step };
  must(inf_session_append(session, tokens, n, &err));
  must(inf_session_step(session, NULL, 0, INF_STEP_IGNORE_EOG, &step, &err));
  if (step.state != INF_STEP_TOKEN) quit("a step without budget stopped in state %u", step.state);
}

void engine_rest(void) {} /* workers sleep after SPIN_US */

/* As a host does it: one generation per sequence, each with a prompt of a few tokens. Prompts and sampling are in the time. */
double engine_batch(unsigned n_sequences, unsigned n_tokens) {
  inf_session *sessions[MAX_SEQUENCES];
  inf_generation *generations[MAX_SEQUENCES];
  inf_sampler *greedy;
  inf_event event = { .struct_size = sizeof event };
  if (n_sequences > MAX_SEQUENCES) quit("%u sequences: at most %d", n_sequences, MAX_SEQUENCES);
  must(inf_sampler_create(model, &greedy, &err));
  for (unsigned i = 0; i < n_sequences; i++) must(inf_session_create(model, NULL, &sessions[i], &err));
  double start = seconds_now();
  for (unsigned i = 0; i < n_sequences; i++) {
    char text[2] = { (char)('a' + i % 26), 0 };
    inf_generate_params ask = { .struct_size = sizeof ask, .max_tokens = n_tokens, .text = text, .text_len = 1, .sampler = greedy };
    must(inf_generate_start(sessions[i], &ask, &generations[i], &err));
  }
  for (unsigned i = 0; i < n_sequences; i++) {
    do must(inf_generation_next(generations[i], INF_WAIT_FOREVER, &event, &err));
    while (event.type != INF_EV_DONE);
    if (event.output_tokens != n_tokens) quit("sequence %u ended after %u tokens of %u: %s", i, event.output_tokens, n_tokens, event.error_text);
  }
  double seconds = seconds_now() - start;
  for (unsigned i = 0; i < n_sequences; i++) {
    inf_generation_free(generations[i]);
    inf_session_free(sessions[i]);
  }
  inf_sampler_free(greedy);
  return seconds;
}
