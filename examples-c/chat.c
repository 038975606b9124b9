/* A conversation in the terminal: several turns, streamed; Ctrl-C ends the answer and not the program.
 *
 *   chat [model.gguf] [system prompt]      /reset forgets, /stats tells the speed, /quit or Ctrl-D leaves
 *
 * The messages are written in ChatML, which the shipped model and many others speak.
 */
#include "inference.h"

#include <signal.h> /* POSIX sigaction: with ISO C's signal(), reading a line would not be interrupted */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DEFAULT_MODEL
#  define DEFAULT_MODEL "models/demo.gguf"
#endif
#define DEFAULT_SYSTEM                                                                                     \
  "You are Brom, the smith of Oakvale. You feel cheerful. You sell a dagger for 12 gold, a shield for 30 " \
  "gold and a horseshoe for 3 gold. The inn is north, past the old oak. The well is east, behind the church."

static inf_error err;
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  interrupted = 1;
}

/* Ends the program with the library's sentence if a call failed. */
static void must(inf_status status) {
  if (status == INF_OK) return;
  fprintf(stderr, "%s: %s\n", inf_status_name(status), err.message);
  exit(1);
}

static inf_model *load(inf_runtime *rt, const char *path) {
  inf_load *loading = NULL;
  inf_model *model = NULL;
  float progress = 0;
  inf_status status;
  must(inf_load_start_path(rt, path, INF_NUL, NULL, 0, &loading, &err));
  do {
    status = inf_load_wait(loading, 50, &progress, &model, &err);
    int done = (int)(progress * 30);
    fprintf(stderr, "\rloading [%.*s%*s] %3d %%", done, "##############################", 30 - done, "", (int)(progress * 100));
    if (interrupted) inf_load_cancel(loading);
  } while (status == INF_ERR_TIMEOUT);
  fprintf(stderr, "\r%*s\r", 50, "");
  must(status);
  inf_load_free(loading);
  return model;
}

/* Appends text to the session. Markers such as <|im_start|> are control tokens only where we write them, never in what a user typed. */
static void append(inf_model *model, inf_session *session, const char *text, uint32_t flags) {
  size_t n = 0;
  must(inf_tokenize(model, text, INF_NUL, flags, NULL, 0, &n, &err));
  inf_token *tokens = malloc((n ? n : 1) * sizeof *tokens);
  if (!tokens) exit(1);
  must(inf_tokenize(model, text, INF_NUL, flags, tokens, n, &n, &err));
  inf_status status = inf_session_append(session, tokens, n, &err);
  free(tokens);
  if (status == INF_ERR_CONTEXT_FULL) fprintf(stderr, "(the conversation is too long: /reset starts a new one)\n");
  else must(status);
}

static void message(inf_model *model, inf_session *session, const char *role, const char *text) {
  append(model, session, "<|im_start|>", INF_TOK_PARSE_SPECIAL);
  append(model, session, role, 0);
  append(model, session, "\n", 0);
  append(model, session, text, 0);
  append(model, session, "<|im_end|>", INF_TOK_PARSE_SPECIAL);
  append(model, session, "\n", 0);
}

/* Streams one answer to stdout; the last event tells what it cost. */
static inf_event answer(inf_model *model, inf_session *session) {
  inf_generation *generation = NULL;
  inf_generate_params params = { .struct_size = sizeof params, .max_tokens = 256 };
  inf_event event = { .struct_size = sizeof event };
  append(model, session, "<|im_start|>", INF_TOK_PARSE_SPECIAL);
  append(model, session, "assistant\n", 0);
  must(inf_generate_start(session, &params, &generation, &err));
  interrupted = 0;
  do {
    must(inf_generation_next(generation, 100, &event, &err));
    if (event.type == INF_EV_TEXT) fwrite(event.text, 1, event.text_len, stdout), fflush(stdout);
    if (interrupted) inf_generation_cancel(generation);
  } while (event.type != INF_EV_DONE);
  puts(event.finish == INF_FINISH_CANCELLED ? " ..." : "");
  if (event.finish == INF_FINISH_ERROR) fprintf(stderr, "%.*s\n", (int)event.error_len, event.error_text);
  inf_generation_free(generation);
  event.text = event.error_text = NULL; /* they were borrowed from the generation */
  /* The answer ends as a message does, also one that was cut short. */
  if (event.finish != INF_FINISH_EOS) append(model, session, "<|im_end|>", INF_TOK_PARSE_SPECIAL);
  append(model, session, "\n", 0);
  return event;
}

static void stats(inf_session *session, const inf_event *last) {
  float per_second = last->decode_ms > 0 ? 1000 * (float)(last->output_tokens - 1) / last->decode_ms : 0;
  printf("%u tokens in the conversation; last answer: first token after %.0f ms, then %.0f tokens/s\n", inf_session_n_tokens(session),
         last->prefill_ms, per_second);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : DEFAULT_MODEL, *system = argc > 2 ? argv[2] : DEFAULT_SYSTEM;
  inf_runtime *rt = NULL;
  inf_session *session = NULL;
  inf_event last = { 0 };
  char line[4096];
  struct sigaction on_sigint = { .sa_handler = on_interrupt };
  sigaction(SIGINT, &on_sigint, NULL);
  must(inf_runtime_create(NULL, &rt, &err));
  inf_model *model = load(rt, path);
  must(inf_session_create(model, NULL, &session, &err));
  message(model, session, "system", system);
  printf("/reset, /stats, /quit; Ctrl-C stops an answer\n");
  for (;;) {
    printf("> ");
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) {
      if (!interrupted || feof(stdin)) break;
      interrupted = 0; /* Ctrl-C at the prompt: a new line */
      clearerr(stdin);
      puts("");
      continue;
    }
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "/quit")) break;
    if (!strcmp(line, "/stats")) {
      stats(session, &last);
    } else if (!strcmp(line, "/reset")) {
      must(inf_session_truncate(session, 0, &err));
      message(model, session, "system", system);
    } else if (*line) {
      message(model, session, "user", line);
      last = answer(model, session);
    }
  }
  inf_session_free(session);
  inf_model_free(model);
  inf_runtime_free(rt);
  return 0;
}
