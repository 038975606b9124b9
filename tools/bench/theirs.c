/* llama.cpp under measurement, through its C API, with the settings of its own llama-bench: a batch of 512 and a thread pool that lives
 * as long as the context. */
#include "harness.h"

#include <ggml-cpu.h>
#include <llama.h>

#include <stdlib.h>
#include <string.h>

#define N_BATCH 512

/* Tokens per sequence in a batched decode: prompt and answer. */
#define BATCH_CTX 256

static struct llama_model *model;
static struct llama_context *context;
static ggml_threadpool_t pool;
static struct settings current;
static unsigned n_held;

static void no_log(enum ggml_log_level level, const char *text, void *user) {
  (void)level, (void)text, (void)user;
}

static struct llama_context *new_context(unsigned n_ctx, unsigned n_sequences) {
  struct llama_context_params params = llama_context_default_params();
  params.n_ctx = n_ctx;
  params.n_batch = params.n_ubatch = N_BATCH;
  params.n_seq_max = n_sequences;
  params.n_threads = params.n_threads_batch = (int)current.n_threads;
  params.flash_attn_type = strcmp(current.variant, "on") ? LLAMA_FLASH_ATTN_TYPE_DISABLED : LLAMA_FLASH_ATTN_TYPE_ENABLED;
  struct llama_context *made = llama_init_from_model(model, params);
  if (!made) quit("llama.cpp makes no context of %u tokens", n_ctx);
  llama_attach_threadpool(made, pool, pool);
  return made;
}

void engine_open(const struct settings *settings) {
  static int started;
  if (!started++) {
    llama_log_set(no_log, NULL);
    llama_backend_init();
  }
  current = *settings;
  model = llama_model_load_from_file(settings->path, llama_model_default_params());
  if (!model) quit("llama.cpp does not load %s", settings->path);
  struct ggml_threadpool_params params = ggml_threadpool_params_default((int)settings->n_threads);
  pool = ggml_threadpool_new(&params);
  context = new_context(settings->n_ctx, 1);
  n_held = 0;
}

void engine_close(void) {
  llama_free(context);
  ggml_threadpool_free(pool);
  llama_model_free(model);
}

unsigned engine_n_vocab(void) {
  return (unsigned)llama_vocab_n_tokens(llama_model_get_vocab(model));
}

void engine_clear(void) {
  llama_memory_clear(llama_get_memory(context), false);
  n_held = 0;
}

void engine_truncate(unsigned n) {
  if (!llama_memory_seq_rm(llama_get_memory(context), 0, (llama_pos)n, -1)) quit("llama.cpp does not truncate");
  n_held = n;
}

void engine_eval(const int32_t *tokens, unsigned n) {
  for (unsigned done = 0; done < n; done += N_BATCH) {
    int32_t batch[N_BATCH], len = (int32_t)(n - done < N_BATCH ? n - done : N_BATCH);
    memcpy(batch, tokens + done, (size_t)len * sizeof *batch);
    if (llama_decode(context, llama_batch_get_one(batch, len))) quit("llama.cpp does not decode at %u", n_held + done);
  }
  if (!llama_get_logits_ith(context, -1)) quit("llama.cpp has no logits");
  n_held += n;
}

void engine_rest(void) {
  ggml_threadpool_pause(pool);
}

/* One token for each sequence per pass. Nothing is sampled. */
double engine_batch(unsigned n_sequences, unsigned n_tokens) {
  struct llama_context *many = new_context(n_sequences * BATCH_CTX, n_sequences);
  struct llama_batch batch = llama_batch_init((int32_t)n_sequences, 0, 1);
  batch.n_tokens = (int32_t)n_sequences;
  double start = 0;
  for (unsigned step = 0; step <= n_tokens; step++) {
    if (step == 1) start = seconds_now(); /* the first pass makes buffers */
    for (unsigned i = 0; i < n_sequences; i++) {
      batch.token[i] = next_token(engine_n_vocab());
      batch.pos[i] = (llama_pos)step;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = (llama_seq_id)i;
      batch.logits[i] = 1;
    }
    if (llama_decode(many, batch)) quit("llama.cpp does not decode %u sequences", n_sequences);
    if (!llama_get_logits_ith(many, (int32_t)n_sequences - 1)) quit("llama.cpp has no logits");
  }
  double seconds = seconds_now() - start;
  llama_batch_free(batch);
  llama_free(many);
  return seconds;
}
