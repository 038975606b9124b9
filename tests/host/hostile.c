/* The hostile host: one whole life of the library inside of processes with habits. Each row of the table is a process of its own; its tokens must be the bits
 * of a quiet host, and what belongs to the host must be as it was. Usage: hostile model.gguf [full]; prints the table, ends with 1 if a row fails. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif
#include "inference.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#if defined(__x86_64__)
#  include <immintrin.h>
#endif

enum { N_STEPS = 12, N_GENERATED = 16, N_AGAIN = 4, N_TOKENS = N_STEPS + N_GENERATED + N_AGAIN, N_SIGNALS = 65 };

/* What a row answers, in memory that it shares with the table. `why` is empty if it passed; `note` is told beside it. */
typedef struct { inf_token tokens[N_TOKENS]; inf_status status; int finished; char why[800], note[640]; } answer;

static answer *out;
static const char *path;
static int full;

#define FAIL(...) do { if (!out->why[0]) snprintf(out->why, sizeof out->why, __VA_ARGS__); } while (0)
#define NOTE(...) snprintf(out->note, sizeof out->note, __VA_ARGS__)
#define TRY(call) do { if ((status = (call)) != INF_OK) goto done; } while (0)

/* ---- A whole life: load, step, generate, save, restore ------------------------------------------------------------------ */

typedef struct { inf_runtime *rt; inf_model *m; inf_session *s; inf_sampler *greedy; inf_generation *g; inf_error err; } life;

static inf_status begin(life *l) {
  inf_status status;
  inf_runtime_params params = { .struct_size = sizeof params, .n_threads = 2, .log_level = 4 };
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  TRY(inf_runtime_create(&params, &l->rt, &l->err));
  TRY(inf_model_load(l->rt, &load, &l->m, &l->err));
  TRY(inf_session_create(l->m, NULL, &l->s, &l->err));
  TRY(inf_sampler_create(l->m, &l->greedy, &l->err));
done:
  return status;
}

static inf_status steps(life *l, inf_token *tokens, int n) {
  inf_status status = INF_OK;
  inf_step step = { .struct_size = sizeof step };
  for (int i = 0; i < n; i++) {
    TRY(inf_session_step(l->s, l->greedy, 0, INF_STEP_IGNORE_EOG, &step, &l->err));
    tokens[i] = step.token;
  }
done:
  return status;
}

static inf_status generate(life *l, inf_token *tokens, size_t n) {
  inf_status status;
  inf_event ev = { .struct_size = sizeof ev };
  inf_generate_params ask = { .struct_size = sizeof ask, .text = " The baker sells", .text_len = INF_NUL, .max_tokens = (uint32_t)n, .sampler = l->greedy };
  TRY(inf_generate_start(l->s, &ask, &l->g, &l->err));
  do {
    TRY(inf_generation_next(l->g, INF_WAIT_FOREVER, &ev, &l->err));
    for (size_t i = 0; i < ev.n_tokens && n > 0; i++, n--) *tokens++ = ev.tokens[i];
  } while (ev.type != INF_EV_DONE);
  if (ev.finish == INF_FINISH_ERROR) status = ev.status, snprintf(l->err.message, sizeof l->err.message, "%s", ev.error_text);
  inf_generation_free(l->g), l->g = NULL;
done:
  return status;
}

static inf_status save_and_restore(life *l) {
  inf_status status;
  size_t len = 0;
  char *state = NULL;
  TRY(inf_session_save(l->s, NULL, 0, &len, &l->err));
  state = malloc(len);
  if (!state) return INF_ERR_OUT_OF_MEMORY;
  TRY(inf_session_save(l->s, state, len, &len, &l->err));
  TRY(inf_session_truncate(l->s, 0, &l->err));
  TRY(inf_session_restore(l->s, state, len, &l->err));
done:
  free(state);
  return status;
}

static void end(life *l) {
  inf_generation_free(l->g), inf_sampler_free(l->greedy), inf_session_free(l->s), inf_model_free(l->m);
  if (l->rt && inf_runtime_shutdown(l->rt, INF_WAIT_FOREVER, NULL) != INF_OK) FAIL("the runtime does not end");
  inf_runtime_free(l->rt);
}

