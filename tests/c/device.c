/* Devices: what is not there is a reason, what is chosen falls back, and a model in parts says the same. Arguments: model.gguf [kernel set
 * [plugin reason]]: with the last two, that this plugin has no device for this reason, and nothing else. */
#include "check.h"

static inf_runtime *runtime_with(const char *options) {
  inf_runtime_params params = { .struct_size = sizeof params, .n_threads = 2, .log_level = 3, .options_json = options, .options_len = INF_NUL };
  inf_runtime *rt = NULL;
  OK(inf_runtime_create(&params, &rt, &err));
  return rt;
}

static inf_status load(inf_runtime *rt, const char *path, const char *device, const char *options, inf_model **out) {
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params p = { .struct_size = sizeof p, .n_sources = 1, .sources = files, .device = device, .options_json = options, .options_len = INF_NUL };
  return inf_model_load(rt, &p, out, &err);
}

/* The greedy tokens behind a few others. */
static void generate(inf_model *m, inf_token *tokens, uint32_t n) {
  inf_session *s = NULL;
  inf_sampler *greedy = NULL;
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_create(m, &greedy, &err));
  const inf_token prompt[] = { 5, 17, 40, 21 };
  OK(inf_session_append(s, prompt, 4, &err));
  for (uint32_t i = 0; i < n; i++) {
    inf_step step = { .struct_size = sizeof step };
    OK(inf_session_step(s, greedy, 0, 0, &step, &err));
    tokens[i] = step.token;
  }
  inf_sampler_free(greedy), inf_session_free(s);
}

#define N 24
static inf_token expected[N];

static void says_the_same(inf_model *m, const char *device) {
  inf_token tokens[N];
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  CHECK(!strcmp(info.device, device));
  generate(m, tokens, N);
  CHECK(!memcmp(tokens, expected, sizeof tokens));
  inf_model_free(m);
}

/* True if a line of the log holds text. */
static int is_logged(inf_runtime *rt, const char *text) {
  char line[1024];
  size_t len = 1;
  uint32_t level;
  int found = 0;
  while (len) {
    OK(inf_runtime_next_log(rt, line, sizeof line, &len, &level, &err));
    found |= len && strstr(line, text);
  }
  return found;
}

/* A plugin that is none: the device says why, a load that asks for it fails, one that lets the library choose takes the CPU. */
static void no_plugin(const char *path, const char *plugin, const char *reason) {
  char options[600];
  snprintf(options, sizeof options, "{\"plugin_path\":\"%s\"}", plugin);
  inf_runtime *rt = runtime_with(options);
  inf_device_info info = { .struct_size = sizeof info };
  CHECK(inf_device_count(rt) == 2);
  OK(inf_device_get(rt, 1, &info, &err));
  CHECK(info.kind == 1 && !info.usable && !strcmp(info.id, "cuda:0") && strstr(info.reason, reason));
  inf_model *m = NULL;
  const char *absent[] = { "cuda:0", "cuda", "cuda:1", "GPU-01234567-89ab-cdef-0123-456789abcdef", "abacus" };
  for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
    STATUS(INF_ERR_NO_DEVICE, load(rt, path, absent[i], NULL, &m));
    CHECK(!m && strstr(err.message, reason));
  }
  STATUS(INF_ERR_NO_DEVICE, load(rt, path, NULL, "{\"topology\":[{\"layers\":\"0-1\",\"device\":\"cuda:0\"}]}", &m));
  OK(load(rt, path, "auto", "{\"fit\":true,\"reserve_device_bytes\":1000000000}", &m));
  says_the_same(m, "cpu");
  CHECK(is_logged(rt, reason));
  inf_runtime_free(rt);
}

/* candle is another device, as far as the layers can tell. */
static void parts(inf_runtime *rt, const char *path) {
  inf_model *m = NULL;
  OK(load(rt, path, "cpu", "{\"topology\":[{\"layers\":\"1-1000\",\"device\":\"cpu\"},{\"layers\":\"0-1\",\"device\":\"candle\"}]}", &m));
  says_the_same(m, "cpu");
  OK(load(rt, path, NULL, "{\"topology\":[{\"tensors\":\"^blk\\\\.1\\\\.\",\"device\":\"candle\"}]}", &m));
  says_the_same(m, "cpu");
  INVALID(load(rt, path, NULL, "{\"topology\":[{\"layers\":\"0-1\",\"device\":7}]}", &m));
  INVALID(load(rt, path, NULL, "{\"fit\":2}", &m));
}

static void plan(inf_runtime *rt, const char *path) {
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params p = { .struct_size = sizeof p, .n_sources = 1, .sources = files, .device = "cpu" };
  inf_plan plan = { .struct_size = sizeof plan };
  OK(inf_model_estimate(rt, &p, &plan, &err));
  CHECK(!strcmp(plan.device, "cpu") && !plan.device_bytes && !plan.n_layers_on_device && plan.host_bytes > 0);
  p.device = "cuda:77";
  STATUS(INF_ERR_NO_DEVICE, inf_model_estimate(rt, &p, &plan, &err));
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = NULL;
  OK(load(rt, argv[1], "cpu", NULL, &m));
  generate(m, expected, N);
  says_the_same(m, "cpu");
  if (argc > 4) {
    no_plugin(argv[1], argv[3], argv[4]);
    inf_runtime_free(rt);
    return 0;
  }
  no_plugin(argv[1], "no/such/file", "the file is not there");
  /* A file that is no plugin: the model. */
  no_plugin(argv[1], argv[1], "not a plugin");
  parts(rt, argv[1]);
  plan(rt, argv[1]);
  inf_runtime_free(rt);
  return 0;
}
