/* One engine under measurement: `harness.c` reads commands and prints seconds, `ours.c` and `theirs.c` say how each engine does the work.
 *
 * Both run as child processes of run.py, which gives them commands in turn, so that what the machine does meanwhile hits both alike. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdint.h>

/* What to load, and how; the same for both engines. */
struct settings {
  const char *path;
  unsigned n_threads;
  unsigned n_ctx;
  const char *variant; /* ours: a kernel set, or "-"; theirs: flash attention, "on" or "off" */
};

void engine_open(const struct settings *settings); /* loads the model and makes an empty context */
void engine_close(void);
unsigned engine_n_vocab(void);
void engine_clear(void);                            /* back to an empty context */
void engine_truncate(unsigned n);                   /* back to the first n tokens */
void engine_eval(const int32_t *tokens, unsigned n); /* appends n tokens and computes the logits of the last one */
void engine_rest(void);                             /* no thread of the engine spins any more */

/* Decodes n_tokens tokens for each of n_sequences sequences together; the seconds. */
double engine_batch(unsigned n_sequences, unsigned n_tokens);

double seconds_now(void);
void quit(const char *format, ...); /* prints to stderr and ends the process */

/* A token of the ordinary part of the vocabulary; the same sequence in both engines. */
int32_t next_token(unsigned n_vocab);

#endif
