/* Loads a model, lets it continue a text, and prints what it says. Usage: hello model.gguf ["The smith"] */
#include "inference.h"
#include <stdio.h>

int main(int argc, char **argv) {
  inf_runtime *rt = NULL;
  inf_model *model = NULL;
  inf_session *session = NULL;
  inf_generation *generation = NULL;
  inf_event event = { .struct_size = sizeof event };
  inf_error err;
  inf_source file = { .struct_size = sizeof file, .path = argc > 1 ? argv[1] : "models/demo.gguf" };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  inf_generate_params ask = { .struct_size = sizeof ask, .max_tokens = 80, .text_len = INF_NUL };
  ask.text = argc > 2 ? argv[2] : "The smith";

  inf_status status = inf_runtime_create(NULL, &rt, &err);
  if (!status) status = inf_model_load(rt, &load, &model, &err);
  if (!status) status = inf_session_create(model, NULL, &session, &err);
  if (!status) status = inf_generate_start(session, &ask, &generation, &err);
  if (!status) printf("%s", ask.text);
  while (!status && event.type != INF_EV_DONE) {
    status = inf_generation_next(generation, INF_WAIT_FOREVER, &event, &err);
    if (!status && event.type == INF_EV_TEXT) printf("%s", event.text), fflush(stdout);
  }
  if (!status) printf("\n[%u tokens, %.0f ms]\n", event.output_tokens, event.prefill_ms + event.decode_ms);
  if (!status && event.finish == INF_FINISH_ERROR) fprintf(stderr, "%s: %s\n", inf_status_name(event.status), event.error_text);
  if (status) fprintf(stderr, "%s: %s\n", inf_status_name(status), err.message);

  /* Any order; NULL is fine. */
  inf_generation_free(generation);
  inf_session_free(session);
  inf_model_free(model);
  inf_runtime_free(rt);
  return status || event.finish == INF_FINISH_ERROR;
}
