/* Samplers: every stage, its range, seeds, clones, a clash of two threads. */
#include "check.h"
#include <math.h>

static float *logits;
static size_t n_vocab;

static inf_token pick(inf_sampler *s) {
  inf_token token = -1;
  OK(inf_sampler_pick(s, logits, n_vocab, &token, &err));
  return token;
}

/* How many of 200 picks are token 0, 1 or 2, the three most likely ones. */
static int top_three(inf_sampler *s) {
  int hits = 0;
  for (int i = 0; i < 200; i++) hits += pick(s) < 3;
  return hits;
}

static inf_sampler *fresh(inf_model *m) {
  inf_sampler *s = NULL;
  OK(inf_sampler_create(m, &s, &err));
  OK(inf_sampler_set_seed(s, 7, &err));
  return s;
}

static void stages(inf_model *m) {
  inf_sampler *s = fresh(m);
  for (int i = 0; i < 10; i++) CHECK(pick(s) == 0);
  OK(inf_sampler_add_top_k(s, 3, &err));
  CHECK(top_three(s) == 200);
  inf_sampler_free(s);

  s = fresh(m);
  OK(inf_sampler_add_top_p(s, 0.5f, &err));
  CHECK(top_three(s) == 200);
  inf_sampler_free(s);

  s = fresh(m);
  OK(inf_sampler_add_min_p(s, 0.9f, &err));
  CHECK(top_three(s) == 200);
  inf_sampler_free(s);

  s = fresh(m);
  OK(inf_sampler_add_temperature(s, 1000.0f, &err));
  CHECK(top_three(s) < 200);
  OK(inf_sampler_add_temperature(s, 0.0f, &err));
  CHECK(pick(s) == 0);
  inf_sampler_free(s);

  s = fresh(m);
  OK(inf_sampler_add_penalties(s, 1, 1.0f, 0.0f, 100.0f, &err));
  CHECK(pick(s) == 0 && pick(s) == 1 && pick(s) == 0);
  OK(inf_sampler_accept(s, 1, &err));
  CHECK(pick(s) == 0);
  OK(inf_sampler_reset(s, &err));
  CHECK(pick(s) == 0);
  inf_sampler_free(s);
}

static void seeds_and_clones(inf_model *m) {
  inf_sampler *a = fresh(m), *b = NULL;
  OK(inf_sampler_add_temperature(a, 5.0f, &err));
  inf_token first[32];
  for (int i = 0; i < 32; i++) first[i] = pick(a);
  OK(inf_sampler_clone(a, &b, &err));
  for (int i = 0; i < 32; i++) CHECK(pick(a) == pick(b));
  OK(inf_sampler_reset(b, &err));
  for (int i = 0; i < 32; i++) CHECK(pick(b) == first[i]);
  OK(inf_sampler_set_seed(a, 7, &err));
  for (int i = 0; i < 32; i++) CHECK(pick(a) == first[i]);
  inf_sampler_free(a);
  inf_sampler_free(b);
}

static void ranges(inf_model *m) {
  inf_sampler *s = fresh(m);
  INVALID(inf_sampler_add_temperature(s, -1.0f, &err));
  INVALID(inf_sampler_add_temperature(s, (float)NAN, &err));
  INVALID(inf_sampler_add_top_p(s, 0.0f, &err));
  INVALID(inf_sampler_add_top_p(s, 1.5f, &err));
  INVALID(inf_sampler_add_min_p(s, -0.1f, &err));
  INVALID(inf_sampler_add_penalties(s, 4, 0.0f, 0.0f, 0.0f, &err));
  INVALID(inf_sampler_accept(s, -1, &err));
  INVALID(inf_sampler_accept(s, (inf_token)n_vocab, &err));
  inf_token token = -7;
  INVALID(inf_sampler_pick(s, logits, n_vocab - 1, &token, &err));
  INVALID(inf_sampler_pick(s, NULL, n_vocab, &token, &err));
  INVALID(inf_sampler_pick(s, logits, n_vocab, NULL, &err));
  float *nans = malloc(n_vocab * sizeof *nans);
  for (size_t i = 0; i < n_vocab; i++) nans[i] = (float)NAN;
  INVALID(inf_sampler_pick(s, nans, n_vocab, &token, &err));
  free(nans);
  CHECK(token == -7);
  CHECK(pick(s) == 0);
  for (int i = 0; i < 64; i++) OK(inf_sampler_add_top_k(s, 1, &err));
  INVALID(inf_sampler_add_top_k(s, 1, &err));
  inf_sampler_free(s);
}

