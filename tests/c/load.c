/* Loads: every kind of source, progress, waits, cancel with all memory back, releases exactly once, errors that say where. */
#include "check.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#ifdef _WIN32
#include <io.h>
#endif

/* The model's file. */
static uint8_t *file;
static size_t file_size;

static void read_file(const char *path) {
  FILE *f = fopen(path, "rb");
  CHECK(f && !fseek(f, 0, SEEK_END));
  file_size = (size_t)ftell(f);
  file = malloc(file_size);
  CHECK(file && !fseek(f, 0, SEEK_SET) && fread(file, 1, file_size, f) == file_size);
  fclose(f);
}

/* An open file as the library takes it. */
static intptr_t native_of(int fd) {
#ifdef _WIN32
  return _get_osfhandle(fd);
#else
  return fd;
#endif
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void sleep_us(long us) {
  struct timespec t = { us / 1000000, us % 1000000 * 1000 };
  nanosleep(&t, NULL);
}

/* What a source of ours remembers. */
typedef struct {
  atomic_int releases, reads;
  long delay_us;             /* of each read */
  size_t longest;            /* read; 0 = as asked for */
  size_t fail_at;            /* read number that fails; 0 = none */
  size_t answer;             /* of a failing read */
  inf_load *_Atomic cancels; /* cancelled from inside a read */
  inf_runtime *rt;           /* asked to block from inside a read */
} reader;

static size_t read_at(void *user, uint64_t offset, void *dst, size_t n) {
  reader *r = user;
  CHECK(offset + n <= file_size && n > 0 && atomic_load(&r->releases) == 0);
  if ((size_t)atomic_fetch_add(&r->reads, 1) + 1 == r->fail_at) return r->answer == SIZE_MAX ? n + 1 : r->answer;
  if (r->delay_us) sleep_us(r->delay_us);
  if (r->longest && n > r->longest) n = r->longest;
  memcpy(dst, file + offset, n);
  if (atomic_load(&r->cancels)) inf_load_cancel(atomic_load(&r->cancels));
  if (r->rt) CHECK(inf_runtime_shutdown(r->rt, INF_WAIT_FOREVER, NULL) == INF_ERR_BUSY);
  return n;
}

static void on_release(void *user) { atomic_fetch_add(&((reader *)user)->releases, 1); }

static inf_source from_reader(reader *r) {
  return (inf_source){ .struct_size = sizeof(inf_source), .kind = INF_SOURCE_READER, .name = "reader.gguf", .size = file_size,
                       .read_at = read_at, .release = on_release, .user = r };
}

static inf_source from_memory(reader *r, const void *data, size_t size) {
  return (inf_source){ .struct_size = sizeof(inf_source), .kind = INF_SOURCE_MEMORY, .name = "memory.gguf", .data = data, .size = size,
                       .release = on_release, .user = r };
}

static inf_model_params of(const inf_source *const *sources, uint32_t n) {
  return (inf_model_params){ .struct_size = sizeof(inf_model_params), .n_sources = n, .sources = sources };
}

/* Starts a load of one source. */
static inf_load *start(inf_runtime *rt, const inf_source *source) {
  inf_load *ld = NULL;
  inf_model_params p = of(&source, 1);
  OK(inf_load_start(rt, &p, &ld, &err));
  CHECK(ld);
  return ld;
}

/* The model of a load that succeeds; its source is released by then. */
static inf_model *finish(inf_load *ld, reader *r) {
  inf_model *m = NULL;
  float progress = -1;
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, &progress, &m, &err));
  CHECK(m && progress == 1.0f && (!r || atomic_load(&r->releases) == 1));
  INVALID(inf_load_wait(ld, 0, &progress, &m, &err));
  inf_load_free(ld);
  CHECK(!r || atomic_load(&r->releases) == 1);
  return m;
}

static void same_model(inf_model *a, inf_model *b) {
  inf_model_info x = { .struct_size = sizeof x }, y = { .struct_size = sizeof y };
  OK(inf_model_get_info(a, &x, &err));
  OK(inf_model_get_info(b, &y, &err));
  CHECK(!memcmp(&x, &y, sizeof x) && x.n_layers > 0);
  inf_model_free(b);
}

