/* Constraints: every language, errors with their place, dead ends, steps and generations, tool choices, probabilities; on small stacks too. */
#include "check.h"
#include <pthread.h>

#define HELLO "[{\"role\":\"user\",\"content\":\"Hello!\"}]"
#define TOOLS "[{\"type\":\"function\",\"function\":{\"name\":\"guide\",\"parameters\":{\"type\":\"object\",\"properties\":{\"to\":{\"enum\":[\"inn\",\"well\"]}},\"required\":[\"to\"],\"additionalProperties\":false}}}]"

static inf_sampler *random_chain(inf_model *m, uint64_t seed) {
  inf_sampler *s = NULL;
  OK(inf_sampler_create(m, &s, &err));
  OK(inf_sampler_set_seed(s, seed, &err));
  OK(inf_sampler_add_temperature(s, 2, &err));
  return s;
}

/* What the session says step by step. */
static const char *say(inf_model *m, inf_sampler *chain) {
  static char text[4096];
  inf_session *s = NULL;
  inf_token token = 5;
  inf_step step = { .struct_size = sizeof step };
  size_t len = 0, n = 0;
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_session_append(s, &token, 1, &err));
  do {
    OK(inf_session_step(s, chain, 0, 0, &step, &err));
    if (step.state == 1) {
      OK(inf_token_bytes(m, step.token, text + len, sizeof text - len, &n, &err));
      len += n;
    }
  } while (step.state != 2);
  text[len] = 0;
  inf_session_free(s);
  return text;
}

static void languages(inf_model *m) {
  inf_sampler *s = random_chain(m, 3);
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_REGEX, "[ab]{3}c", INF_NUL, &err));
  const char *text = say(m, s);
  CHECK(strlen(text) == 4 && text[3] == 'c' && strspn(text, "ab") == 3);
  OK(inf_sampler_reset(s, &err));
  CHECK(strlen(say(m, s)) == 4);
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_JSON_SCHEMA, "{\"enum\":[\"yes\",\"no\"]}", INF_NUL, &err));
  text = say(m, s);
  CHECK(!strcmp(text, "\"yes\"") || !strcmp(text, "\"no\""));
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_LARK, "start: \"x\" (\"y\" | \"z\")", INF_NUL, &err));
  text = say(m, s);
  CHECK(!strcmp(text, "xy") || !strcmp(text, "xz"));
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_GBNF, "root ::= \"<\" [0-9] \">\"", INF_NUL, &err));
  text = say(m, s);
  CHECK(strlen(text) == 3 && text[0] == '<' && text[2] == '>');
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_JSON, NULL, 0, &err));
  OK(inf_sampler_set_constraint(s, 0, NULL, 0, &err));
  inf_sampler_free(s);
}

static void refusals(inf_model *m) {
  inf_sampler *s = random_chain(m, 3);
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_REGEX, "ok", INF_NUL, &err));
  STATUS(INF_ERR_CONSTRAINT, inf_sampler_set_constraint(s, INF_CONSTRAINT_JSON_SCHEMA, "{\"type\":\"strnig\"}", INF_NUL, &err));
  CHECK(strstr(err.message, "strnig") && err.detail[0] == 8);
  STATUS(INF_ERR_CONSTRAINT, inf_sampler_set_constraint(s, INF_CONSTRAINT_JSON_SCHEMA, "{\"type\":", INF_NUL, &err));
  STATUS(INF_ERR_CONSTRAINT, inf_sampler_set_constraint(s, INF_CONSTRAINT_REGEX, "ab(c", INF_NUL, &err));
  CHECK(err.detail[0] == 2);
  STATUS(INF_ERR_CONSTRAINT, inf_sampler_set_constraint(s, INF_CONSTRAINT_GBNF, "root ::= nothing", INF_NUL, &err));
  CHECK(strstr(err.message, "nothing") && err.detail[0] == 9);
  STATUS(INF_ERR_CONSTRAINT, inf_sampler_set_constraint(s, INF_CONSTRAINT_LARK, "start: A", INF_NUL, &err));
  INVALID(inf_sampler_set_constraint(s, 6, "x", INF_NUL, &err));
  INVALID(inf_sampler_set_constraint(s, 0, "x", INF_NUL, &err));
  INVALID(inf_sampler_set_constraint(s, INF_CONSTRAINT_JSON, "x", INF_NUL, &err));
  CHECK(!strcmp(say(m, s), "ok")); /* None of them changed it. */
  INVALID(inf_sampler_accept(s, 5, &err));
  inf_sampler_free(s);
}