/* The tokens and the status of a whole life. */
static inf_status whole_life(inf_token *tokens) {
  life l = { 0 };
  inf_status status;
  inf_token prompt[64];
  size_t n = 0;
  TRY(begin(&l));
  TRY(inf_tokenize(l.m, "The smith looks at the old sword", INF_NUL, INF_TOK_ADD_SPECIAL, prompt, 64, &n, &l.err));
  TRY(inf_session_append(l.s, prompt, n, &l.err));
  TRY(steps(&l, tokens, N_STEPS));
  TRY(generate(&l, tokens + N_STEPS, N_GENERATED));
  TRY(save_and_restore(&l));
  TRY(steps(&l, tokens + N_STEPS + N_GENERATED, N_AGAIN));
done:
  if (status) NOTE("%s: %s", inf_status_name(status), l.err.message);
  end(&l);
  return status;
}

/* ---- What belongs to the host ------------------------------------------------------------------------------------------- */

typedef struct {
  struct { void (*handler)(int); int flags; } signals[N_SIGNALS];
  sigset_t blocked;
  unsigned mxcsr, umask;
  uint16_t x87;
  int rounding, priority, n_fds, n_threads;
  char locale[300], *environment;
  struct rlimit limits[RLIM_NLIMITS];
} host_state;

static int entries(const char *folder) {
  int n = 0;
  DIR *d = opendir(folder);
  while (d && readdir(d)) n++;
  if (d) closedir(d);
  return n;
}

static void look(host_state *state) {
  memset(state, 0, sizeof *state);
  for (int i = 1; i < N_SIGNALS; i++) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    if (!sigaction(i, NULL, &action)) state->signals[i].handler = action.sa_handler, state->signals[i].flags = action.sa_flags;
  }
  pthread_sigmask(SIG_BLOCK, NULL, &state->blocked);
#if defined(__x86_64__)
  state->mxcsr = _mm_getcsr() & ~0x3Fu; /* without what happened: the host's own code sets that, too */
  __asm__ volatile("fnstcw %0" : "=m"(state->x87));
#endif
  state->umask = umask(0), umask(state->umask);
  state->rounding = fegetround();
  state->priority = getpriority(PRIO_PROCESS, 0);
  state->n_fds = entries("/proc/self/fd");
  state->n_threads = entries("/proc/self/task");
  state->environment = (char *)(environ ? environ[0] : NULL);
  const char *name = setlocale(LC_ALL, NULL);
  snprintf(state->locale, sizeof state->locale, "%s", name ? name : "");
  for (int i = 0; i < RLIM_NLIMITS; i++) getrlimit(i, &state->limits[i]);
}

static void compare(const host_state *before) {
  host_state after;
  /* A joined thread is gone from /proc a moment later. */
  for (int i = 0; i < 200; i++) {
    look(&after);
    if (after.n_threads == before->n_threads) break;
    usleep(10000);
  }
#define SAME(field) if (memcmp(&before->field, &after.field, sizeof after.field)) FAIL("changed: " #field)
  SAME(signals); SAME(blocked); SAME(mxcsr); SAME(x87); SAME(umask); SAME(rounding); SAME(priority); SAME(n_fds); SAME(n_threads);
  SAME(environment); SAME(locale); SAME(limits);
}

/* The tokens of a whole life; the host is as it was. */
static void live(void) {
  host_state before;
  look(&before);
  out->status = whole_life(out->tokens);
  compare(&before);
}

/* ---- Rows --------------------------------------------------------------------------------------------------------------- */

static void *life_thread(void *unused) { return live(), unused; }

static void small_stack(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  if (pthread_attr_setstacksize(&attributes, 64 << 10) || pthread_create(&thread, &attributes, life_thread, NULL)) FAIL("no such thread");
  else pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
}

static void round_up(void) { if (!fesetround(FE_UPWARD)) live(); }
static void round_down(void) { if (!fesetround(FE_DOWNWARD)) live(); }
static void round_to_zero(void) { if (!fesetround(FE_TOWARDZERO)) live(); }

#if defined(__x86_64__)
static void with_mxcsr(unsigned mode) {
  _mm_setcsr(mode);
  live();
  _mm_setcsr(0x1F80);
}

static void flush_to_zero(void) { with_mxcsr(0x1F80 | 0x8040); }
static void unmasked(void) { with_mxcsr(0x0000); }

static void with_x87(uint16_t word) {
  __asm__ volatile("fldcw %0" : : "m"(word));
  live();
  word = 0x037F;
  __asm__ volatile("fldcw %0" : : "m"(word));
}

static void x87_single(void) { with_x87(0x007F); }
static void x87_double_down(void) { with_x87(0x067F); }
#endif