/* The same chain by functions and as JSON chooses the same tokens, and every stage takes its numbers. */
static void every_stage_and_json(inf_model *m) {
  inf_sampler *a = fresh(m), *b = NULL;
  const char *json = "{\"top_p\":0.9,\"temperature\":1.5,\"logit_bias\":{\"0\":-0.5,\"1\":false},\"repeat_penalty\":1.1,\"repeat_last_n\":8,\"dry_multiplier\":0.8,"
                     "\"top_n_sigma\":3,\"top_k\":40,\"typical_p\":0.95,\"min_p\":0.01,\"xtc_probability\":0.5,\"xtc_threshold\":0.2,\"seed\":7}";
  inf_token tokens[] = { 0, 1 };
  float bias[] = { -0.5f, -INFINITY };
  OK(inf_sampler_add_logit_bias(a, tokens, bias, 2, &err));
  OK(inf_sampler_add_penalties(a, 8, 1.1f, 0, 0, &err));
  OK(inf_sampler_add_dry(a, 0.8f, 1.75f, 2, UINT32_MAX, NULL, 0, &err));
  OK(inf_sampler_add_top_n_sigma(a, 3, &err));
  OK(inf_sampler_add_top_k(a, 40, &err));
  OK(inf_sampler_add_typical_p(a, 0.95f, &err));
  OK(inf_sampler_add_top_p(a, 0.9f, &err));
  OK(inf_sampler_add_min_p(a, 0.01f, &err));
  OK(inf_sampler_add_xtc(a, 0.5f, 0.2f, &err));
  OK(inf_sampler_add_temperature(a, 1.5f, &err));
  OK(inf_sampler_set_seed(a, 7, &err));
  OK(inf_sampler_from_json(m, json, INF_NUL, &b, &err));
  for (int i = 0; i < 200; i++) {
    inf_token token = pick(a);
    CHECK(token == pick(b) && token != 1);
  }
  inf_sampler_free(b);

  OK(inf_sampler_from_json(m, "{\"mirostat_tau\":3,\"temperature\":0.7,\"dynatemp_range\":0.3}", INF_NUL, &b, &err));
  pick(b);
  INVALID(inf_sampler_add_dynamic_temperature(b, 1, 0.5f, 1, &err));
  INVALID(inf_sampler_add_typical_p(b, 0, &err));
  INVALID(inf_sampler_add_top_n_sigma(b, (float)NAN, &err));
  INVALID(inf_sampler_add_xtc(b, 2, 0, &err));
  INVALID(inf_sampler_add_mirostat(b, 0, 0.1f, &err));
  INVALID(inf_sampler_add_dry(b, 1, 0.5f, 2, 0, NULL, 0, &err));
  INVALID(inf_sampler_add_dry(b, 1, 2, 2, 0, "[\"\"]", INF_NUL, &err));
  tokens[1] = (inf_token)n_vocab;
  INVALID(inf_sampler_add_logit_bias(b, tokens, bias, 2, &err));
  OK(inf_sampler_add_dynamic_temperature(b, 0.5f, 1, 1, &err));
  OK(inf_sampler_add_mirostat(b, 5, 0.1f, &err));
  inf_sampler_free(b);
  b = NULL;
  INVALID(inf_sampler_from_json(m, "{\"temprature\":1}", INF_NUL, &b, &err));
  CHECK(b == NULL && strstr(err.message, "temprature"));
  INVALID(inf_sampler_from_json(m, "{\"top_k\":-1}", INF_NUL, &b, &err));
  INVALID(inf_sampler_from_json(m, "{\"top_p\":2}", INF_NUL, &b, &err));
  INVALID(inf_sampler_from_json(m, "{\"top_p\":", INF_NUL, &b, &err));
  inf_sampler_free(a);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  n_vocab = info.n_vocab;
  logits = malloc(n_vocab * sizeof *logits);
  for (size_t i = 0; i < n_vocab; i++) logits[i] = i < 3 ? 9.0f - 0.01f * (float)i : -0.001f * (float)i;
  stages(m);
  seeds_and_clones(m);
  ranges(m);
  every_stage_and_json(m);
  free(logits);
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
