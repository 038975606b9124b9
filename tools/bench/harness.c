/* The command loop of a measurement: one command per line on stdin, one number (seconds, kB) per line on stdout.
 *
 *   open PATH THREADS N_CTX VARIANT | close | prefill N | fill N | decode N | batch SEQUENCES N | first N | peak */
#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_TOKENS 65536

/* The last tokens of a vocabulary are control tokens. */
#define N_CONTROL 32

static int32_t tokens[MAX_TOKENS];
static unsigned n_held;

double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void quit(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

int32_t next_token(unsigned n_vocab) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u; /* Numerical Recipes' generator */
  return (int32_t)((state >> 8) % (n_vocab - N_CONTROL));
}

/* Appends n random tokens in one go. */
static void eval_random(unsigned n) {
  if (n > MAX_TOKENS) quit("%u tokens: at most %d", n, MAX_TOKENS);
  for (unsigned i = 0; i < n; i++) tokens[i] = next_token(engine_n_vocab());
  engine_eval(tokens, n);
  n_held += n;
}

static void clear(void) {
  engine_clear();
  n_held = 0;
}

/* n tokens one by one behind what the context holds, which it holds again afterwards. */
static double decode(unsigned n) {
  unsigned before = n_held;
  eval_random(1); /* threads are awake, buffers are there */
  double start = seconds_now();
  for (unsigned i = 0; i < n; i++) eval_random(1);
  double seconds = seconds_now() - start;
  engine_truncate(before);
  n_held = before;
  return seconds;
}

/* The largest resident set so far, in kB; file pages that were mapped and touched count. */
static double peak_kilobytes(void) {
  FILE *status = fopen("/proc/self/status", "r");
  char line[256];
  double kilobytes = 0;
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %lf", &kilobytes);
  if (status) fclose(status);
  return kilobytes;
}

static double open_model(const char *arguments) {
  static char path[4096], variant[64];
  struct settings settings = { .path = path, .variant = variant };
  if (sscanf(arguments, "%4095s %u %u %63s", path, &settings.n_threads, &settings.n_ctx, variant) != 4) quit("open: %s", arguments);
  double start = seconds_now();
  engine_open(&settings);
  n_held = 0;
  return seconds_now() - start;
}

static double run(const char *command, const char *arguments) {
  unsigned a = 0, b = 0;
  sscanf(arguments, "%u %u", &a, &b);
  if (!strcmp(command, "open")) return open_model(arguments);
  if (!strcmp(command, "peak")) return peak_kilobytes();
  if (!strcmp(command, "close")) return engine_close(), 0;
  if (!strcmp(command, "decode")) return decode(a);
  if (!strcmp(command, "batch")) return engine_batch(a, b);
  int clears = !strcmp(command, "prefill") || !strcmp(command, "fill") || !strcmp(command, "first");
  if (!clears) quit("unknown command %s", command);
  clear();
  double start = seconds_now();
  eval_random(a);
  return seconds_now() - start;
}

int main(void) {
  char line[8192], command[64];
  while (fgets(line, sizeof line, stdin)) {
    int end = 0;
    if (sscanf(line, "%63s%n", command, &end) != 1) continue;
    double answer = run(command, line + end);
    if (strcmp(command, "close")) engine_rest();
    printf("%.9f\n", answer);
    fflush(stdout);
  }
  return 0;
}
