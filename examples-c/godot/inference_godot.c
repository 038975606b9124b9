/* libinference in Godot 3: two classes for scripts, in plain C.
 *
 *   InferenceModel      open(path, host_driven)  progress() 0..1, 1 when loaded  pump(budget_us)  error()
 *   InferenceCharacter  ask(request_json)  poll() the text since the last frame  is_talking()  error()
 *
 * Nothing here waits: a load and the answers are polled once per frame. Objects may be freed in any order. */
#include "gdnative.h"
#include "inference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const godot_core *core;
#define GODOT(type, place) ((type)core->functions[place])

typedef struct { inf_runtime *rt; inf_load *load; inf_model *model; inf_error err; } model;
typedef struct { inf_session *session; inf_generation *generation; inf_error err; } character;

/* The model that characters attach to: a scene has one. Its handle stays right, or is refused, whatever is freed first. */
static inf_model *shared;

/* ---- Values -------------------------------------------------------------------------------------------------------- */

static godot_variant truth(bool value) {
  godot_variant v;
  GODOT(variant_new_bool, VARIANT_NEW_BOOL)(&v, value);
  return v;
}

static godot_variant real(double value) {
  godot_variant v;
  GODOT(variant_new_real, VARIANT_NEW_REAL)(&v, value);
  return v;
}

static godot_variant text(const char *utf8, size_t len) {
  godot_string s;
  godot_variant v;
  GODOT(string_new, STRING_NEW)(&s);
  if (len) GODOT(string_parse, STRING_PARSE)(&s, utf8, (int)len);
  GODOT(variant_new_string, VARIANT_NEW_STRING)(&v, &s);
  GODOT(string_destroy, STRING_DESTROY)(&s);
  return v;
}

/* An argument as UTF-8, for free(); NULL if there is no such argument. */
static char *utf8(int n, godot_variant **arguments, int i) {
  if (i >= n) return NULL;
  godot_string s = GODOT(variant_as_string, VARIANT_AS_STRING)(arguments[i]);
  godot_char_string chars = GODOT(string_utf8, STRING_UTF8)(&s);
  size_t len = (size_t)GODOT(chars_length, CHARS_LENGTH)(&chars);
  char *copy = malloc(len + 1);
  if (copy) memcpy(copy, GODOT(chars_data, CHARS_DATA)(&chars), len), copy[len] = 0;
  GODOT(chars_destroy, CHARS_DESTROY)(&chars);
  GODOT(string_destroy, STRING_DESTROY)(&s);
  return copy;
}

static int64_t integer(int n, godot_variant **arguments, int i) { return i < n ? GODOT(variant_as_int, VARIANT_AS_INT)(arguments[i]) : 0; }

/* ---- InferenceModel ------------------------------------------------------------------------------------------------ */

static void *model_create(godot_object *object, void *data) { return (void)object, (void)data, calloc(1, sizeof(model)); }

static void model_destroy(godot_object *object, void *data, void *self) {
  model *m = self;
  (void)object, (void)data;
  if (m->model && shared == m->model) shared = NULL;
  inf_load_free(m->load), inf_model_free(m->model), inf_runtime_free(m->rt);
  free(m);
}

/* Starts to load; true if it started. */
static godot_variant model_open(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  model *m = self;
  char *path = utf8(n, arguments, 0);
  (void)object, (void)data;
  /* Workers get out of the way of the game's own threads. */
  inf_runtime_params params = { .struct_size = sizeof params, .host_driven = integer(n, arguments, 1) != 0, .thread_priority = -1 };
  if (params.host_driven) params.thread_priority = 0;
  bool started = inf_runtime_create(&params, &m->rt, &m->err) == INF_OK &&
                 inf_load_start_path(m->rt, path, INF_NUL, NULL, 0, &m->load, &m->err) == INF_OK;
  free(path);
  return truth(started);
}

static godot_variant model_progress(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  model *m = self;
  float progress = 0;
  (void)object, (void)data, (void)n, (void)arguments;
  if (m->model) return real(1);
  if (inf_load_wait(m->load, 0, &progress, &m->model, &m->err) == INF_OK) shared = m->model;
  else if (m->err.status == INF_ERR_TIMEOUT) m->err.message[0] = 0;
  return real(progress);
}

