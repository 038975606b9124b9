/* Models: loading and its failures, facts, metadata, references. */
#include "check.h"

static inf_status load(inf_runtime *rt, const char *path, const char *device, const char *options, inf_model **out) {
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params p = { .struct_size = sizeof p, .n_sources = 1, .sources = files, .device = device };
  p.options_json = options, p.options_len = INF_NUL;
  return inf_model_load(rt, &p, out, &err);
}

static void failures(inf_runtime *rt, const char *path, const char *program) {
  inf_model *m = NULL;
  STATUS(INF_ERR_IO, load(rt, "/nonexistent/model.gguf", NULL, NULL, &m));
  CHECK(strstr(err.message, "/nonexistent/model.gguf"));
  STATUS(INF_ERR_FORMAT, load(rt, program, NULL, NULL, &m));
  STATUS(INF_ERR_NO_DEVICE, load(rt, path, "cuda:0", NULL, &m));
  INVALID(load(rt, NULL, NULL, NULL, &m));
  INVALID(load(rt, "\xFF\xFE", NULL, NULL, &m));
  INVALID(load(rt, path, NULL, "{\"vocab_onyl\":true}", &m));
  CHECK(strstr(err.message, "vocab_onyl"));
  INVALID(load(rt, path, NULL, "{\"vocab_only\":1}", &m));
  INVALID(load(rt, path, NULL, "{\"backend\":\"abacus\"}", &m));
  INVALID(inf_model_load(rt, NULL, &m, &err));
  inf_model_params p = { .struct_size = sizeof p };
  INVALID(inf_model_load(rt, &p, &m, &err));
  inf_source file = { .struct_size = sizeof file, .kind = 2, .path = path };
  const inf_source *files[] = { &file };
  p.n_sources = 1, p.sources = files;
  INVALID(inf_model_load(rt, &p, &m, &err));
  file.kind = 0, p.kv_type = 77;
  INVALID(inf_model_load(rt, &p, &m, &err));
  p.kv_type = INF_KV_F32, p.n_sources = 1000000;
  files[0] = NULL, p.n_sources = 1;
  INVALID(inf_model_load(rt, &p, &m, &err));
  CHECK(m == NULL);
}

static void facts(inf_model *m) {
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  CHECK(info.struct_size == sizeof info && info.n_vocab > 0 && info.n_layers > 0 && info.n_embd > 0 && info.n_ctx_max > 0);
  CHECK(info.capabilities == INF_CAN_GENERATE && info.n_params > 1000 && info.architecture[0] && info.quantization[0]);
  CHECK(!strcmp(info.device, "cpu"));
  CHECK(inf_model_is_eog(m, info.eos) == 1);
  CHECK(inf_model_is_eog(m, -1) == 0 && inf_model_is_eog(m, (inf_token)info.n_vocab) == 0);
  /* A host that knows only the first half of the struct gets that half. */
  struct { uint32_t struct_size, rest[64]; } larger = { sizeof larger, { 0 } };
  memset(larger.rest, 0xEE, sizeof larger.rest);
  OK(inf_model_get_info(m, (inf_model_info *)&larger, &err));
  CHECK(larger.struct_size == sizeof larger && larger.rest[0] == info.n_vocab && larger.rest[63] == 0);
}

static void metadata(inf_model *m) {
  char text[64];
  size_t len = 0, needed = 0;
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  OK(inf_model_metadata(m, "general.architecture", text, sizeof text, &len, &err));
  CHECK(len == strlen(text) && !strcmp(text, info.architecture));
  OK(inf_model_metadata(m, "general.architecture", NULL, 0, &needed, &err));
  CHECK(needed == len);
  memset(text, 'x', sizeof text);
  OK(inf_model_metadata(m, "general.architecture", text, needed, &len, &err));
  CHECK(text[needed - 1] != 'x' && text[needed] == 'x');
  memset(text, 'x', sizeof text);
  STATUS(INF_ERR_BUFFER_TOO_SMALL, inf_model_metadata(m, "general.architecture", text, needed - 1, &len, &err));
  CHECK(len == needed && text[0] == 'x' && err.detail[0] == (int64_t)needed);
  INVALID(inf_model_metadata(m, "no.such.key", text, sizeof text, &len, &err));
  INVALID(inf_model_metadata(m, NULL, text, sizeof text, &len, &err));
  INVALID(inf_model_metadata(m, "general.architecture", text, sizeof text, NULL, &err));
}

static void references(inf_model *m) {
  inf_model_info info = { .struct_size = sizeof info };
  CHECK(inf_model_ref(m) == m);
  inf_model_free(m);
  OK(inf_model_get_info(m, &info, &err));
  inf_model_free(m);
  STATUS(INF_ERR_INVALID_HANDLE, inf_model_get_info(m, &info, &err));
  CHECK(inf_model_ref(m) == NULL);
}

