/* A plugin host: threads open the library, live a whole life in it, and close it again. It stays mapped (-z nodelete), so nothing dangles.
 * Not linked with it. Usage: reload libinference.so model.gguf [rounds of each thread] */
#define _POSIX_C_SOURCE 200809L
#include "inference.h"
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_THREADS = 4, N_TOKENS = 12 };

#define CHECK(condition) \
  do { if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); exit(1); } } while (0)

static const char *library, *model;
static int rounds = 25;

/* The function `name` of the library, in a variable of its own name. */
#define FUNCTION(name) union { void *symbol; __typeof__(name) *call; } name##_ = { dlsym(handle, #name) }; CHECK(name##_.symbol)

static void life(inf_token *tokens) {
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  CHECK(handle);
  FUNCTION(inf_runtime_create); FUNCTION(inf_runtime_free); FUNCTION(inf_runtime_shutdown); FUNCTION(inf_model_load); FUNCTION(inf_model_free);
  FUNCTION(inf_session_create); FUNCTION(inf_session_free); FUNCTION(inf_session_append); FUNCTION(inf_session_step);
  FUNCTION(inf_sampler_create); FUNCTION(inf_sampler_free); FUNCTION(inf_tokenize);
  inf_runtime *rt = NULL;
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_sampler *greedy = NULL;
  inf_token prompt[64];
  size_t n = 0;
  inf_step step = { .struct_size = sizeof step };
  inf_runtime_params params = { .struct_size = sizeof params, .n_threads = 2 };
  inf_source file = { .struct_size = sizeof file, .path = model };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  CHECK(!inf_runtime_create_.call(&params, &rt, NULL) && !inf_model_load_.call(rt, &load, &m, NULL));
  CHECK(!inf_session_create_.call(m, NULL, &s, NULL) && !inf_sampler_create_.call(m, &greedy, NULL));
  CHECK(!inf_tokenize_.call(m, "The smith looks", INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 64, &n, NULL) && !inf_session_append_.call(s, prompt, n, NULL));
  for (int i = 0; i < N_TOKENS; i++) {
    CHECK(!inf_session_step_.call(s, greedy, 0, INF_STEP_IGNORE_EOG, &step, NULL));
    tokens[i] = step.token;
  }
  inf_sampler_free_.call(greedy), inf_session_free_.call(s), inf_model_free_.call(m);
  CHECK(!inf_runtime_shutdown_.call(rt, INF_WAIT_FOREVER, NULL));
  inf_runtime_free_.call(rt);
  CHECK(!dlclose(handle));
}

static void *reload(void *expected) {
  for (int i = 0; i < rounds; i++) {
    inf_token tokens[N_TOKENS];
    life(tokens);
    CHECK(!memcmp(tokens, expected, sizeof tokens));
  }
  return NULL;
}

static int entries(const char *folder) {
  int n = 0;
  DIR *d = opendir(folder);
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

int main(int argc, char **argv) {
  pthread_t threads[N_THREADS];
  inf_token expected[N_TOKENS];
  struct timespec moment = { 0, 10000000 };
  CHECK(argc > 2);
  library = argv[1], model = argv[2];
  if (argc > 3) rounds = atoi(argv[3]);
  life(expected);
  const int n_threads = entries("/proc/self/task"), n_fds = entries("/proc/self/fd");
  for (int i = 0; i < N_THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, reload, expected));
  for (int i = 0; i < N_THREADS; i++) pthread_join(threads[i], NULL);
  /* A joined thread is gone from /proc a moment later. */
  for (int i = 0; i < 200 && entries("/proc/self/task") > n_threads; i++) nanosleep(&moment, NULL);
  CHECK(entries("/proc/self/task") == n_threads && entries("/proc/self/fd") == n_fds);
  printf("  %-36s same tokens, no thread and no file left\n", "dlopen and dlclose from 4 threads");
  return 0;
}
