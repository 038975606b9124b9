/* Runtimes: threads and their hook, devices, log, shutdown, versioned params. */
#include "check.h"
#ifdef __linux__
#include <dirent.h>
#endif
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
  p.host_driven = 2;
  INVALID(inf_runtime_create(&p, &rt, &err));
  p.host_driven = 0;
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
  CHECK(inf_device_count(rt) >= 2);
  inf_device_info info = { .struct_size = sizeof info };
  OK(inf_device_get(rt, 0, &info, &err));
  CHECK(info.struct_size == sizeof info && info.kind == 0 && info.usable == 1 && !strcmp(info.id, "cpu"));
  CHECK(info.name[0] && !info.reason[0] && info.memory_total >= info.memory_free);
  /* GPUs: usable ones, or at least one that says why it is not. */
  for (uint32_t i = 1; i < inf_device_count(rt); i++) {
    OK(inf_device_get(rt, i, &info, &err));
    CHECK(info.kind == 1 && info.index == i - 1 && !strncmp(info.id, "cuda:", 5) && info.name[0] && !info.usable == !!info.reason[0]);
  }
  INVALID(inf_device_get(rt, inf_device_count(rt), &info, &err));
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

static int n_threads(void) {
  int n = 0;
#ifdef __linux__
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *entry; tasks && (entry = readdir(tasks)) != NULL;) n += entry->d_name[0] != '.';
  if (tasks) closedir(tasks);
#endif
  return n;
}

static void pump_in_a_hook(void *user, uint64_t tag) {
  uint32_t more = 7;
  inf_error own;
  (void)tag;
  CHECK(inf_runtime_pump(user, 100, &more, &own) == INF_ERR_BUSY && more == 7);
}

/* No thread but ours: a load and two generations in slices, then a wait that pumps. */
static void host_driven(const char *path) {
  inf_runtime *rt = NULL;
  inf_load *ld = NULL;
  inf_model *m = NULL;
  inf_session *s[2] = { NULL, NULL };
  inf_generation *g[2] = { NULL, NULL };
  inf_event ev = { .struct_size = sizeof ev };
  uint32_t more = 7, done = 0;
  int before = n_threads();
  inf_runtime_params p = { .struct_size = sizeof p, .host_driven = 1, .n_threads = 2 };
  INVALID(inf_runtime_create(&p, &rt, &err));
  p.n_threads = 0;
  OK(inf_runtime_create(&p, &rt, &err));
  OK(inf_runtime_pump(rt, 100, &more, &err));
  CHECK(more == 0);
  OK(inf_load_start_path(rt, path, INF_NUL, NULL, 0, &ld, &err));
  STATUS(INF_ERR_TIMEOUT, inf_load_wait(ld, 0, NULL, &m, &err));
  OK(inf_runtime_pump(rt, 0, &more, &err));
  CHECK(more == 1);
  do OK(inf_runtime_pump(rt, 2000, &more, &err)); while (more);
  OK(inf_load_wait(ld, 0, NULL, &m, &err));
  inf_load_free(ld);
  for (int i = 0; i < 2; i++) {
    inf_generate_params ask = { .struct_size = sizeof ask, .text = "The smith looks at the sword", .text_len = INF_NUL, .max_tokens = 24 };
    ask.wake = pump_in_a_hook, ask.wake_user = rt;
    OK(inf_session_create(m, NULL, &s[i], &err));
    OK(inf_generate_start(s[i], &ask, &g[i], &err));
    OK(inf_generation_next(g[i], 0, &ev, &err));
    CHECK(ev.type == INF_EV_NONE);
  }
  while (done != 3) {
    OK(inf_runtime_pump(rt, 500, &more, &err));
    for (int i = 0; i < 2; i++) {
      OK(inf_generation_next(g[i], 0, &ev, &err));
      if (ev.type == INF_EV_DONE) done |= 1u << i;
    }
    CHECK(n_threads() == before);
  }
  inf_generation_free(g[0]);
  inf_generate_params again = { .struct_size = sizeof again, .text = "x", .text_len = 1, .max_tokens = 8 };
  OK(inf_generate_start(s[0], &again, &g[0], &err));
  do OK(inf_generation_next(g[0], INF_WAIT_FOREVER, &ev, &err)); while (ev.type != INF_EV_DONE);
  inf_generation_free(g[0]);
  /* cancelled, and never pumped again: everything is freed nevertheless */
  OK(inf_generate_start(s[1], &again, &g[0], &err));
  OK(inf_runtime_pump(rt, 0, &more, &err));
  inf_generation_free(g[0]), inf_generation_free(g[1]);
  OK(inf_session_truncate(s[1], 0, &err));
  CHECK(n_threads() == before);
  inf_session_free(s[0]), inf_session_free(s[1]), inf_model_free(m);
  OK(inf_runtime_shutdown(rt, 0, &err));
  inf_runtime_free(rt);
  p.host_driven = 0, p.n_threads = 1;
  OK(inf_runtime_create(&p, &rt, &err));
  INVALID(inf_runtime_pump(rt, 0, &more, &err));
  inf_runtime_free(rt);
}

int main(int argc, char **argv) {
  params();
  devices();
  hooks();
  drained_log();
  if (argc > 1) host_driven(argv[1]);
  return 0;
}
