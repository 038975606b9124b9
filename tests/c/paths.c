/* Paths are UTF-8 on every platform: a model and a state in files with names that no code page has. Arguments: model.gguf [kernel set]. */
#include "check.h"

/* In the folder that the test is run in. */
#define NAME "H\xC3\xBCtte-\xE7\x81\xAB-\xF0\x9F\x8D\x9E"
static const char model_name[] = NAME ".gguf", state_name[] = NAME ".state";

/* As the system calls the file: what the library makes of the UTF-8 must be the same name. */
#ifdef _WIN32
static FILE *open_named(const char *name) {
  return name == model_name ? _wfopen(L"H\u00FCtte-\u706B-\U0001F35E.gguf", L"wb") : _wfopen(L"H\u00FCtte-\u706B-\U0001F35E.state", L"rb");
}

static void remove_named(const char *name) {
  CHECK(!(name == model_name ? _wremove(L"H\u00FCtte-\u706B-\U0001F35E.gguf") : _wremove(L"H\u00FCtte-\u706B-\U0001F35E.state")));
}
#else
static FILE *open_named(const char *name) { return fopen(name, name == model_name ? "wb" : "rb"); }
static void remove_named(const char *name) { CHECK(!remove(name)); }
#endif

static void copy_model(const char *from) {
  char block[1 << 16];
  FILE *in = fopen(from, "rb"), *out = open_named(model_name);
  CHECK(in && out);
  for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) CHECK(fwrite(block, 1, n, out) == n);
  CHECK(!fclose(in) && !fclose(out));
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_load *ld = NULL;
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_token token = 5;
  copy_model(argv[1]);
  OK(inf_load_start_path(rt, model_name, INF_NUL, NULL, 0, &ld, &err));
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_session_append(s, &token, 1, &err));
  OK(inf_session_save_file(s, state_name, &err));
  OK(inf_session_truncate(s, 0, &err));
  OK(inf_session_restore_file(s, state_name, &err));
  CHECK(inf_session_n_tokens(s) == 1);
  FILE *state = open_named(state_name);
  CHECK(state && !fclose(state));
  inf_load_free(ld), inf_session_free(s), inf_model_free(m);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
  remove_named(state_name), remove_named(model_name);
  /* The name of what is missing is told as it was given. */
  rt = open_runtime(argc, argv);
  OK(inf_load_start_path(rt, model_name, INF_NUL, NULL, 0, &ld, &err));
  STATUS(INF_ERR_IO, inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  CHECK(strstr(err.message, NAME));
  inf_load_free(ld);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
  return 0;
}