static void every_kind_of_source(inf_runtime *rt, char **argv) {
  inf_model *expected = open_model(rt, argv);
  inf_load *ld = NULL;
  OK(inf_load_start_path(rt, argv[1], strlen(argv[1]), NULL, 0, &ld, &err));
  same_model(expected, finish(ld, NULL));
  const char *options = "{\"device\":\"cpu\",\"n_ctx\":64,\"kv_type\":\"f32\",\"backend\":\"candle\"}";
  OK(inf_load_start_path(rt, argv[1], INF_NUL, options, INF_NUL, &ld, &err));
  same_model(expected, finish(ld, NULL));

  reader path = { 0 }, memory = { 0 }, whole = { 0 }, pieces = { .longest = 777 };
  inf_source s = { .struct_size = sizeof s, .path = argv[1], .release = on_release, .user = &path };
  same_model(expected, finish(start(rt, &s), &path));
  s = from_memory(&memory, file, file_size);
  same_model(expected, finish(start(rt, &s), &memory));
  s = from_reader(&whole);
  same_model(expected, finish(start(rt, &s), &whole));
  s = from_reader(&pieces);
  same_model(expected, finish(start(rt, &s), &pieces));
  CHECK((size_t)atomic_load(&pieces.reads) > file_size / 777 && atomic_load(&whole.reads) < 2000);

  /* In an archive, by an open file that goes right after the start. */
  FILE *archive = tmpfile();
  CHECK(archive && fwrite("archive", 1, 7, archive) == 7 && fwrite(file, 1, file_size, archive) == file_size);
  CHECK(fwrite("behind", 1, 6, archive) == 6 && !fflush(archive));
  for (int rest = 0; rest < 2; rest++) {
    reader native = { 0 };
    int fd = dup(fileno(archive));
    s = (inf_source){ .struct_size = sizeof s, .kind = INF_SOURCE_NATIVE, .native = native_of(fd), .offset = 7, .release = on_release, .user = &native };
    s.size = rest ? 0 : file_size;
    ld = start(rt, &s);
    CHECK(!close(fd));
    same_model(expected, finish(ld, &native));
  }
  fclose(archive);

  /* In the foreground, too. */
  reader blocking = { .longest = 100000 };
  s = from_reader(&blocking);
  const inf_source *sources[] = { &s };
  inf_model_params p = of(sources, 1);
  inf_model *m = NULL;
  OK(inf_model_load(rt, &p, &m, &err));
  CHECK(atomic_load(&blocking.releases) == 1);
  same_model(expected, m);
  inf_model_free(expected);
}

static void progress_and_waits(inf_runtime *rt) {
  reader r = { .delay_us = 500, .longest = 8 << 10 };
  inf_source s = from_reader(&r);
  inf_load *ld = start(rt, &s);
  inf_model *m = NULL;
  float progress = -1, last = 0;
  int between = 0;
  double begin = now_ms();
  STATUS(INF_ERR_TIMEOUT, inf_load_wait(ld, 0, &progress, &m, &err));
  STATUS(INF_ERR_TIMEOUT, inf_load_wait(ld, 0, NULL, &m, &err));
  CHECK(progress == 0);
  begin = now_ms();
  STATUS(INF_ERR_TIMEOUT, inf_load_wait(ld, 20, &progress, &m, &err));
  CHECK(now_ms() - begin >= 19);
  INVALID(inf_load_wait(ld, -2, &progress, &m, &err));
  INVALID(inf_load_wait(ld, 0, &progress, NULL, &err));
  inf_status status;
  while ((status = inf_load_wait(ld, 1, &progress, &m, &err)) == INF_ERR_TIMEOUT) {
    CHECK(progress >= last && progress < 1 && m == NULL);
    between += progress > last;
    last = progress;
  }
  OK(status);
  CHECK(m && progress == 1 && between > 10 && last > 0.5f);
  inf_load_cancel(ld);
  INVALID(inf_load_wait(ld, 0, &progress, &m, &err));
  inf_load_free(ld);
  inf_model_free(m);
}

/* Bytes that malloc has handed out; 0 where nobody says. */
static size_t live_bytes(void) {
#if defined(__GLIBC_PREREQ)
#  if __GLIBC_PREREQ(2, 33)
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
#  endif
#endif
  return 0;
}

