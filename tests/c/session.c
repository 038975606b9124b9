/* Sessions: append, step, logits, pick, truncate, fork; budgets; what is refused leaves everything as it was. */
#include "check.h"

enum { N_NEW = 16 };
static inf_token prompt[64];
static size_t n_prompt;
static size_t n_vocab;

static inf_session *open_session(inf_model *m, uint32_t n_ctx, uint32_t prefill_chunk) {
  inf_session *s = NULL;
  inf_session_params p = { .struct_size = sizeof p, .n_ctx = n_ctx, .prefill_chunk = prefill_chunk };
  OK(inf_session_create(m, &p, &s, &err));
  return s;
}

/* Steps until something other than "pending" happens. */
static inf_step step(inf_session *s, inf_sampler *sampler, uint32_t budget_us) {
  inf_step out = { .struct_size = sizeof out };
  do {
    OK(inf_session_step(s, sampler, budget_us, INF_STEP_IGNORE_EOG, &out, &err));
    CHECK(out.struct_size == sizeof out && out.prefill_done <= out.prefill_total);
  } while (out.state == INF_STEP_PENDING);
  CHECK(out.state == INF_STEP_TOKEN);
  return out;
}

/* Greedy tokens after the prompt, chosen by the session. */
static void generate(inf_session *s, inf_model *m, uint32_t budget_us, inf_token *out) {
  inf_sampler *greedy = NULL;
  OK(inf_sampler_create(m, &greedy, &err));
  for (int i = 0; i < N_NEW; i++) {
    inf_step result = step(s, greedy, budget_us);
    CHECK(result.token >= 0 && result.logprob <= 0.0f);
    out[i] = result.token;
  }
  inf_sampler_free(greedy);
}

/* The same, chosen by the host from the logits. */
static void generate_by_hand(inf_session *s, inf_model *m, inf_token *out) {
  inf_sampler *greedy = NULL;
  OK(inf_sampler_create(m, &greedy, &err));
  for (int i = 0; i < N_NEW; i++) {
    const float *logits = NULL;
    size_t n = 0, best = 0;
    CHECK(step(s, NULL, 0).token == -1);
    OK(inf_session_logits(s, &logits, &n, &err));
    CHECK(n == n_vocab);
    for (size_t t = 1; t < n; t++) if (logits[t] > logits[best]) best = t;
    OK(inf_sampler_pick(greedy, logits, n, &out[i], &err));
    CHECK(out[i] == (inf_token)best);
    OK(inf_session_append(s, &out[i], 1, &err));
  }
  inf_sampler_free(greedy);
}

static void ways_to_the_same_tokens(inf_model *m) {
  inf_token expected[N_NEW], got[N_NEW];
  inf_session *s = open_session(m, 0, 0);
  OK(inf_session_append(s, prompt, n_prompt, &err));
  CHECK(inf_session_n_tokens(s) == n_prompt);
  generate(s, m, 0, expected);
  CHECK(inf_session_n_tokens(s) == n_prompt + N_NEW);

  /* again, after going back */
  OK(inf_session_truncate(s, (uint32_t)n_prompt, &err));
  generate(s, m, 0, got);
  CHECK(!memcmp(got, expected, sizeof got));
  /* again, from an emptied session, by hand */
  OK(inf_session_truncate(s, 0, &err));
  CHECK(inf_session_n_tokens(s) == 0);
  OK(inf_session_append(s, prompt, n_prompt, &err));
  generate_by_hand(s, m, got);
  CHECK(!memcmp(got, expected, sizeof got));
  inf_session_free(s);
  /* in chunks of one token, with a budget that is always used up, appended piece by piece */
  s = open_session(m, 0, 1);
  for (size_t i = 0; i < n_prompt; i++) OK(inf_session_append(s, &prompt[i], 1, &err));
  generate(s, m, 1, got);
  CHECK(!memcmp(got, expected, sizeof got));
  inf_session_free(s);
}

