/* What the system refuses: threads, and memory for each large allocation in turn. A status, no end of the process, and everything works afterwards.
 * And a bug, the only one that can be made to happen from outside: candle, our oracle, panics where it gets no threads.
 *
 * This program has its own malloc and pthread_create, which the library calls as it would call those of the C library. */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#  define _GNU_SOURCE
#endif
#include "check.h"
#if defined(__linux__) && defined(__GLIBC__)
#  include <dlfcn.h>
#  include <errno.h>
#  include <fcntl.h>
#  include <pthread.h>
#  include <stdatomic.h>
#  include <sys/mman.h>
#  include <unistd.h>

/* Below this, memory is not asked for fallibly: a system that refuses 64 KiB ends programs by other means. */
enum { LARGE = 64 << 10, N_NEW = 8, NEVER = 1 << 30 };

static atomic_int no_threads;
/* Large allocations that are still granted; then `refusals` are not. */
static atomic_int granted = NEVER, refusals;

static int refuses(size_t size) {
  if (size < LARGE || atomic_load(&granted) == NEVER) return 0;
  return atomic_fetch_sub(&granted, 1) <= 0 && atomic_fetch_sub(&refusals, 1) > 0;
}

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

void *malloc(size_t size) { return refuses(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return refuses(n * size) ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return refuses(size) ? NULL : __libc_realloc(p, size); }
void free(void *p) { __libc_free(p); }

int posix_memalign(void **out, size_t alignment, size_t size) {
  if (refuses(size) || !(*out = __libc_memalign(alignment, size))) return ENOMEM;
  return 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  union { void *symbol; int (*call)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *); } real;
  if (atomic_load(&no_threads)) return EAGAIN;
  real.symbol = dlsym(RTLD_NEXT, "pthread_create");
  return real.call(thread, attributes, start, argument);
}

/* Mappings of files are refused: not those of memory, which threads need. */
static atomic_int no_mappings;

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
  union { void *symbol; void *(*call)(void *, size_t, int, int, int, off_t); } real;
  if (fd >= 0 && atomic_load(&no_mappings)) {
    errno = ENODEV;
    return MAP_FAILED;
  }
  real.symbol = dlsym(RTLD_NEXT, "mmap64");
  return real.call(at, size, protection, flags, fd, offset);
}

/* False under valgrind, which has the malloc of all programs. */
static int memory_is_ours(void) {
  void *(*volatile ask)(size_t) = malloc;
  atomic_store(&refusals, 1), atomic_store(&granted, 0);
  void *granted_anyway = ask(LARGE);
  atomic_store(&granted, NEVER);
  free(granted_anyway);
  return granted_anyway == NULL;
}

static int releases;
static void on_release(void *user) { (void)user, releases++; }

static void threads(int argc, char **argv) {
  inf_runtime *rt = NULL;
  inf_load *ld = NULL;
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_source file = { .struct_size = sizeof file, .path = argv[1], .release = on_release };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  inf_runtime_params two = { .struct_size = sizeof two, .n_threads = 2 };
  inf_generate_params ask = { .struct_size = sizeof ask, .text = "The smith", .text_len = INF_NUL, .max_tokens = 4 };

  atomic_store(&no_threads, 1);
  STATUS(INF_ERR_OUT_OF_MEMORY, inf_runtime_create(&two, &rt, &err));
  CHECK(rt == NULL && strstr(err.message, "thread"));
  atomic_store(&no_threads, 0);
  rt = open_runtime(argc, argv);
  atomic_store(&no_threads, 1);
  STATUS(INF_ERR_OUT_OF_MEMORY, inf_load_start(rt, &load, &ld, &err));
  CHECK(ld == NULL && releases == 1);
  STATUS(INF_ERR_OUT_OF_MEMORY, inf_load_start_path(rt, argv[1], INF_NUL, NULL, 0, &ld, &err));
  inf_model *m = open_model(rt, argv); /* needs no new thread */
  OK(inf_session_create(m, NULL, &s, &err));
  STATUS(INF_ERR_OUT_OF_MEMORY, inf_generate_start(s, &ask, &g, &err));
  CHECK(g == NULL && inf_session_n_tokens(s) == 0);
  STATUS(INF_ERR_OUT_OF_MEMORY, inf_generate_json(s, "{\"text\":\"x\"}", INF_NUL, &g, &err));
  atomic_store(&no_threads, 0);
  inf_event ev = { .struct_size = sizeof ev };
  OK(inf_generate_start(s, &ask, &g, &err));
  do OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err)); while (ev.type != INF_EV_DONE);
  CHECK(ev.finish != INF_FINISH_ERROR);
  inf_generation_free(g), inf_session_free(s), inf_model_free(m);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
}

/* Of the load of a life. */
static const char *options;