static volatile sig_atomic_t ticks;
static void tick(int signal) { (void)signal, ticks++; }

/* A profiler: a signal each millisecond, at work and in waits, and calls of the system that are not taken up again. By the clock on the wall: timers that
 * count work are as coarse as the system's tick. */
static void profiled(void) {
  struct sigaction action, old;
  struct sigevent event;
  struct itimerspec every = { { 0, 1000000 }, { 0, 1000000 } };
  inf_token tokens[N_TOKENS] = { 0 };
  timer_t timer;
  memset(&action, 0, sizeof action), memset(&event, 0, sizeof event);
  action.sa_handler = tick;
  event.sigev_notify = SIGEV_SIGNAL, event.sigev_signo = SIGPROF;
  sigaction(SIGPROF, &action, &old);
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &every, NULL)) FAIL("no timer");
  const int enough = full ? 5000 : 100;
  for (int i = 0; i < 5 || (ticks < enough && i < 20000); i++) {
    live();
    if (i > 0 && memcmp(tokens, out->tokens, sizeof tokens)) FAIL("other tokens in round %d", i);
    memcpy(tokens, out->tokens, sizeof tokens);
  }
  timer_delete(timer);
  sigaction(SIGPROF, &old, NULL);
  NOTE("%d signals", (int)ticks);
  if (ticks < enough) FAIL("the profiler did not run");
}

static void with_locale(const char *name) {
  if (!setlocale(LC_ALL, name)) {
    NOTE("skipped: no such locale here");
    setlocale(LC_ALL, "C");
  } else if (localeconv()->decimal_point[0] != ',') {
    FAIL("%s has no comma", name);
  }
  live();
}

static void german(void) { with_locale("de_DE.UTF-8"); }
static void turkish(void) { with_locale("tr_TR.UTF-8"); }

static void closed_fds(void) {
  int kept[3];
  for (int i = 0; i < 3; i++) kept[i] = fcntl(i, F_DUPFD, 100), close(i);
  live();
  for (int i = 0; i < 3; i++) if (fcntl(i, F_GETFD) != -1) FAIL("file descriptor %d is open", i);
  for (int i = 0; i < 3; i++) dup2(kept[i], i), close(kept[i]);
}

static void no_directory(void) {
  char folder[] = "/tmp/hostile-XXXXXX", now[8];
  if (!mkdtemp(folder) || chdir(folder) || rmdir(folder)) FAIL("no folder");
  live();
  if (getcwd(now, sizeof now) || errno != ENOENT) FAIL("the working directory is another");
  if (chdir("/")) FAIL("no /");
}

static void few_fds(void) {
  struct rlimit old, few = { 8, 8 };
  getrlimit(RLIMIT_NOFILE, &old);
  few.rlim_max = old.rlim_max;
  setrlimit(RLIMIT_NOFILE, &few);
  live();
  setrlimit(RLIMIT_NOFILE, &old);
}

/* Not one file can be opened: a status, and everything works afterwards. */
static void no_fds(void) {
  struct rlimit old, none;
  inf_token tokens[N_TOKENS];
  getrlimit(RLIMIT_NOFILE, &old);
  none.rlim_cur = 0, none.rlim_max = old.rlim_max;
  setrlimit(RLIMIT_NOFILE, &none);
  inf_status status = whole_life(tokens);
  setrlimit(RLIMIT_NOFILE, &old);
  if (status != INF_ERR_IO) FAIL("%s without a file descriptor", inf_status_name(status));
  out->note[0] = 0;
  live();
}

/* Runs `inside` in a process of its own; how it ended, as waitpid tells. */
static int apart(void (*inside)(void)) {
  pid_t child = fork();
  int status = -1;
  if (child == 0) {
    alarm(120);
    inside();
    _exit(0);
  }
  waitpid(child, &status, 0);
  return status;
}

static size_t limit_bytes;
static int last_words;

static void in_little_memory(void) {
  struct rlimit limit = { limit_bytes, limit_bytes };
  inf_token tokens[N_TOKENS];
  dup2(last_words, 2);
  setrlimit(RLIMIT_AS, &limit);
  inf_status status = whole_life(tokens);
  _exit(status == INF_OK ? 0 : status == INF_ERR_OUT_OF_MEMORY ? 1 : 2);
}

/* True if a process ended because not even a small thing could be had. Memory is asked for fallibly from 64 KiB on; below, Rust and the C library end a
 * process, which by then has less than that left. */