static void refusals(inf_model *m) {
  inf_session *s = NULL;
  inf_session_params p = { .struct_size = sizeof p, .n_ctx = 100000000 };
  INVALID(inf_session_create(m, &p, &s, &err));
  p.n_ctx = 0, p.flags = 0x80;
  INVALID(inf_session_create(m, &p, &s, &err));
  CHECK(s == NULL);
  s = open_session(m, 8, 0);
  inf_step out = { .struct_size = sizeof out, .token = -99 };
  const float *logits = NULL;
  size_t n = 0;
  INVALID(inf_session_step(s, NULL, 0, 0, &out, &err));
  STATUS(INF_ERR_NOT_READY, inf_session_logits(s, &logits, &n, &err));
  const inf_token bad[] = { prompt[0], -1 }, foreign[] = { prompt[0], (inf_token)n_vocab };
  INVALID(inf_session_append(s, bad, 2, &err));
  INVALID(inf_session_append(s, foreign, 2, &err));
  CHECK(inf_session_n_tokens(s) == 0);
  inf_token nine[9];
  for (int i = 0; i < 9; i++) nine[i] = prompt[0];
  STATUS(INF_ERR_CONTEXT_FULL, inf_session_append(s, nine, 9, &err));
  CHECK(inf_session_n_tokens(s) == 0);
  OK(inf_session_append(s, nine, 8, &err));
  STATUS(INF_ERR_NOT_READY, inf_session_logits(s, &logits, &n, &err));
  INVALID(inf_session_step(s, NULL, 0, 0x80, &out, &err));
  INVALID(inf_session_step(s, NULL, 0, 0, NULL, &err));
  OK(inf_session_step(s, NULL, 0, 0, &out, &err));
  CHECK(out.state == INF_STEP_TOKEN && out.token == -1);
  inf_sampler *greedy = NULL;
  OK(inf_sampler_create(m, &greedy, &err));
  STATUS(INF_ERR_CONTEXT_FULL, inf_session_step(s, greedy, 0, 0, &out, &err));
  INVALID(inf_session_truncate(s, 9, &err));
  CHECK(inf_session_n_tokens(s) == 8);
  OK(inf_session_truncate(s, 4, &err));
  CHECK(step(s, greedy, 0).token >= 0 && inf_session_n_tokens(s) == 5);
  inf_sampler_free(greedy);
  inf_session_free(s);
}

/* A fork goes on as its parent does, and neither notices what the other does afterwards; nor does it matter who computed a prompt first. */
static void forks_and_shared_prefixes(inf_model *m) {
  inf_token expected[N_NEW], got[N_NEW], long_prompt[3 * 64];
  size_t n_long = 0;
  while (n_long + n_prompt <= sizeof long_prompt / sizeof *long_prompt) {
    memcpy(long_prompt + n_long, prompt, n_prompt * sizeof *prompt);
    n_long += n_prompt;
  }
  inf_session_params alone = { .struct_size = sizeof alone, .flags = INF_SESSION_NO_SHARED_PREFIX };
  inf_session *s = NULL, *child = NULL, *grandchild = NULL;
  OK(inf_session_create(m, &alone, &s, &err));
  OK(inf_session_append(s, long_prompt, n_long, &err));
  generate(s, m, 0, expected);
  inf_session_free(s);
  for (int round = 0; round < 3; round++) {
    s = open_session(m, 0, 0);
    OK(inf_session_append(s, long_prompt, n_long, &err));
    if (round > 0) step(s, NULL, 0);
    OK(inf_session_fork(s, &child, &err));
    CHECK(inf_session_n_tokens(child) == n_long);
    generate(child, m, round == 2 ? 1 : 0, got);
    CHECK(!memcmp(got, expected, sizeof got));
    OK(inf_session_fork(child, &grandchild, &err));
    inf_session_free(child);
    OK(inf_session_append(grandchild, prompt, n_prompt, &err));
    step(grandchild, NULL, 0);
    generate(s, m, 0, got);
    CHECK(!memcmp(got, expected, sizeof got));
    inf_session_free(s);
    OK(inf_session_truncate(grandchild, (uint32_t)n_long, &err));
    generate(grandchild, m, 0, got);
    CHECK(!memcmp(got, expected, sizeof got));
    inf_session_free(grandchild);
  }
  s = open_session(m, 0, 0);
  INVALID(inf_session_fork(s, NULL, &err));
  inf_session_free(s);
}

/* An end-of-generation token ends the stepping until something is appended. */
static void the_end(inf_model *m, inf_token eos) {
  inf_session *s = open_session(m, 0, 0);
  inf_sampler *biased = NULL;
  inf_step out = { .struct_size = sizeof out };
  float *logits = calloc(n_vocab, sizeof *logits);
  inf_token chosen = -1;
  OK(inf_sampler_create(m, &biased, &err));
  logits[eos] = 1.0f;
  OK(inf_sampler_pick(biased, logits, n_vocab, &chosen, &err));
  CHECK(chosen == eos);
  free(logits);
  OK(inf_session_append(s, prompt, n_prompt, &err));
  for (int i = 0; i < 200 && out.state != INF_STEP_END; i++) OK(inf_session_step(s, biased, 0, 0, &out, &err));
  if (out.state == INF_STEP_END) {
    uint32_t n = inf_session_n_tokens(s);
    OK(inf_session_step(s, biased, 0, 0, &out, &err));
    CHECK(out.state == INF_STEP_END && out.token == -1 && inf_session_n_tokens(s) == n);
    OK(inf_session_append(s, prompt, 1, &err));
    OK(inf_session_step(s, NULL, 0, 0, &out, &err));
    CHECK(out.state == INF_STEP_TOKEN);
  }
  inf_sampler_free(biased);
  inf_session_free(s);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  n_vocab = info.n_vocab;
  OK(inf_tokenize(m, "The smith looks at the old sword", INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 64, &n_prompt, &err));
  ways_to_the_same_tokens(m);
  forks_and_shared_prefixes(m);
  refusals(m);
  the_end(m, info.eos);
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
