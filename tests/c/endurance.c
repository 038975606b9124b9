/* Sessions and generations made, run and freed thousands of times: memory, threads and files stay what they were. INF_TORTURE=1: ten thousand times.
 * Arguments: model.gguf [kernel set]. */
#include "check.h"
#ifdef __linux__
#include <dirent.h>
#include <unistd.h>
#endif

/* The most that the resident memory may grow in an iteration, on average. */
enum { MOST_SLOPE = 1024 };

#ifdef __linux__
/* Bytes of resident memory. */
static long resident(void) {
  long pages = 0, ours = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  int n = fscanf(file, "%ld %ld", &pages, &ours);
  fclose(file);
  return n == 2 ? ours * sysconf(_SC_PAGESIZE) : 0;
}

static int entries(const char *path) {
  int n = 0;
  DIR *directory = opendir(path);
  if (!directory) return 0;
  while (readdir(directory)) n++;
  closedir(directory);
  return n;
}

#else
/* Elsewhere nothing is told: the test runs all the same. */
static long resident(void) { return 0; }
static int entries(const char *path) { return path == NULL; }
#endif

static void one(inf_model *m, int i) {
  static const char *const texts[] = { "The smith", "Once upon a time", "one two one two one two", "The baker sells bread. The baker" };
  inf_session_params params = { .struct_size = sizeof params, .priority = i % 3 };
  inf_session *s = NULL, *fork = NULL;
  inf_generation *g = NULL;
  inf_event ev = { .struct_size = sizeof ev };
  inf_generate_params ask = { .struct_size = sizeof ask, .max_tokens = 3, .text = texts[i % 4], .text_len = INF_NUL, .n_draft = i % 2 ? 4 : 0 };
  if (i % 16 == 5) ask.draft = m;
  OK(inf_session_create(m, &params, &s, &err));
  OK(inf_generate_start(s, &ask, &g, &err));
  if (i % 8 == 3) {
    inf_generation_cancel(g);
    inf_session_free(s);
    inf_generation_free(g);
    return;
  }
  do OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err)); while (ev.type != INF_EV_DONE);
  CHECK(ev.finish != INF_FINISH_ERROR);
  if (i % 4 == 0) OK(inf_session_fork(s, &fork, &err));
  inf_session_free(s);
  inf_session_free(fork);
  inf_generation_free(g);
}

int main(int argc, char **argv) {
  const char *torture = getenv("INF_TORTURE"), *preload = getenv("LD_PRELOAD");
  int n = torture && !strcmp(torture, "1") ? 10000 : 600, warm = n / 4;
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  for (int i = 0; i < warm; i++) one(m, i);
  long before = resident();
  int threads = entries("/proc/self/task"), files = entries("/proc/self/fd");
  for (int i = 0; i < n; i++) one(m, i);
  long slope = (resident() - before) / n;
  printf("  %d iterations: %ld bytes of resident memory each\n", n, slope);
  CHECK(entries("/proc/self/task") == threads && entries("/proc/self/fd") == files);
  /* valgrind keeps what is freed, to see who still uses it. */
  CHECK(slope <= MOST_SLOPE || (preload && strstr(preload, "valgrind")));
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