/* The most likely token after some others. */
static inf_token next_token(inf_model *m) {
  inf_session *s = NULL;
  inf_sampler *greedy = NULL;
  inf_step step = { .struct_size = sizeof step };
  const inf_token prompt[] = { 5, 6, 7, 8 };
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_create(m, &greedy, &err));
  OK(inf_session_append(s, prompt, 4, &err));
  OK(inf_session_step(s, greedy, 0, INF_STEP_IGNORE_EOG, &step, &err));
  inf_sampler_free(greedy), inf_session_free(s);
  return step.token;
}

/* Bytes of host memory that a runtime holds now. */
static uint64_t held(inf_runtime *rt) {
  inf_memory memory = { .struct_size = sizeof memory };
  OK(inf_runtime_memory(rt, &memory, &err));
  return memory.host;
}

/* The file at `path` in its place: the same answer, from memory that is not this process's, as planned. */
static void mapped(inf_runtime *rt, const char *path, inf_token expected) {
  inf_model *packed = NULL, *m = NULL;
  const uint64_t before = held(rt);
  INVALID(load(rt, path, NULL, "{\"mmap\":1}", &m));
  CHECK(strstr(err.message, "mmap"));
  OK(load(rt, path, NULL, NULL, &packed));
  const uint64_t in_memory = held(rt) - before;
  inf_model_free(packed);
  OK(load(rt, path, NULL, "{\"mmap\":true}", &m));
  CHECK(held(rt) - before < in_memory / 4 && next_token(m) == expected);
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params params = { .struct_size = sizeof params, .n_sources = 1, .sources = files, .options_json = "{\"mmap\":true}", .options_len = INF_NUL };
  inf_plan plan = { .struct_size = sizeof plan };
  OK(inf_model_estimate(rt, &params, &plan, &err));
  CHECK(plan.host_bytes < plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes && plan.weights_bytes > in_memory * 9 / 10);
  inf_model_free(m);
}

/* A saved model is the model, whatever it was quantised to. */
static void saving(inf_runtime *rt, char **argv) {
  char path[512];
  inf_model *m = NULL, *again = NULL;
  inf_model_info info = { .struct_size = sizeof info }, same = { .struct_size = sizeof same };
  snprintf(path, sizeof path, "%s.gguf", argv[0]);
  INVALID(load(rt, argv[1], NULL, "{\"quantize\":\"q3\"}", &m));
  CHECK(strstr(err.message, "quantize") && strstr(err.message, "q3"));
  INVALID(load(rt, argv[1], NULL, "{\"topology\":[{\"layers\":\"x\",\"quantize\":\"q8_0\"}]}", &m));
  OK(load(rt, argv[1], NULL, "{\"quantize\":\"q8_0\",\"topology\":[{\"tensors\":\"ffn_down\",\"quantize\":\"none\"}]}", &m));
  OK(inf_model_save_gguf(m, path, &err));
  OK(load(rt, path, NULL, NULL, &again));
  OK(inf_model_get_info(m, &info, &err));
  OK(inf_model_get_info(again, &same, &err));
  CHECK(!memcmp(&info, &same, sizeof info) && next_token(again) == next_token(m));
  mapped(rt, path, next_token(again));
  STATUS(INF_ERR_IO, inf_model_save_gguf(m, "/nonexistent/model.gguf", &err));
  INVALID(inf_model_save_gguf(m, NULL, &err));
  inf_model_free(again), inf_model_free(m);
  remove(path);
}

static void vocabulary_only(inf_runtime *rt, const char *path) {
  inf_model *m = NULL;
  inf_session *s = NULL;
  size_t n = 0;
  INVALID(load(rt, path, NULL, "{\"pre_tokenizer\":1}", &m));
  OK(load(rt, path, "auto", "{\"vocab_only\":true,\"pre_tokenizer\":\"default\"}", &m));
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  CHECK(info.capabilities == 0 && info.n_layers == 0 && info.n_vocab > 0);
  OK(inf_tokenize(m, "text", INF_NUL, 0, NULL, 0, &n, &err));
  CHECK(n > 0);
  STATUS(INF_ERR_UNSUPPORTED, inf_session_create(m, NULL, &s, &err));
  inf_model_free(m);
}

/* A vocabulary of Hugging Face's format: three bytes and a merge, and a token that ends. */
static const char TOKENIZER_JSON[] =
  "{\"added_tokens\":[{\"id\":4,\"content\":\"<end>\",\"special\":true,\"lstrip\":false,\"rstrip\":false,\"single_word\":false,\"normalized\":false}],"
  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
  "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3},\"merges\":[\"a b\"]}}";
static const char TOKENIZER_CONFIG[] = "{\"eos_token\":\"<end>\"}";

