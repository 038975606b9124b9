/* Runtimes: threads and their hook, devices, log, shutdown, versioned params. */
#include "check.h"
#include <stdatomic.h>

static atomic_int started, stopped, lines;

static void on_thread(void *user, uint32_t starting) {
  CHECK(user == &started);
  atomic_fetch_add(starting ? &started : &stopped, 1);
}

static void on_log(void *user, uint32_t level, const char *msg, size_t len) {
  CHECK(user == &lines && level >= 1 && level <= 4 && len > 0 && strlen(msg) == len);
  atomic_fetch_add(&lines, 1);
}

static void params(void) {
  inf_runtime *rt = NULL;
  struct { inf_runtime_params known; uint64_t unknown; } newer = { { .struct_size = sizeof newer }, 0 };
  OK(inf_runtime_create(&newer.known, &rt, &err));
  inf_runtime_free(rt);
  rt = NULL;
  newer.unknown = 1;
  STATUS(INF_ERR_ABI, inf_runtime_create(&newer.known, &rt, &err));
  inf_runtime_params p = { .struct_size = 0 };
  STATUS(INF_ERR_ABI, inf_runtime_create(&p, &rt, &err));
  p.struct_size = sizeof p - 1;
  STATUS(INF_ERR_ABI, inf_runtime_create(&p, &rt, &err));
  p.struct_size = sizeof p;
  p.reserved = 1;
  STATUS(INF_ERR_ABI, inf_runtime_create(&p, &rt, &err));
  p.reserved = 0;
  p.n_threads = 1000000;
  INVALID(inf_runtime_create(&p, &rt, &err));
  p.n_threads = 1;
  p.options_json = "{\"kernles\":\"avx2\"}", p.options_len = INF_NUL;
  INVALID(inf_runtime_create(&p, &rt, &err));
  CHECK(strstr(err.message, "kernles"));
  p.options_json = "{\"kernels\":\"abacus\"}";
  STATUS(INF_ERR_UNSUPPORTED, inf_runtime_create(&p, &rt, &err));
  CHECK(strstr(err.message, "scalar"));
  CHECK(rt == NULL);
  p.options_json = "{\"kernels\":\"scalar\"}";
  OK(inf_runtime_create(&p, &rt, &err));
  inf_runtime_free(rt);
}

static void devices(void) {
  inf_runtime *rt = NULL;
  OK(inf_runtime_create(NULL, &rt, &err));
  CHECK(inf_device_count(rt) == 1);
  inf_device_info info = { .struct_size = sizeof info };
  OK(inf_device_get(rt, 0, &info, &err));
  CHECK(info.struct_size == sizeof info && info.kind == 0 && info.usable == 1 && !strcmp(info.id, "cpu"));
  CHECK(info.name[0] && !info.reason[0] && info.memory_total >= info.memory_free);
  INVALID(inf_device_get(rt, 1, &info, &err));
  INVALID(inf_device_get(rt, 0, NULL, &err));
  inf_runtime_free(rt);
}

static void hooks(void) {
  inf_runtime *rt = NULL;
  inf_runtime_params p = { .struct_size = sizeof p, .n_threads = 3, .log_level = 4, .cpu_mask = { ~0ull, ~0ull, ~0ull, ~0ull } };
  p.thread = on_thread, p.thread_user = &started, p.log = on_log, p.log_user = &lines;
  OK(inf_runtime_create(&p, &rt, &err));
  CHECK(atomic_load(&lines) > 0);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  CHECK(atomic_load(&started) >= 2 && atomic_load(&started) == atomic_load(&stopped));
  OK(inf_runtime_shutdown(rt, 0, &err));
  INVALID(inf_runtime_shutdown(rt, -2, &err));
  inf_runtime_free(rt);
  inf_runtime_free(rt);
  inf_runtime_free(NULL);
}

static void drained_log(void) {
  inf_runtime *rt = NULL;
  inf_runtime_params p = { .struct_size = sizeof p, .n_threads = 1, .log_level = 3 };
  OK(inf_runtime_create(&p, &rt, &err));
  char line[512];
  size_t len = 0, needed = 0;
  uint32_t level = 9;
  OK(inf_runtime_next_log(rt, NULL, 0, &needed, &level, &err));
  CHECK(needed > 1 && level == 3);
  STATUS(INF_ERR_BUFFER_TOO_SMALL, inf_runtime_next_log(rt, line, 1, &len, &level, &err));
  CHECK(len == needed);
  OK(inf_runtime_next_log(rt, line, sizeof line, &len, &level, &err));
  CHECK(len == needed && strlen(line) == len && level == 3 && strstr(line, "runtime"));
  OK(inf_runtime_next_log(rt, line, sizeof line, &len, &level, &err));
  CHECK(len == 0 && level == 0 && line[0] == 0);
  inf_runtime_free(rt);
}

int main(void) {
  params();
  devices();
  hooks();
  drained_log();
  return 0;
}