/* Cancels `rounds` loads after random times up to `most_us`; the longest time until all was back, in ms. */
static double cancels(inf_runtime *rt, const char *path, reader like, long most_us, int rounds) {
  double slowest = 0;
  int cancelled = 0;
  const size_t before = live_bytes();
  for (int i = 0; i < rounds; i++) {
    reader r = like;
    inf_source s = from_reader(&r);
    if (path) s = (inf_source){ .struct_size = sizeof s, .path = path, .release = on_release, .user = &r };
    inf_load *ld = start(rt, &s);
    inf_model *m = NULL;
    float progress = 7;
    sleep_us(rand() % most_us);
    const double begin = now_ms();
    inf_load_cancel(ld);
    const inf_status status = inf_load_wait(ld, INF_WAIT_FOREVER, &progress, &m, &err);
    if (now_ms() - begin > slowest) slowest = now_ms() - begin;
    CHECK(atomic_load(&r.releases) == 1);
    if (status == INF_ERR_CANCELLED) {
      CHECK(m == NULL && progress == 7);
      /* What a thread that is just ending keeps in its caches, and no weights. */
      CHECK(live_bytes() <= before + (512 << 10));
      STATUS(INF_ERR_CANCELLED, inf_load_wait(ld, 0, &progress, &m, &err));
      cancelled++;
    } else {
      OK(status);
    }
    inf_load_free(ld);
    inf_model_free(m);
  }
  CHECK(cancelled > rounds / 4);
  return slowest;
}

static void cancel_gives_everything_back(inf_runtime *rt, const char *path) {
  double begin = now_ms();
  inf_model *m = NULL;
  inf_load *ld = NULL;
  OK(inf_load_start_path(rt, path, INF_NUL, NULL, 0, &ld, &err));
  m = finish(ld, NULL);
  inf_model_free(m);
  const long whole_us = (long)((now_ms() - begin) * 1e3) + 1;
  const double fast = cancels(rt, path, (reader){ 0 }, whole_us, 100);
  const double slow = cancels(rt, NULL, (reader){ .delay_us = 1000, .longest = 16 << 10 }, 120000, 30);
  printf("    cancel: %.1f ms at most on %s, %.1f ms on a slow reader\n", fast, path, slow);
  /* The figure is 100 ms; a busy machine must not fail the test. */
  CHECK(fast < 2000 && slow < 2000);
}

static void *waiter(void *ld) {
  inf_model *m = NULL;
  return (void *)(uintptr_t)inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, NULL);
}

static void wait_for_release(reader *r) {
  for (double begin = now_ms(); !atomic_load(&r->releases); sleep_us(500)) CHECK(now_ms() - begin < 30000);
}