static int ended_for_a_trifle(void) {
  char words[2000] = { 0 };
  static const char asked[] = "memory allocation of ";
  if (pread(last_words, words, sizeof words - 1, 0) < 0) return 0;
  const char *bytes = strstr(words, asked);
  return strstr(words, "failed to register TLS destructor") || (bytes && strtoull(bytes + sizeof asked - 1, NULL, 10) < 64 << 10);
}

/* From what the process has now to as much as suffices, in steps: OK or INF_ERR_OUT_OF_MEMORY. */
static void little_memory(void) {
  enum { SUFFICES, REFUSED, TRIFLE };
  int n[3] = { 0 }, n_steps = full ? 64 : 16;
  size_t pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (!f || fscanf(f, "%zu", &pages) != 1) FAIL("no /proc/self/statm");
  if (f) fclose(f);
  last_words = memfd_create("last words", 0);
  for (int i = 0; i < n_steps; i++) {
    limit_bytes = pages * 4096 + ((size_t)i * (64u << 20)) / (size_t)n_steps;
    if (ftruncate(last_words, 0) || lseek(last_words, 0, SEEK_SET)) FAIL("no file in memory");
    const int status = apart(in_little_memory);
    const size_t more = (limit_bytes - pages * 4096) >> 10;
    if (WIFEXITED(status) && WEXITSTATUS(status) < 2) n[WEXITSTATUS(status)]++;
    else if (WIFEXITED(status)) FAIL("status of another kind with %zu KiB more: %s", more, out->note);
    else if (ended_for_a_trifle()) n[TRIFLE]++;
    else FAIL("with %zu KiB more the process ended with %#x", more, (unsigned)status);
  }
  close(last_words);
  if (n[SUFFICES] == 0 || n[REFUSED] == 0) FAIL("%d sizes suffice, %d are refused", n[SUFFICES], n[REFUSED]);
  live();
  NOTE("%d sizes: %d suffice, %d refused, %d ended where less than 64 KiB were left", n_steps, n[SUFFICES], n[REFUSED], n[TRIFLE]);
}

/* ---- fork, in each state ------------------------------------------------------------------------------------------------- */

static life parent;
static inf_load *parent_load;
static inf_token expected[N_TOKENS];

/* In the child: what the parent had is refused and can be freed, and a whole life is possible. */
static void forked(void) {
  inf_token tokens[N_TOKENS], token = 5;
  inf_error err;
  inf_event ev = { .struct_size = sizeof ev };
  inf_model *m = NULL;
  if (parent.rt && inf_runtime_shutdown(parent.rt, 0, &err) != INF_ERR_FORKED) FAIL("runtime: %s", err.message);
  if (parent_load && inf_load_wait(parent_load, 0, NULL, &m, &err) != INF_ERR_FORKED) FAIL("load: %s", err.message);
  if (parent.s && inf_session_append(parent.s, &token, 1, &err) != INF_ERR_FORKED) FAIL("session: %s", err.message);
  if (parent.g && inf_generation_next(parent.g, 0, &ev, &err) != INF_ERR_FORKED) FAIL("generation: %s", err.message);
  if (parent.greedy && inf_sampler_reset(parent.greedy, &err) != INF_ERR_FORKED) FAIL("sampler: %s", err.message);
  inf_load_free(parent_load), inf_generation_free(parent.g), inf_sampler_free(parent.greedy), inf_session_free(parent.s);
  inf_model_free(parent.m), inf_runtime_free(parent.rt);
  if (whole_life(tokens) != INF_OK) FAIL("no life after a fork: %s", out->note);
  else if (memcmp(tokens, expected, sizeof tokens)) FAIL("other tokens after a fork");
}

static void fork_now(const char *state) {
  int status = apart(forked);
  if (!WIFEXITED(status) || WEXITSTATUS(status)) FAIL("the child of a process with %s ended with %#x", state, (unsigned)status);
}

