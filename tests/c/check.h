/* What the C tests share. A check that fails says where and ends the program with 1. Arguments: model.gguf [kernel set]. */
#ifndef CHECK_H
#define CHECK_H

#include "inference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition) \
  do { if (!(condition)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); exit(1); } } while (0)
/* The call has this status, in its result and in the error struct. */
#define STATUS(expected, call) \
  do { \
    inf_status got_ = (call); \
    if (got_ != (expected) || err.status != got_) { \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, inf_status_name(got_), err.message); exit(1); } \
  } while (0)
#define OK(call) STATUS(INF_OK, call)
#define INVALID(call) STATUS(INF_ERR_INVALID_ARGUMENT, call)

static inf_error err;

static inline inf_runtime *open_runtime(int argc, char **argv) {
  char options[64] = "{}";
  if (argc > 2) snprintf(options, sizeof options, "{\"kernels\":\"%s\"}", argv[2]);
  inf_runtime_params params = { .struct_size = sizeof params, .n_threads = 2, .log_level = 4, .options_json = options, .options_len = INF_NUL };
  inf_runtime *rt = NULL;
  OK(inf_runtime_create(&params, &rt, &err));
  return rt;
}

static inline inf_model *open_model(inf_runtime *rt, char **argv) {
  inf_source file = { .struct_size = sizeof file, .path = argv[1] };
  const inf_source *files[] = { &file };
  inf_model_params params = { .struct_size = sizeof params, .n_sources = 1, .sources = files };
  inf_model *m = NULL;
  OK(inf_model_load(rt, &params, &m, &err));
  return m;
}

#endif