static void free_in_any_order(int argc, char **argv) {
  const reader slow = { .delay_us = 1000, .longest = 16 << 10 };
  inf_runtime *rt = open_runtime(argc, argv);
  /* A load that is freed ends, and who waits for it is told. */
  reader a = slow;
  inf_source s = from_reader(&a);
  inf_load *ld = start(rt, &s);
  pthread_t thread;
  void *status;
  CHECK(!pthread_create(&thread, NULL, waiter, ld));
  sleep_us(20000);
  inf_load_free(ld);
  inf_load_free(ld);
  CHECK(!pthread_join(thread, &status) && (uintptr_t)status == INF_ERR_CANCELLED && atomic_load(&a.releases) == 1);
  STATUS(INF_ERR_INVALID_HANDLE, inf_load_wait(ld, 0, NULL, &(inf_model *){ NULL }, &err));
  /* From inside a read: cancel is allowed, blocking is not. */
  reader b = { .delay_us = 1000, .longest = 16 << 10, .rt = rt };
  s = from_reader(&b);
  ld = start(rt, &s);
  atomic_store(&b.cancels, ld);
  inf_model *m = NULL;
  STATUS(INF_ERR_CANCELLED, inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  inf_load_free(ld);
  /* The runtime first, then the load, then the model: it still works. */
  reader c = { 0 };
  s = from_reader(&c);
  ld = start(rt, &s);
  inf_runtime_free(rt);
  m = finish(ld, &c);
  inf_session *session = NULL;
  inf_step step = { .struct_size = sizeof step };
  inf_token token = 5;
  OK(inf_session_create(m, NULL, &session, &err));
  inf_model_free(m);
  OK(inf_session_append(session, &token, 1, &err));
  OK(inf_session_step(session, NULL, 0, 0, &step, &err));
  inf_session_free(session);
  /* A model that nobody took goes with its load; a load and its runtime, both freed at once, end by themselves. */
  for (int wait = 0; wait < 2; wait++) {
    rt = open_runtime(argc, argv);
    reader d = slow;
    if (wait) d.delay_us = 0;
    s = from_reader(&d);
    ld = start(rt, &s);
    if (wait) wait_for_release(&d);
    inf_runtime_free(rt);
    inf_load_free(ld);
    wait_for_release(&d);
    CHECK(atomic_load(&d.releases) == 1);
  }
}

static void shut_down(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  reader slow = { .delay_us = 1000, .longest = 16 << 10 }, late = { 0 };
  inf_source s = from_reader(&slow);
  inf_load *ld = start(rt, &s), *none = NULL;
  inf_model *m = NULL;
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  CHECK(atomic_load(&slow.releases) == 1);
  STATUS(INF_ERR_CANCELLED, inf_load_wait(ld, 0, NULL, &m, &err));
  s = from_reader(&late);
  const inf_source *sources[] = { &s };
  inf_model_params p = of(sources, 1);
  STATUS(INF_ERR_SHUTDOWN, inf_load_start(rt, &p, &none, &err));
  CHECK(atomic_load(&late.releases) == 1);
  STATUS(INF_ERR_SHUTDOWN, inf_load_start_path(rt, argv[1], INF_NUL, NULL, 0, &none, &err));
  CHECK(m == NULL && none == NULL);
  inf_load_free(ld);
  inf_runtime_free(rt);
}

static atomic_int wakes;

static void on_wake(void *user, uint64_t tag) {
  CHECK(user == &wakes && tag == 0x1122334455667788u);
  atomic_fetch_add(&wakes, 1);
}

static void wakes_once(inf_runtime *rt, const char *path) {
  for (int i = 0; i < 2; i++) {
    inf_source s = { .struct_size = sizeof s, .path = i ? "/nonexistent.gguf" : path };
    const inf_source *sources[] = { &s };
    inf_model_params p = of(sources, 1);
    p.wake = on_wake, p.wake_user = &wakes, p.wake_tag = 0x1122334455667788u;
    inf_load *ld = NULL;
    inf_model *m = NULL;
    OK(inf_load_start(rt, &p, &ld, &err));
    STATUS(i ? INF_ERR_IO : INF_OK, inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
    for (double begin = now_ms(); atomic_load(&wakes) <= i; sleep_us(500)) CHECK(now_ms() - begin < 30000);
    CHECK(atomic_load(&wakes) == i + 1);
    inf_load_free(ld);
    inf_model_free(m);
  }
}

/* A start that fails with `status`; both sources are released by then, once. */
static void refused(inf_runtime *rt, inf_status status, inf_model_params p, reader *a, reader *b) {
  inf_load *ld = NULL;
  inf_model *m = NULL;
  for (int blocking = 0; blocking < 2; blocking++) {
    atomic_store(&a->releases, 0), atomic_store(&b->releases, 0);
    if (blocking) STATUS(status, inf_model_load(rt, &p, &m, &err));
    else STATUS(status, inf_load_start(rt, &p, &ld, &err));
    CHECK(ld == NULL && m == NULL && atomic_load(&a->releases) == 1 && atomic_load(&b->releases) == 1);
  }
}

static void released_on_every_path(inf_runtime *rt) {
  reader a = { 0 }, b = { 0 };
  inf_source good = from_reader(&a), bad = from_memory(&b, file, file_size), same = bad;
  const inf_source *sources[] = { &good, &bad };
  inf_model_params p = of(sources, 2), q = p;
#define REFUSED(status, change) (q = p, bad = same, change, refused(rt, status, q, &a, &b))
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.data = NULL);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.size = 0);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.size = UINT64_MAX);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.kind = 4);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.kind = INF_SOURCE_READER);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.kind = INF_SOURCE_PATH);
  REFUSED(INF_ERR_INVALID_ARGUMENT, bad.name = "\xFF");
  REFUSED(INF_ERR_ABI, bad.reserved_pointer = &bad);
  REFUSED(INF_ERR_INVALID_ARGUMENT, (bad.kind = INF_SOURCE_NATIVE, bad.native = -1));
  REFUSED(INF_ERR_IO, (bad.kind = INF_SOURCE_NATIVE, bad.native = 1000000));
  REFUSED(INF_ERR_INVALID_ARGUMENT, q.kv_type = 77);
  REFUSED(INF_ERR_INVALID_ARGUMENT, (q.options_json = "{\"vocab_onyl\":true}", q.options_len = INF_NUL));
  REFUSED(INF_ERR_INVALID_ARGUMENT, (q.options_json = "[", q.options_len = 1));
  REFUSED(INF_ERR_INVALID_ARGUMENT, q.device = "\xFF");