static void dead_ends(inf_model *m) {
  inf_sampler *s = random_chain(m, 3);
  inf_model_info info = { .struct_size = sizeof info };
  inf_session *session = NULL;
  inf_token token = 5;
  inf_step step = { .struct_size = sizeof step };
  OK(inf_model_get_info(m, &info, &err));
  for (inf_token t = 0; t < (inf_token)info.n_vocab; t++) {
    char bytes[256];
    size_t n = 0;
    float never = -1.0f / 0.0f;
    OK(inf_token_bytes(m, t, bytes, sizeof bytes, &n, &err));
    if (n && (bytes[0] == 'q' || bytes[0] == 'z')) OK(inf_sampler_add_logit_bias(s, &t, &never, 1, &err));
  }
  OK(inf_sampler_set_constraint(s, INF_CONSTRAINT_REGEX, "[qz][a-z]*", INF_NUL, &err));
  OK(inf_session_create(m, NULL, &session, &err));
  OK(inf_session_append(session, &token, 1, &err));
  STATUS(INF_ERR_DEAD_END, inf_session_step(session, s, 0, 0, &step, &err));
  OK(inf_sampler_set_constraint(s, 0, NULL, 0, &err));
  OK(inf_session_step(session, s, 0, 0, &step, &err)); /* The session lives. */
  inf_session_free(session);
  inf_sampler_free(s);
}

typedef struct { char text[4096], calls[4096], logprobs[1 << 16]; inf_event done; char why[256]; } answer;

static answer *read_all(inf_generation *g) {
  static answer a;
  inf_event ev = { .struct_size = sizeof ev };
  memset(&a, 0, sizeof a);
  do {
    OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err));
    if (ev.type == INF_EV_TEXT) strncat(a.text, ev.text, sizeof a.text - strlen(a.text) - 1);
    if (ev.type == INF_EV_TOOL_CALL) strncat(a.calls, ev.text, sizeof a.calls - strlen(a.calls) - 1);
    CHECK(strlen(ev.logprobs_json) == ev.logprobs_len);
    strncat(a.logprobs, ev.logprobs_json, sizeof a.logprobs - strlen(a.logprobs) - 1);
  } while (ev.type != INF_EV_DONE);
  a.done = ev;
  snprintf(a.why, sizeof a.why, "%s", ev.error_text);
  inf_generation_free(g);
  return &a;
}

static answer *generate(inf_model *m, inf_generate_params p, const char *options) {
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_sampler *chain = random_chain(m, 11);
  OK(inf_session_create(m, NULL, &s, &err));
  p.struct_size = sizeof p, p.sampler = chain, p.options_json = options, p.options_len = INF_NUL, p.max_tokens = 150;
  OK(inf_generate_start(s, &p, &g, &err));
  answer *a = read_all(g);
  inf_session_free(s);
  inf_sampler_free(chain);
  return a;
}

