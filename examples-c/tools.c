/* A character that acts: it calls a function of the game, and then fills in a form that the game can read.
 *
 *   tools [model.gguf]
 *
 * What the model may call is told with the messages, as JSON. A call arrives as an event of its own, while it talks; the game does it, adds the call and its
 * result to the messages, and asks again. A form is a JSON schema: the answer matches it, whatever the model wants to say.
 */
#include "inference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef DEFAULT_MODEL
#  define DEFAULT_MODEL "models/demo.gguf"
#endif

#define ASKED                                                                                                                       \
  "{\"role\":\"system\",\"content\":\"You are Brom, the smith of Oakvale. You feel cheerful. You sell a dagger for 12 gold, a shield " \
  "for 30 gold and a horseshoe for 3 gold. The inn is north, past the old oak. The well is east, behind the church.\"},"            \
  "{\"role\":\"user\",\"content\":\"I will take the shield.\"}"

/* The functions of this game. */
static const char *tools =
    "[{\"type\":\"function\",\"function\":{\"name\":\"sell\",\"description\":\"Sells one ware to the player.\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"item\":{\"type\":\"string\"},\"price\":{\"type\":\"integer\"}},\"required\":[\"item\",\"price\"]}}}]";

static const char *form =
    "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":\"object\",\"properties\":{"
    "\"item\":{\"enum\":[\"dagger\",\"shield\",\"horseshoe\"]},\"price\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":99}},"
    "\"required\":[\"item\",\"price\"],\"additionalProperties\":false,\"x-guidance\":{\"whitespace_flexible\":false}}}}}";

static inf_error err;
static inf_sampler *greedy; /* the most likely token, always: this model is tiny */

/* Ends the program with the library's sentence if a call failed. */
static void must(inf_status status) {
  if (status == INF_OK) return;
  fprintf(stderr, "%s: %s\n", inf_status_name(status), err.message);
  exit(1);
}

typedef struct { char text[1024], call[1024]; uint32_t finish; } answer;

static void append(char *to, size_t room, const char *text) { strncat(to, text, room - strlen(to) - 1); }

/* One answer to the whole conversation. */
static answer ask(inf_session *session, const char *messages, const char *tools_json, const char *options) {
  inf_generation *generation = NULL;
  inf_generate_params params = { .struct_size = sizeof params, .max_tokens = 128, .sampler = greedy };
  inf_event event = { .struct_size = sizeof event };
  answer said = { 0 };
  params.messages_json = messages, params.messages_len = INF_NUL;
  params.tools_json = tools_json, params.tools_len = INF_NUL;
  params.options_json = options, params.options_len = INF_NUL;
  must(inf_generate_start(session, &params, &generation, &err));
  do {
    must(inf_generation_next(generation, INF_WAIT_FOREVER, &event, &err));
    if (event.type == INF_EV_TEXT) append(said.text, sizeof said.text, event.text);
    if (event.type == INF_EV_TOOL_CALL) append(said.call, sizeof said.call, event.text);
  } while (event.type != INF_EV_DONE);
  if (event.finish == INF_FINISH_ERROR) fprintf(stderr, "%s\n", event.error_text), exit(1);
  said.finish = event.finish;
  inf_generation_free(generation);
  return said;
}

/* What is behind the key of a call: `{"item":"shield","price":30}}`. A real program has a JSON library for this. */
static const char *arguments_of(const char *call) {
  const char *found = strstr(call, "\"arguments\":");
  return found ? found + strlen("\"arguments\":") : "{}}";
}

/* text as a JSON string can hold it. */
static const char *escaped(const char *text) {
  static char out[2048];
  size_t n = 0;
  for (; *text && n < sizeof out - 7; text++) {
    if (*text == '"' || *text == '\\') n += (size_t)snprintf(out + n, sizeof out - n, "\\%c", *text);
    else if ((unsigned char)*text < 0x20) n += (size_t)snprintf(out + n, sizeof out - n, "\\u%04x", *text);
    else out[n++] = *text;
  }
  out[n] = 0;
  return out;
}

int main(int argc, char **argv) {
  inf_runtime *rt = NULL;
  inf_source file = { .struct_size = sizeof file, .path = argc > 1 ? argv[1] : DEFAULT_MODEL };
  const inf_source *files[] = { &file };
  inf_model_params load = { .struct_size = sizeof load, .n_sources = 1, .sources = files };
  inf_model *model = NULL;
  inf_session *session = NULL;
  char messages[4096];

  must(inf_runtime_create(NULL, &rt, &err));
  must(inf_model_load(rt, &load, &model, &err));
  must(inf_session_create(model, NULL, &session, &err));
  must(inf_sampler_create(model, &greedy, &err));

  /* With {"tool_choice":"required"} as options it had to call something; {"tool_choice":"auto"} makes each call match the schema of its tool. */
  answer said = ask(session, "[" ASKED "]", tools, NULL);
  printf("Brom says:  %s\n", said.text);
  if (said.finish == INF_FINISH_TOOL_CALL) {
    const char *arguments = arguments_of(said.call);
    printf("Brom calls: %s\n", said.call);
    snprintf(messages, sizeof messages,
             "[" ASKED ",{\"role\":\"assistant\",\"content\":\"%s\",\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"sell\",\"arguments\":%.*s}}]},"
             "{\"role\":\"tool\",\"content\":\"ok\"}]",
             escaped(said.text), (int)strlen(arguments) - 1, arguments);
    said = ask(session, messages, tools, NULL);
    printf("Brom says:  %s\n", said.text);
  }

  said = ask(session, "[" ASKED "]", NULL, form);
  printf("The form:   %s\n", said.text);

  /* In any order; children keep their parents alive. */
  inf_sampler_free(greedy);
  inf_session_free(session);
  inf_model_free(model);
  inf_runtime_free(rt);
  return 0;
}