#undef REFUSED
  bad = same;
  refused((inf_runtime *)&rt, INF_ERR_INVALID_HANDLE, p, &a, &b);
  refused(NULL, INF_ERR_INVALID_HANDLE, p, &a, &b);
  /* Nothing to write to. */
  atomic_store(&a.releases, 0), atomic_store(&b.releases, 0);
  INVALID(inf_load_start(rt, &p, NULL, &err));
  CHECK(atomic_load(&a.releases) == 1 && atomic_load(&b.releases) == 1);
  /* Fields of a later release, in a source and in the params. */
  struct { inf_source known; uint64_t unknown; } newer = { bad, 1 };
  newer.known.struct_size = sizeof newer;
  sources[1] = &newer.known;
  refused(rt, INF_ERR_ABI, p, &a, &b);
  sources[1] = &bad;
  struct { inf_model_params known; uint64_t unknown; } newer_params = { p, 1 };
  newer_params.known.struct_size = sizeof newer_params;
  inf_load *ld = NULL;
  atomic_store(&a.releases, 0), atomic_store(&b.releases, 0);
  STATUS(INF_ERR_ABI, inf_load_start(rt, &newer_params.known, &ld, &err));
  CHECK(atomic_load(&a.releases) == 1 && atomic_load(&b.releases) == 1);
  /* One that is there twice is released once; one that cannot be read is not. */
  const inf_source *odd[] = { &good, &bad, &good, NULL, &(inf_source){ .struct_size = 3, .release = on_release, .user = &a } };
  refused(rt, INF_ERR_INVALID_ARGUMENT, of(odd, 5), &a, &b);
  /* Two whole models are no split set; that is found by the load. */
  inf_model *m = NULL;
  atomic_store(&a.releases, 0), atomic_store(&b.releases, 0);
  OK(inf_load_start(rt, &p, &ld, &err));
  INVALID(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  CHECK(atomic_load(&a.releases) == 1 && atomic_load(&b.releases) == 1 && m == NULL);
  inf_load_free(ld);
}

/* The error of a load from `source`, twice the same. */
static void fails(inf_runtime *rt, inf_source source, reader *r, inf_status status, const char *what, const char *where) {
  atomic_store(&r->releases, 0);
  inf_load *ld = start(rt, &source);
  inf_model *m = NULL;
  float progress = 7;
  for (int again = 0; again < 2; again++) {
    STATUS(status, inf_load_wait(ld, again ? 0 : INF_WAIT_FOREVER, &progress, &m, &err));
    if (!strstr(err.message, what) || !strstr(err.message, where)) fprintf(stderr, "%s\n", err.message);
    CHECK(strstr(err.message, what) && strstr(err.message, where) && m == NULL && progress == 7);
  }
  CHECK(atomic_load(&r->releases) == 1);
  inf_load_free(ld);
}

/* Where `text` is in the model's file. */
static size_t position(const char *text) {
  const size_t n = strlen(text);
  for (size_t i = 0; i + n <= file_size; i++) {
    if (!memcmp(file + i, text, n)) return i;
  }
  CHECK(!"it is there");
  return 0;
}

/* The error of the model's file with `n` bytes at `at` replaced. */
static void damaged(inf_runtime *rt, size_t at, const void *bytes, size_t n, inf_status status, const char *what) {
  uint8_t *copy = malloc(file_size);
  reader r = { 0 };
  CHECK(copy && at + n <= file_size);
  memcpy(copy, file, file_size);
  memcpy(copy + at, bytes, n);
  fails(rt, from_memory(&r, copy, file_size), &r, status, what, "memory.gguf");
  free(copy);
}