static void fork_in_each_state(void) {
  inf_error *err = &parent.err;
  inf_generate_params ask = { .struct_size = sizeof ask, .text = "The smith", .text_len = INF_NUL, .max_tokens = 200 };
  inf_event ev = { .struct_size = sizeof ev };
  inf_status status;
  inf_token token = 5;
  inf_step step = { .struct_size = sizeof step };
  inf_model *second = NULL;
  TRY(whole_life(expected));
  fork_now("a runtime that was freed");
  TRY(inf_runtime_create(NULL, &parent.rt, err));
  fork_now("a runtime");
  TRY(inf_load_start_path(parent.rt, path, INF_NUL, NULL, 0, &parent_load, err));
  fork_now("a load that runs");
  TRY(inf_load_wait(parent_load, INF_WAIT_FOREVER, NULL, &parent.m, err));
  fork_now("a model");
  TRY(inf_session_create(parent.m, NULL, &parent.s, err));
  TRY(inf_sampler_create(parent.m, &parent.greedy, err));
  TRY(inf_session_append(parent.s, &token, 1, err));
  fork_now("tokens that are queued");
  TRY(inf_session_step(parent.s, NULL, 0, 0, &step, err));
  fork_now("logits");
  TRY(inf_generate_start(parent.s, &ask, &parent.g, err));
  for (int i = 0; i < 5; i++) fork_now("a generation that runs");
  do TRY(inf_generation_next(parent.g, INF_WAIT_FOREVER, &ev, err)); while (ev.type != INF_EV_DONE);
  fork_now("a generation that has ended");
  TRY(inf_load_start_path(parent.rt, path, INF_NUL, NULL, 0, &parent_load, err));
  TRY(inf_load_wait(parent_load, INF_WAIT_FOREVER, NULL, &second, err));
  inf_model_free(second);
  TRY(inf_runtime_shutdown(parent.rt, INF_WAIT_FOREVER, err));
  fork_now("a runtime that was shut down");
  inf_load_free(parent_load);
  end(&parent);
  live();
  return;
done:
  FAIL("%s: %s", inf_status_name(status), err->message);
}

static const struct { const char *name; void (*run)(void); } rows[] = {
  { "a quiet host", live },
  { "a thread with 64 KiB of stack", small_stack },
  { "rounding up", round_up },
  { "rounding down", round_down },
  { "rounding to zero", round_to_zero },
#if defined(__x86_64__)
  { "flush to zero, denormals are zero", flush_to_zero },
  { "floating-point exceptions unmasked", unmasked },
  { "x87: 24 bits", x87_single },
  { "x87: 53 bits, rounding down", x87_double_down },
#endif
  { "SIGPROF each millisecond", profiled },
  { "locale de_DE.UTF-8", german },
  { "locale tr_TR.UTF-8", turkish },
  { "file descriptors 0 to 2 closed", closed_fds },
  { "working directory deleted", no_directory },
  { "at most 8 file descriptors", few_fds },
  { "no file descriptor at all", no_fds },
  { "fork in each state", fork_in_each_state },
  { "little address space (RLIMIT_AS)", little_memory },
};

/* A row in its process: whatever is written to stdout or stderr goes to `written` and is a fault. */
static void in_its_process(size_t row, const char *written) {
  pid_t child = fork();
  int status = -1;
  if (child == 0) {
    const int file = open(written, O_CREAT | O_TRUNC | O_RDWR, 0600);
    dup2(file, 1), dup2(file, 2), close(file);
    alarm(300);
    rows[row].run();
    out->finished = 1;
    _exit(0);
  }
  waitpid(child, &status, 0);
  struct stat bytes = { 0 };
  if (!out->finished) FAIL("the process ended with %#x", (unsigned)status);
  if (stat(written, &bytes) || bytes.st_size > 0) FAIL("%lld bytes were written to stdout or stderr", (long long)bytes.st_size);
}

int main(int argc, char **argv) {
  answer quiet_host = { 0 };
  int failed = 0;
  char written[] = "/tmp/hostile-XXXXXX", absolute[4096];
  if (argc < 2 || !realpath(argv[1], absolute) || close(mkstemp(written))) return 2;
  path = absolute, full = argc > 2;
  out = mmap(NULL, sizeof *out, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    memset(out, 0, sizeof *out);
    fflush(stdout);
    in_its_process(i, written);
    if (i == 0) quiet_host = *out;
    if (out->status != INF_OK) FAIL("%s: %s", inf_status_name(out->status), out->note);
    if (memcmp(out->tokens, quiet_host.tokens, sizeof out->tokens)) FAIL("other tokens");
    printf("  %-36s %s%s%s\n", rows[i].name, out->why[0] ? "FAILED: " : "same tokens, host untouched", out->why, "");
    if (out->note[0] && !out->why[0]) printf("  %-36s   %s\n", "", out->note);
    failed |= out->why[0] != 0;
  }
  unlink(written);
  return failed;
}
