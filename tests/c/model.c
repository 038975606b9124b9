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

static void vocabulary_only(inf_runtime *rt, const char *path) {
  inf_model *m = NULL;
  inf_session *s = NULL;
  size_t n = 0;
  OK(load(rt, path, "auto", "{\"vocab_only\":true}", &m));
  inf_model_info info = { .struct_size = sizeof info };
  OK(inf_model_get_info(m, &info, &err));
  CHECK(info.capabilities == 0 && info.n_layers == 0 && info.n_vocab > 0);
  OK(inf_tokenize(m, "text", INF_NUL, 0, NULL, 0, &n, &err));
  CHECK(n > 0);
  STATUS(INF_ERR_UNSUPPORTED, inf_session_create(m, NULL, &s, &err));
  inf_model_free(m);
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  failures(rt, argv[1], argv[0]);
  inf_model *m = open_model(rt, argv);
  facts(m);
  metadata(m);
  references(m);
  vocabulary_only(rt, argv[1]);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  STATUS(INF_ERR_SHUTDOWN, load(rt, argv[1], NULL, NULL, &m));
  inf_runtime_free(rt);
  return 0;
}
