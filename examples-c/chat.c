/* A conversation in the terminal: several turns, streamed; Ctrl-C ends the answer and not the program.
 *
 *   chat [model.gguf] [system prompt]      /reset forgets, /stats tells the speed, /quit or Ctrl-D leaves
 *
 * The conversation is a list of messages in JSON. Each answer is asked for with the whole list: the model's chat template lays it out, and the session
 * computes only what it does not hold yet.
 */
#include "inference.h"

#include <signal.h> /* with POSIX sigaction: after ISO C's signal(), reading a line would not be interrupted */
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

/* A text that grows. */
typedef struct { char *bytes; size_t len, room; } text;

static void add(text *t, const char *bytes, size_t n) {
  while (t->len + n + 1 > t->room) {
    t->room = t->room ? 2 * t->room : 4096;
    t->bytes = realloc(t->bytes, t->room);
    if (!t->bytes) exit(1);
  }
  memcpy(t->bytes + t->len, bytes, n);
  t->len += n;
  t->bytes[t->len] = 0;
}

/* What JSON wants escaped. */
static void add_escaped(text *t, const char *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) {
    char escaped[8];
    unsigned char c = (unsigned char)bytes[i];
    if (c == '"' || c == '\\') snprintf(escaped, sizeof escaped, "\\%c", c), add(t, escaped, 2);
    else if (c < 0x20) snprintf(escaped, sizeof escaped, "\\u%04x", c), add(t, escaped, 6);
    else add(t, bytes + i, 1);
  }
}

/* Adds a message to the list `[{...},{...}`; the bracket that closes it is written where the list is used. */
static void message(text *list, const char *role, const char *content, size_t len) {
  char start[64];
  snprintf(start, sizeof start, "%s{\"role\":\"%s\",\"content\":\"", list->len ? "," : "[", role);
  add(list, start, strlen(start));
  add_escaped(list, content, len);
  add(list, "\"}", 2);
}

/* Streams one answer to the question that ends the list, which began with n_before bytes, and adds it to the list; what failed leaves it
 * as it was before the question. The last event tells what it cost. */
static inf_event answer(inf_session *session, text *list, size_t n_before) {
  inf_generation *generation = NULL;
  inf_generate_params params = { .struct_size = sizeof params, .max_tokens = 256 };
  inf_event event = { .struct_size = sizeof event };
  text said = { 0 };
  add(list, "]", 1);
  params.messages_json = list->bytes, params.messages_len = list->len;
  if (inf_generate_start(session, &params, &generation, &err) != INF_OK) { /* the question is not UTF-8, for one */
    fprintf(stderr, "%s\n", err.message);
    list->len = n_before;
    return event;
  }
  list->len--; /* the library has copied it */
  interrupted = 0;
  do {
    must(inf_generation_next(generation, 100, &event, &err));
    if (event.type == INF_EV_TEXT) {
      fwrite(event.text, 1, event.text_len, stdout), fflush(stdout);
      add(&said, event.text, event.text_len);
    }
    if (interrupted) inf_generation_cancel(generation);
  } while (event.type != INF_EV_DONE);
  puts(event.finish == INF_FINISH_CANCELLED ? " ..." : "");
  if (event.status == INF_ERR_CONTEXT_FULL || event.finish == INF_FINISH_CONTEXT_FULL) fprintf(stderr, "(the conversation is too long: /reset starts a new one)\n");
  else if (event.finish == INF_FINISH_ERROR) fprintf(stderr, "%.*s\n", (int)event.error_len, event.error_text);
  if (event.finish == INF_FINISH_ERROR) list->len = n_before;
  else message(list, "assistant", said.len ? said.bytes : "", said.len);
  free(said.bytes);
  inf_generation_free(generation);
  event.text = event.error_text = NULL; /* they were borrowed from the generation */
  return event;
}

static void stats(inf_session *session, const inf_event *last) {
  float per_second = last->decode_ms > 0 && last->output_tokens > 0 ? 1000 * (float)(last->output_tokens - 1) / last->decode_ms : 0;
  printf("%u tokens in the conversation; last answer: %u tokens computed before it, %u held already,\n"
         "first token after %.0f ms, then %.0f tokens/s\n",
         inf_session_n_tokens(session), last->prompt_tokens, last->cached_tokens, last->prefill_ms, per_second);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : DEFAULT_MODEL, *system = argc > 2 ? argv[2] : DEFAULT_SYSTEM;
  inf_runtime *rt = NULL;
  inf_session *session = NULL;
  inf_event last = { 0 };
  text list = { 0 };
  char line[4096];
#ifdef _WIN32
  signal(SIGINT, on_interrupt);
#else
  struct sigaction on_sigint = { .sa_handler = on_interrupt };
  sigaction(SIGINT, &on_sigint, NULL);
#endif
  must(inf_runtime_create(NULL, &rt, &err));
  inf_model *model = load(rt, path);
  must(inf_session_create(model, NULL, &session, &err));
  message(&list, "system", system, strlen(system));
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
      list.len = 0, last = (inf_event){ 0 };
      message(&list, "system", system, strlen(system));
      must(inf_session_truncate(session, 0, &err));
    } else if (*line == '/') {
      puts("/reset, /stats, /quit");
    } else if (*line) {
      size_t n_before = list.len;
      message(&list, "user", line, strlen(line));
      last = answer(session, &list, n_before);
    }
  }
  free(list.bytes);
  inf_session_free(session);
  inf_model_free(model);
  inf_runtime_free(rt);
  return 0;
}
