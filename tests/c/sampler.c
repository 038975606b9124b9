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
  free(logits);
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