static inf_status load_tokenizer(inf_runtime *rt, const char *options, inf_model **m) {
  inf_source tokenizer = { .struct_size = sizeof tokenizer, .kind = INF_SOURCE_MEMORY, .name = "hf/tokenizer.json",
                           .data = TOKENIZER_JSON, .size = strlen(TOKENIZER_JSON) };
  inf_source settings = { .struct_size = sizeof settings, .kind = INF_SOURCE_MEMORY, .name = "hf/tokenizer_config.json",
                          .data = TOKENIZER_CONFIG, .size = strlen(TOKENIZER_CONFIG) };
  const inf_source *files[] = { &settings, &tokenizer };
  inf_model_params params = { .struct_size = sizeof params, .n_sources = 2, .sources = files, .options_json = options, .options_len = INF_NUL };
  return inf_model_load(rt, &params, m, &err);
}

static void tokenizer_json(inf_runtime *rt) {
  inf_model *m = NULL;
  int32_t tokens[8];
  size_t n = 0;
  STATUS(INF_ERR_UNSUPPORTED, load_tokenizer(rt, NULL, &m));
  CHECK(strstr(err.message, "hf/tokenizer") && strstr(err.message, "vocab_only"));
  INVALID(load_tokenizer(rt, "{\"vocab_only\":true,\"pre_tokenizer\":\"nonsense\"}", &m));
  CHECK(strstr(err.message, "nonsense"));
  OK(load_tokenizer(rt, "{\"vocab_only\":true,\"pre_tokenizer\":\"default\"}", &m));
  inf_model_free(m);
  OK(load_tokenizer(rt, "{\"vocab_only\":true}", &m));
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  CHECK(info.capabilities == 0 && info.n_vocab == 5 && info.eos == 4);
  OK(inf_tokenize(m, "abcab", INF_NUL, 0, tokens, 8, &n, &err));
  CHECK(n == 3 && tokens[0] == 3 && tokens[1] == 2 && tokens[2] == 3);
  inf_model_free(m);
}

/* What is told before the load is what is held after it; a limit is kept. */
static void memory(const char *path) {
  inf_runtime *rt = NULL;
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params p = { .struct_size = sizeof p, .n_sources = 1, .sources = files, .n_ctx_hint = 256 };
  inf_plan plan = { .struct_size = sizeof plan };
  inf_memory held = { .struct_size = sizeof held };
  inf_runtime_params limited = { .struct_size = sizeof limited, .n_threads = 1 };
  OK(inf_runtime_create(&limited, &rt, &err));
  OK(inf_model_estimate(rt, &p, &plan, &err));
  CHECK(plan.fits == 1 && plan.n_ctx == 256 && plan.kv_bytes >= 256 * plan.kv_bytes_per_token);
  CHECK(plan.host_bytes == plan.weights_bytes + plan.kv_bytes + plan.scratch_bytes);
  OK(inf_runtime_memory(rt, &held, &err));
  CHECK(held.host == 0);
  OK(inf_model_load(rt, &p, &m, &err));
  OK(inf_runtime_memory(rt, &held, &err));
  CHECK(held.host * 100 <= plan.weights_bytes * 103 && held.host * 100 >= plan.weights_bytes * 97);
  OK(inf_session_create(m, NULL, &s, &err));
  inf_token token = 5;
  for (int i = 0; i < 256; i++) OK(inf_session_append(s, &token, 1, &err));
  inf_step step = { .struct_size = sizeof step };
  OK(inf_session_step(s, NULL, 0, 0, &step, &err));
  OK(inf_runtime_memory(rt, &held, &err));
  CHECK(held.host * 100 <= plan.host_bytes * 103 && held.host * 100 >= plan.host_bytes * 97 && held.host_peak >= held.host);
  inf_session_free(s), inf_model_free(m);
  OK(inf_runtime_memory(rt, &held, &err));
  CHECK(held.host == 0 && held.host_peak > 0);
  inf_runtime_free(rt);
  limited.host_memory_limit = plan.weights_bytes / 2;
  OK(inf_runtime_create(&limited, &rt, &err));
  OK(inf_model_estimate(rt, &p, &plan, &err));
  CHECK(plan.fits == 0);
  m = NULL;
  STATUS(INF_ERR_BUDGET, inf_model_load(rt, &p, &m, &err));
  CHECK(m == NULL && err.detail[0] > err.detail[1]);
  inf_runtime_free(rt);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  memory(argv[1]);
  tokenizer_json(rt);
  failures(rt, argv[1], argv[0]);
  inf_model *m = open_model(rt, argv);
  facts(m);
  metadata(m);
  references(m);
  saving(rt, argv);
  vocabulary_only(rt, argv[1]);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  STATUS(INF_ERR_SHUTDOWN, load(rt, argv[1], NULL, NULL, &m));
  inf_runtime_free(rt);
  return 0;
}
