/* Owns the loop: tokenize, append, step, read the logits, pick, append. Usage: step model.gguf ["The smith"] */
#include "inference.h"
#include <stdio.h>

/* Ends the function with the error's sentence unless the call succeeds. */
#define TRY(call) \
  do { if ((call) != INF_OK) { fprintf(stderr, "%s: %s\n", inf_status_name(err.status), err.message); goto done; } } while (0)

int main(int argc, char **argv) {
  int exit_code = 1;
  inf_error err;
  inf_runtime *rt = NULL;
  inf_model *model = NULL;
  inf_session *session = NULL;
  inf_sampler *sampler = NULL;
  inf_source file = { .struct_size = sizeof file, .path = argc > 1 ? argv[1] : "models/demo.gguf" };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  const char *text = argc > 2 ? argv[2] : "The smith";

  TRY(inf_runtime_create(NULL, &rt, &err));
  TRY(inf_model_load(rt, &load, &model, &err));
  TRY(inf_session_create(model, NULL, &session, &err));
  TRY(inf_sampler_create(model, &sampler, &err));
  TRY(inf_sampler_add_top_k(sampler, 40, &err));
  TRY(inf_sampler_add_temperature(sampler, 0.7f, &err));
  TRY(inf_sampler_set_seed(sampler, 42, &err));

  inf_token prompt[256];
  size_t n_prompt;
  TRY(inf_tokenize(model, text, INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 256, &n_prompt, &err));
  TRY(inf_session_append(session, prompt, n_prompt, &err));
  printf("%s", text);

  for (int i = 0; i < 60; i++) {
    /* A frame's worth at a time: a game would draw between two steps. */
    inf_step step = { .struct_size = sizeof step };
    do TRY(inf_session_step(session, NULL, 2000, 0, &step, &err)); while (step.state == INF_STEP_PENDING);

    const float *logits;
    size_t n_vocab, len;
    inf_token token;
    char piece[128];
    TRY(inf_session_logits(session, &logits, &n_vocab, &err));
    TRY(inf_sampler_pick(sampler, logits, n_vocab, &token, &err));
    if (inf_model_is_eog(model, token)) break;
    TRY(inf_token_bytes(model, token, piece, sizeof piece, &len, &err));
    fwrite(piece, 1, len, stdout);
    TRY(inf_session_append(session, &token, 1, &err));
  }
  printf("\n[%u tokens in the session]\n", inf_session_n_tokens(session));
  exit_code = 0;

done:
  inf_sampler_free(sampler);
  inf_session_free(session);
  inf_model_free(model);
  inf_runtime_free(rt);
  return exit_code;
}