/* In a host-driven runtime: the frame's share of work; true if there is more. */
static godot_variant model_pump(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  model *m = self;
  uint32_t more = 0;
  (void)object, (void)data;
  inf_runtime_pump(m->rt, (uint32_t)integer(n, arguments, 0), &more, &m->err);
  return truth(more);
}

static godot_variant model_error(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  model *m = self;
  (void)object, (void)data, (void)n, (void)arguments;
  return text(m->err.message, strlen(m->err.message));
}

/* ---- InferenceCharacter -------------------------------------------------------------------------------------------- */

static void *character_create(godot_object *object, void *data) { return (void)object, (void)data, calloc(1, sizeof(character)); }

static void character_destroy(godot_object *object, void *data, void *self) {
  character *c = self;
  (void)object, (void)data;
  inf_generation_free(c->generation), inf_session_free(c->session);
  free(c);
}

/* Asks; what was still being said is cut off. request_json is that of inf_generate_json. True if it started. */
static godot_variant character_ask(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  character *c = self;
  char *request = utf8(n, arguments, 0);
  (void)object, (void)data;
  inf_generation_free(c->generation), c->generation = NULL;
  bool started = (c->session || inf_session_create(shared, NULL, &c->session, &c->err) == INF_OK) &&
                 inf_generate_json(c->session, request, INF_NUL, &c->generation, &c->err) == INF_OK;
  free(request);
  return truth(started);
}

/* What was said since the last call. Never waits. */
static godot_variant character_poll(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  character *c = self;
  char said[1024];
  size_t len = 0;
  inf_event ev = { .struct_size = sizeof ev };
  (void)object, (void)data, (void)n, (void)arguments;
  /* Stops while there is surely room for one more event: a token is at most some hundred bytes. The rest waits for the next frame. */
  while (c->generation && len < sizeof said / 2 && inf_generation_next(c->generation, 0, &ev, &c->err) == INF_OK && ev.type != INF_EV_NONE) {
    if (ev.type == INF_EV_TEXT && len + ev.text_len <= sizeof said) memcpy(said + len, ev.text, ev.text_len), len += ev.text_len;
    if (ev.type != INF_EV_DONE) continue;
    if (ev.finish == INF_FINISH_ERROR) snprintf(c->err.message, sizeof c->err.message, "%s", ev.error_text);
    inf_generation_free(c->generation), c->generation = NULL;
  }
  return text(said, len);
}

static godot_variant character_is_talking(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  (void)object, (void)data, (void)n, (void)arguments;
  return truth(((character *)self)->generation != NULL);
}

static godot_variant character_error(godot_object *object, void *data, void *self, int n, godot_variant **arguments) {
  character *c = self;
  (void)object, (void)data, (void)n, (void)arguments;
  return text(c->err.message, strlen(c->err.message));
}

/* ---- What Godot calls ---------------------------------------------------------------------------------------------- */

void godot_gdnative_init(godot_init_options *options) { core = options->core; }
void godot_gdnative_terminate(void *options) { (void)options; }

void godot_nativescript_init(void *library) {
  static const struct { const char *class_name, *name; godot_variant (*call)(godot_object *, void *, void *, int, godot_variant **); } methods[] = {
    { "InferenceModel", "open", model_open },         { "InferenceModel", "progress", model_progress },
    { "InferenceModel", "pump", model_pump },         { "InferenceModel", "error", model_error },
    { "InferenceCharacter", "ask", character_ask },   { "InferenceCharacter", "poll", character_poll },
    { "InferenceCharacter", "error", character_error }, { "InferenceCharacter", "is_talking", character_is_talking },
  };
  const godot_nativescript *script = NULL;
  for (unsigned i = 0; i < core->n_extensions; i++) {
    if (core->extensions[i]->type == GODOT_EXT_NATIVESCRIPT) script = (const godot_nativescript *)core->extensions[i];
  }
  if (!script) return;
  script->register_class(library, "InferenceModel", "Reference", (godot_create){ model_create, NULL, NULL }, (godot_destroy){ model_destroy, NULL, NULL });
  script->register_class(library, "InferenceCharacter", "Reference", (godot_create){ character_create, NULL, NULL }, (godot_destroy){ character_destroy, NULL, NULL });
  for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
    script->register_method(library, methods[i].class_name, methods[i].name, (godot_method_attributes){ 0 }, (godot_method){ methods[i].call, NULL, NULL });
  }
}