/* A load, a prompt, eight tokens, a state that is saved and restored: OUT_OF_MEMORY at the first call that is refused memory, or OK and the tokens. */
static inf_status life(inf_runtime *rt, char **argv, inf_token *out, uint8_t *state, size_t cap) {
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_sampler *greedy = NULL;
  inf_token prompt[64];
  size_t n = 0, len = 0;
  inf_step step = { .struct_size = sizeof step };
  inf_source file = { .struct_size = sizeof file, .path = argv[1] };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files, .options_json = options, .options_len = INF_NUL };
  inf_status status = inf_model_load(rt, &load, &m, &err);
  if (!status) status = inf_session_create(m, NULL, &s, &err);
  if (!status) status = inf_sampler_create(m, &greedy, &err);
  if (!status) status = inf_tokenize(m, "The smith looks at the old sword", INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 64, &n, &err);
  if (!status) status = inf_session_append(s, prompt, n, &err);
  for (int i = 0; !status && i < N_NEW; i++) {
    status = inf_session_step(s, greedy, 0, INF_STEP_IGNORE_EOG, &step, &err);
    out[i] = step.token;
  }
  if (!status) status = inf_session_save(s, state, cap, &len, &err);
  if (!status) status = inf_session_truncate(s, 0, &err);
  if (!status) status = inf_session_restore(s, state, len, &err);
  CHECK(err.status == status && (status == INF_OK) == !err.message[0]);
  inf_sampler_free(greedy), inf_session_free(s), inf_model_free(m);
  return status;
}

/* Refuses `n` large allocations behind the first k, for each k until none is refused any more; how many there are. */
static int memory(inf_runtime *rt, char **argv, const inf_token *expected, int n, uint8_t *state, size_t cap) {
  inf_token got[N_NEW];
  for (int k = 0;; k++) {
    CHECK(k < 10000);
    atomic_store(&refusals, n), atomic_store(&granted, k);
    inf_status status = life(rt, argv, got, state, cap);
    const int refused = atomic_load(&refusals) < n;
    atomic_store(&granted, NEVER);
    /* What only makes things faster may do without. */
    CHECK(status == INF_ERR_OUT_OF_MEMORY ? refused && err.detail[0] >= 0 : status == INF_OK && !memcmp(got, expected, sizeof got));
    if (!refused) return k;
  }
}

/* A file that the system does not map is read, and the log says so. */
static void mapping(int argc, char **argv, const inf_token *expected, uint8_t *state, size_t cap) {
  char line[512];
  inf_token got[N_NEW];
  inf_runtime *rt = open_runtime(argc, argv);
  for (int refused = 0; refused < 2; refused++) {
    int warned = 0;
    size_t len = 1;
    uint32_t level = 0;
    options = "{\"mmap\":true}";
    atomic_store(&no_mappings, refused);
    CHECK(life(rt, argv, got, state, cap) == INF_OK && !memcmp(got, expected, sizeof got));
    atomic_store(&no_mappings, 0);
    options = NULL;
    while (inf_runtime_next_log(rt, line, sizeof line, &len, &level, &err) == INF_OK && len)
      warned += level == 2 && strstr(line, argv[1]) && strstr(line, "not mapped");
    CHECK(warned == refused);
  }
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
}

/* Candle asks for threads without an answer to a refusal. Rust's own hook, which belongs to the host, tells it to standard error: not here. */
static void a_bug(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_load *ld = NULL;
  inf_model *m = NULL;
  inf_session *s = NULL;
  inf_token token = 5;
  inf_step step = { .struct_size = sizeof step, .token = 77 };
  CHECK(!setenv("CANDLE_NUM_THREADS", "3", 1) && !setenv("RAYON_NUM_THREADS", "3", 1));
  OK(inf_load_start_path(rt, argv[1], INF_NUL, "{\"backend\":\"candle\"}", INF_NUL, &ld, &err));
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_session_append(s, &token, 1, &err));
  fflush(stderr);
  const int kept = dup(2), nothing = open("/dev/null", O_WRONLY);
  CHECK(kept >= 0 && dup2(nothing, 2) == 2);
  atomic_store(&no_threads, 1);
  const inf_status status = inf_session_step(s, NULL, 0, 0, &step, &err);
  atomic_store(&no_threads, 0);
  CHECK(dup2(kept, 2) == 2 && !close(kept) && !close(nothing));
  CHECK(status == INF_ERR_INTERNAL && err.status == status && strstr(err.message, "bug") && step.token == 77);
  CHECK(inf_session_n_tokens(s) == 1);
  inf_session_free(s), inf_load_free(ld), inf_model_free(m);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
}

int main(int argc, char **argv) {
  static uint8_t state[8 << 20];
  inf_token expected[N_NEW], got[N_NEW];
  threads(argc, argv);
  inf_runtime *rt = open_runtime(argc, argv);
  CHECK(life(rt, argv, expected, state, sizeof state) == INF_OK);
  if (memory_is_ours()) {
    const int once = memory(rt, argv, expected, 1, state, sizeof state), always = memory(rt, argv, expected, NEVER, state, sizeof state);
    CHECK(once > 2 && always > 2);
    printf("    each of %d large allocations refused, alone and with all behind it\n", once);
  } else {
    puts("    skipped: valgrind's memory cannot be refused");
  }
  mapping(argc, argv, expected, state, sizeof state);
  a_bug(argc, argv);
  CHECK(life(rt, argv, got, state, sizeof state) == INF_OK && !memcmp(got, expected, sizeof got));
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
  return 0;
}
#else
int main(void) {
  puts("    skipped: the memory of this system is refused with glibc only");
  return 0;
}
#endif
