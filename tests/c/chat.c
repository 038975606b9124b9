/* Chats: rendering, options, refusals, generations from messages, what is kept of a conversation, small stacks. */
#include "check.h"
#include <pthread.h>

#define HELLO "[{\"role\":\"system\",\"content\":\"You are Brom.\"},{\"role\":\"user\",\"content\":\"Hello!\"}]"

static const char *render(inf_model *m, const char *messages, const char *tools, const char *options, inf_status expected) {
  static char text[8192];
  size_t len = 7, size = 0;
  STATUS(expected, inf_chat_render(m, messages, INF_NUL, tools, INF_NUL, options, INF_NUL, text, sizeof text, &len, &err));
  if (expected != INF_OK) {
    CHECK(len == 7 && err.message[0]);
    return err.message;
  }
  CHECK(len == strlen(text));
  OK(inf_chat_render(m, messages, INF_NUL, tools, INF_NUL, options, INF_NUL, NULL, 0, &size, &err));
  CHECK(size == len);
  STATUS(INF_ERR_BUFFER_TOO_SMALL, inf_chat_render(m, messages, INF_NUL, tools, INF_NUL, options, INF_NUL, text + 4096, len / 2, &size, &err));
  CHECK(size == len);
  return text;
}

static void renders(inf_model *m) {
  const char *with_prompt = render(m, HELLO, NULL, NULL, INF_OK);
  CHECK(strstr(with_prompt, "You are Brom.") && strstr(with_prompt, "Hello!") && strstr(with_prompt, "assistant"));
  char before[4096];
  snprintf(before, sizeof before, "%s", with_prompt);
  const char *without = render(m, HELLO, NULL, "{\"add_generation_prompt\":false}", INF_OK);
  CHECK(strlen(without) < strlen(before) && !strncmp(before, without, strlen(without)));
  CHECK(strstr(render(m, HELLO, "[{\"type\":\"function\",\"function\":{\"name\":\"sell_ware\",\"description\":\"Sells.\",\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]", NULL, INF_OK), "sell_ware"));

  CHECK(!strcmp(render(m, HELLO, NULL, "{\"chat_template\":\"{{ messages[1].content }}\"}", INF_OK), "Hello!"));
  CHECK(!strcmp(render(m, HELLO, NULL, "{\"chat_template\":\"{{ strftime_now('%Y-%m-%d') }}\",\"now\":86400}", INF_OK), "1970-01-02"));
  CHECK(!strcmp(render(m, HELLO, NULL, "{\"chat_template\":\"{{ mood }}\",\"mood\":{\"b\":1,\"a\":[true,null]}}", INF_OK), "{'b': 1, 'a': [True, None]}"));
  CHECK(!strcmp(render(m, HELLO, NULL, "{\"chat_template\":\"{{ mood|tojson }}\",\"mood\":{\"b\":1.5}}", INF_OK), "{\"b\": 1.5}"));
}

static void refuses(inf_model *m) {
  CHECK(strstr(render(m, "[{\"role\":\"user\"", NULL, NULL, INF_ERR_INVALID_ARGUMENT), "messages"));
  CHECK(err.detail[0] > 0);
  CHECK(strstr(render(m, "[{\"role\":\"user\",\"content\":7}]", NULL, NULL, INF_ERR_INVALID_ARGUMENT), "messages[0].content"));
  CHECK(strstr(render(m, HELLO, "{}", NULL, INF_ERR_INVALID_ARGUMENT), "tools"));
  CHECK(strstr(render(m, HELLO, NULL, "{\"enable_thoughts\":1}", INF_ERR_INVALID_ARGUMENT), "enable_thoughts"));
  CHECK(strstr(render(m, HELLO, NULL, "{\"chat_template\":\"a\\n{{ raise_exception('no tools here') }}\"}", INF_ERR_TEMPLATE), "line 2: no tools here"));
  CHECK(err.detail[0] == 2);
  CHECK(strstr(render(m, HELLO, NULL, "{\"chat_template\":\"a\\n\\n{% for\"}", INF_ERR_TEMPLATE), "line 3"));
  CHECK(strstr(render(m, HELLO, NULL, "{\"chat_template\":\"{{ messages.x.y }}\"}", INF_ERR_TEMPLATE), "line 1"));
  /* It ends, and takes no memory worth mentioning. */
  render(m, HELLO, NULL, "{\"chat_template\":\"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}\"}", INF_ERR_TEMPLATE);
  render(m, HELLO, NULL, "{\"chat_template\":\"{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxx{% endfor %}{% endfor %}\"}", INF_ERR_TEMPLATE);
  CHECK(strstr(render(m, HELLO, NULL, "{\"chat_template\":\"{{ 'x' * 99999999 }}\"}", INF_ERR_TEMPLATE), "work"));
}

static inf_event finish(inf_generation *g, char *text, size_t cap) {
  inf_event ev = { .struct_size = sizeof ev };
  size_t len = 0;
  do {
    OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err));
    if (ev.type == INF_EV_TEXT) {
      CHECK(len + ev.text_len < cap);
      memcpy(text + len, ev.text, ev.text_len);
      len += ev.text_len;
    }
  } while (ev.type != INF_EV_DONE);
  text[len] = 0;
  ev.text = ev.error_text = NULL;
  inf_generation_free(g);
  return ev;
}