static void errors_say_what_and_where(inf_runtime *rt, const char *path) {
  reader r = { 0 };
  inf_source s = { .struct_size = sizeof s, .path = "/nonexistent/smith.gguf", .release = on_release, .user = &r };
  fails(rt, s, &r, INF_ERR_IO, "No such file", "/nonexistent/smith.gguf");
  s.path = "/";
  fails(rt, s, &r, INF_ERR_IO, "directory", "/");
  s = from_memory(&r, file, file_size);
  s.name = "tokenizer.json";
  fails(rt, s, &r, INF_ERR_UNSUPPORTED, "GGUF", "tokenizer.json");
  s.name = NULL, s.size = 100;
  fails(rt, s, &r, INF_ERR_FORMAT, "byte", "sources[0] (memory)");
  fails(rt, from_memory(&r, file, file_size - 1), &r, INF_ERR_FORMAT, "tensor \"", "memory.gguf");
  reader zero = { .fail_at = 3, .longest = 1000 }, much = { .fail_at = 3, .longest = 1000, .answer = SIZE_MAX };
  fails(rt, from_reader(&zero), &zero, INF_ERR_IO, "read_at returned 0", "reader.gguf");
  fails(rt, from_reader(&much), &much, INF_ERR_IO, "expected at most", "reader.gguf");
  s = from_reader(&r);
  s.size = 5000;
  fails(rt, s, &r, INF_ERR_FORMAT, "5000", "reader.gguf");

  damaged(rt, 0, "PK\3\4", 4, INF_ERR_FORMAT, "not a GGUF file");
  damaged(rt, 4, "\1", 1, INF_ERR_UNSUPPORTED, "version 1");
  damaged(rt, 8, "\377\377\377\377\377", 5, INF_ERR_FORMAT, "tensors");
  damaged(rt, position("llama"), "abaca", 5, INF_ERR_UNSUPPORTED, "abaca");
  damaged(rt, position("llama.block_count"), "llama.block_cxxxx", 17, INF_ERR_FORMAT, "llama.block_count");
  damaged(rt, position("llama-bpe"), "sun-dials", 9, INF_ERR_UNSUPPORTED, "sun-dials");
  damaged(rt, position("gpt2"), "gpt9", 4, INF_ERR_UNSUPPORTED, "gpt9");
  const size_t up = position("blk.1.ffn_up.weight"), rows = up + 19 + 4 + 8;
  damaged(rt, up, "blk.1.ffn_up.wxxxxx", 19, INF_ERR_FORMAT, "blk.1.ffn_up.weight is missing");
  damaged(rt, up + 19 + 4 + 16, "\143", 1, INF_ERR_UNSUPPORTED, "blk.1.ffn_up.weight");
  uint64_t n_rows;
  memcpy(&n_rows, file + rows, sizeof n_rows);
  n_rows--;
  damaged(rt, rows, &n_rows, sizeof n_rows, INF_ERR_FORMAT, "blk.1.ffn_up.weight: shape ");
  printf("    %s\n", err.message);

  inf_load *ld = NULL;
  inf_model *m = NULL;
  INVALID(inf_load_start_path(rt, NULL, INF_NUL, NULL, 0, &ld, &err));
  INVALID(inf_load_start_path(rt, path, INF_NUL, "{\"n_ctxt\":1}", INF_NUL, &ld, &err));
  CHECK(strstr(err.message, "n_ctxt"));
  INVALID(inf_load_start_path(rt, path, INF_NUL, "{\"n_ctx\":-1}", INF_NUL, &ld, &err));
  CHECK(strstr(err.message, "n_ctx"));
  INVALID(inf_load_start_path(rt, path, INF_NUL, "{\"kv_type\":\"f8\"}", INF_NUL, &ld, &err));
  CHECK(strstr(err.message, "f8"));
  INVALID(inf_load_start_path(rt, path, INF_NUL, "{\"device\":7}", INF_NUL, &ld, &err));
  INVALID(inf_load_start_path(rt, path, INF_NUL, "{\"backend\":\"abacus\"}", INF_NUL, &ld, &err));
  INVALID(inf_load_start_path(rt, path, INF_NUL, NULL, 0, NULL, &err));
  CHECK(ld == NULL);
  OK(inf_load_start_path(rt, path, INF_NUL, "{\"device\":\"cuda:0\"}", INF_NUL, &ld, &err));
  STATUS(INF_ERR_NO_DEVICE, inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &m, &err));
  CHECK(strstr(err.message, "cuda:0"));
  inf_load_free(ld);
  OK(inf_load_start_path(rt, path, INF_NUL, "{\"vocab_only\":true}", INF_NUL, &ld, &err));
  inf_model_free(finish(ld, NULL));
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  read_file(argv[1]);
  srand(1);
  every_kind_of_source(rt, argv);
  progress_and_waits(rt);
  cancel_gives_everything_back(rt, argv[1]);
  free_in_any_order(argc, argv);
  shut_down(argc, argv);
  wakes_once(rt, argv[1]);
  released_on_every_path(rt);
  errors_say_what_and_where(rt, argv[1]);
  inf_runtime_free(rt);
  free(file);
  return 0;
}
