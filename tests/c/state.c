/* Saved states: as bytes and in files; what is refused changes nothing. Arguments: model.gguf [kernel set]. */
#include "check.h"

enum { N_NEW = 16 };

/* The greedy tokens that follow. */
static void generate(inf_session *s, inf_model *m, inf_token *out) {
  inf_sampler *greedy = NULL;
  inf_step step = { .struct_size = sizeof step };
  OK(inf_sampler_create(m, &greedy, &err));
  for (int i = 0; i < N_NEW; i++) {
    OK(inf_session_step(s, greedy, 0, INF_STEP_IGNORE_EOG, &step, &err));
    out[i] = step.token;
  }
  inf_sampler_free(greedy);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_session *s = NULL, *other = NULL;
  inf_step step = { .struct_size = sizeof step };
  inf_token prompt[256], expected[N_NEW], got[N_NEW];
  size_t n = 0, len = 0, needed = 0;
  const char *text = "The smith looks at the old sword. The smith looks at the old sword. The smith looks at the old sword. "
                     "The smith looks at the old sword. The smith looks at the old sword. The smith looks at the old sword. ";
  OK(inf_tokenize(m, text, INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 256, &n, &err));
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_session_append(s, prompt, n, &err));
  OK(inf_session_step(s, NULL, 0, 0, &step, &err));

  OK(inf_session_save(s, NULL, 0, &needed, &err));
  unsigned char *state = malloc(needed);
  STATUS(INF_ERR_BUFFER_TOO_SMALL, inf_session_save(s, state, needed - 1, &len, &err));
  CHECK(len == needed);
  OK(inf_session_save(s, state, needed, &len, &err));
  CHECK(len == needed && needed > n * sizeof *prompt);
  generate(s, m, expected);

  OK(inf_session_create(m, NULL, &other, &err));
  OK(inf_session_append(other, prompt, 1, &err));
  state[needed / 2] ^= 1;
  STATUS(INF_ERR_STATE_MISMATCH, inf_session_restore(other, state, needed, &err));
  state[needed / 2] ^= 1;
  STATUS(INF_ERR_STATE_MISMATCH, inf_session_restore(other, state, needed - 1, &err));
  INVALID(inf_session_restore(other, NULL, needed, &err));
  CHECK(inf_session_n_tokens(other) == 1);
  OK(inf_session_restore(other, state, needed, &err));
  CHECK(inf_session_n_tokens(other) == n);
  generate(other, m, got);
  CHECK(!memcmp(got, expected, sizeof got));

  char path[512];
  snprintf(path, sizeof path, "%s.state", argv[0]);
  OK(inf_session_truncate(s, (uint32_t)n, &err));
  OK(inf_session_save_file(s, path, &err));
  OK(inf_session_save_file(s, path, &err));
  OK(inf_session_truncate(other, 0, &err));
  OK(inf_session_restore_file(other, path, &err));
  generate(other, m, got);
  CHECK(!memcmp(got, expected, sizeof got));
  remove(path);
  STATUS(INF_ERR_IO, inf_session_restore_file(other, path, &err));
  STATUS(INF_ERR_IO, inf_session_save_file(other, "/nonexistent/state", &err));
  INVALID(inf_session_save_file(other, NULL, &err));
  free(state);

  /* a session that shifts never ends for want of room */
  inf_session *shifting = NULL;
  inf_session_params p = { .struct_size = sizeof p, .n_ctx = 160, .overflow = INF_OVERFLOW_SHIFT, .n_keep = 4 };
  OK(inf_session_create(m, &p, &shifting, &err));
  OK(inf_session_append(shifting, prompt, n < 100 ? n : 100, &err));
  for (int i = 0; i < 20; i++) generate(shifting, m, got);
  CHECK(inf_session_n_tokens(shifting) <= 160);
  p.n_keep = 128;
  inf_session *none = NULL;
  INVALID(inf_session_create(m, &p, &none, &err));
  p.n_keep = 0, p.overflow = 3;
  INVALID(inf_session_create(m, &p, &none, &err));
  CHECK(none == NULL);
  inf_session_free(shifting), inf_session_free(s), inf_session_free(other), inf_model_free(m), inf_runtime_free(rt);
  return 0;
}