static void generations(inf_model *m) {
  inf_generate_params text = { .text = "Once", .text_len = INF_NUL, .top_logprobs = 2 }, chat = { .messages_json = HELLO, .messages_len = INF_NUL };
  answer *a = generate(m, text, "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"enum\":[10,20]}}}}");
  CHECK((!strcmp(a->text, "10") || !strcmp(a->text, "20")) && a->done.finish == INF_FINISH_EOS);
  CHECK(strstr(a->logprobs, "\"top_logprobs\":[{\"token\":") && strstr(a->logprobs, "\"bytes\":["));
  a = generate(m, chat, "{\"response_format\":{\"type\":\"json_object\"}}");
  CHECK(a->text[0] == '{' && !a->logprobs[0]);
  a = generate(m, chat, "{\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{\"type\":7}}}}");
  CHECK(a->done.finish == INF_FINISH_ERROR && a->done.status == INF_ERR_CONSTRAINT && strstr(a->why, "type"));

  chat.tools_json = TOOLS, chat.tools_len = INF_NUL;
  a = generate(m, chat, "{\"tool_choice\":\"required\",\"parallel_tool_calls\":false}");
  CHECK(a->done.finish == INF_FINISH_TOOL_CALL && strstr(a->calls, "\"name\":\"guide\"") && (strstr(a->calls, "\"inn\"") || strstr(a->calls, "\"well\"")));
  a = generate(m, chat, "{\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"guide\"}}}");
  CHECK(strstr(a->calls, "\"guide\"") && !strstr(a->calls, "error"));
  a = generate(m, chat, "{\"tool_choice\":\"none\"}");
  CHECK(!a->calls[0]);
  a = generate(m, chat, "{\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"fly\"}}}");
  CHECK(a->done.status == INF_ERR_INVALID_ARGUMENT && strstr(a->why, "fly"));
}

static void start_refuses(inf_model *m) {
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_sampler *chain = random_chain(m, 1);
  inf_generate_params p = { .struct_size = sizeof p, .text = "x", .text_len = INF_NUL, .options_json = "{\"response_format\":{\"type\":\"json_object\"}}", .options_len = INF_NUL };
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_set_constraint(chain, INF_CONSTRAINT_REGEX, "a", 1, &err));
  p.sampler = chain;
  INVALID(inf_generate_start(s, &p, &g, &err));
  p.sampler = NULL, p.options_json = "{\"response_format\":{\"type\":\"xml\"}}";
  INVALID(inf_generate_start(s, &p, &g, &err));
  CHECK(strstr(err.message, "xml"));
  p.options_json = "{\"tool_choice\":\"auto\"}";
  INVALID(inf_generate_start(s, &p, &g, &err));
  p.options_json = NULL, p.options_len = 0, p.top_logprobs = 21;
  INVALID(inf_generate_start(s, &p, &g, &err));
  p.top_logprobs = 0, p.reserved = 1;
  STATUS(INF_ERR_ABI, inf_generate_start(s, &p, &g, &err));
  OK(inf_generate_json(s, "{\"text\":\"x\",\"response_format\":{\"type\":\"regex\",\"regex\":\"[ab]\"},\"logprobs\":true}", INF_NUL, &g, &err));
  answer *a = read_all(g);
  CHECK(strlen(a->text) == 1 && strstr(a->logprobs, "\"top_logprobs\":[]"));
  inf_sampler_free(chain);
  inf_session_free(s);
}

static void *on_a_small_stack(void *model) {
  languages(model);
  refusals(model);
  return NULL;
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  /* The template engine makes its tables at the first use: here, where valgrind can tell whose they are. */
  size_t n = 0;
  OK(inf_chat_render(m, "[{\"role\":\"user\",\"content\":\"a\"}]", INF_NUL, NULL, 0, NULL, 0, NULL, 0, &n, &err));
  languages(m);
  refusals(m);
  dead_ends(m);
  generations(m);
  start_refuses(m);

  /* A game's fibre has 64 KiB. */
  pthread_t thread;
  pthread_attr_t small;
  CHECK(!pthread_attr_init(&small) && !pthread_attr_setstacksize(&small, 64 << 10));
  CHECK(!pthread_create(&thread, &small, on_a_small_stack, m) && !pthread_join(thread, NULL));
  pthread_attr_destroy(&small);
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