/* A second turn computes only what the first one did not. */
static void keeps_a_conversation(inf_model *m) {
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_sampler *greedy = NULL;
  char said[4096], again[4096], messages[8192];
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_sampler_create(m, &greedy, &err));
  inf_generate_params p = { .struct_size = sizeof p, .max_tokens = 24, .messages_json = HELLO, .messages_len = INF_NUL, .sampler = greedy };
  OK(inf_generate_start(s, &p, &g, &err));
  inf_event first = finish(g, said, sizeof said);
  CHECK(first.status == INF_OK && first.cached_tokens == 0 && first.prompt_tokens > 4 && first.output_tokens > 0);

  /* The same question: what is held is kept, one token at most is computed, and the answer is the same. */
  OK(inf_generate_start(s, &p, &g, &err));
  inf_event second = finish(g, again, sizeof again);
  CHECK(second.status == INF_OK && second.cached_tokens + second.prompt_tokens == first.prompt_tokens && second.prompt_tokens <= 1);
  CHECK(!strcmp(said, again));

  for (char *c = said; *c; c++) if (*c == '"' || *c == '\\' || *c == '\n') *c = ' ';
  snprintf(messages, sizeof messages, "{\"messages\":%.*s,{\"role\":\"assistant\",\"content\":\"%s\"},{\"role\":\"user\",\"content\":\"And then?\"}],\"max_tokens\":4}",
           (int)strlen(HELLO) - 1, HELLO, said);
  OK(inf_generate_json(s, messages, INF_NUL, &g, &err));
  inf_event third = finish(g, again, sizeof again);
  CHECK(third.status == INF_OK && third.cached_tokens >= first.prompt_tokens - 1 && third.prompt_tokens < first.prompt_tokens + 24);

  /* A chat that fails to render fails as an event, and leaves the session as it was. */
  uint32_t before = inf_session_n_tokens(s);
  p.options_json = "{\"chat_template\":\"{{ raise_exception('never') }}\"}", p.options_len = INF_NUL;
  OK(inf_generate_start(s, &p, &g, &err));
  inf_event failed = finish(g, again, sizeof again);
  CHECK(failed.finish == INF_FINISH_ERROR && failed.status == INF_ERR_TEMPLATE && inf_session_n_tokens(s) == before);

  p.text = "x", p.text_len = 1;
  INVALID(inf_generate_start(s, &p, &g, &err));
  p.messages_json = NULL, p.messages_len = 0;
  INVALID(inf_generate_start(s, &p, &g, &err));
  INVALID(inf_generate_json(s, "{\"txet\":\"x\"}", INF_NUL, &g, &err));
  CHECK(strstr(err.message, "txet"));
  inf_sampler_free(greedy);
  inf_session_free(s);
}

/* A prompt that ends inside a thought is answered with thoughts, until the mark that ends them. */
static void thoughts_are_told_apart(inf_model *m) {
  inf_session *s = NULL;
  inf_generation *g = NULL;
  inf_event ev = { .struct_size = sizeof ev };
  int n_thinking = 0, n_text = 0;
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_generate_json(s, "{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}],\"max_tokens\":12,\"sampling\":{\"temperature\":1,\"seed\":1},"
                          "\"options\":{\"chat_template\":\"{{ messages[0].content }}<think>\"}}", INF_NUL, &g, &err));
  do {
    OK(inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err));
    n_thinking += ev.type == INF_EV_THINKING && ev.text_len > 0;
    n_text += ev.type == INF_EV_TEXT;
  } while (ev.type != INF_EV_DONE);
  CHECK(ev.status == INF_OK && n_thinking > 0 && n_text == 0);
  inf_generation_free(g);
  inf_session_free(s);
}

static void *on_a_small_stack(void *model) {
  renders(model);
  refuses(model);
  return NULL;
}

int main(int argc, char **argv) {
  inf_runtime *rt = open_runtime(argc, argv);
  inf_model *m = open_model(rt, argv);
  renders(m);
  refuses(m);
  keeps_a_conversation(m);
  thoughts_are_told_apart(m);

  /* A game's fibre has 64 KiB. */
  pthread_t thread;
  pthread_attr_t small;
  CHECK(!pthread_attr_init(&small) && !pthread_attr_setstacksize(&small, 64 << 10));
  CHECK(!pthread_create(&thread, &small, on_a_small_stack, m) && !pthread_join(thread, NULL));
  pthread_attr_destroy(&small);

  /* A template for a whole load. */
  inf_load *ld = NULL;
  inf_model *other = NULL;
  OK(inf_load_start_path(rt, argv[1], INF_NUL, "{\"chat_template\":\"<{{ messages[0].content }}>\"}", INF_NUL, &ld, &err));
  OK(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &other, &err));
  CHECK(!strcmp(render(other, "[{\"role\":\"user\",\"content\":\"a\"}]", NULL, NULL, INF_OK), "<a>"));
  inf_load_free(ld);
  inf_model_free(other);
  inf_model_free(m);
  inf_runtime_free(rt);
  return 0;
}
