/* Every struct with struct_size, as older and newer programs pass it: each smaller size, each longer one, with zeros and with something behind what
 * this build knows. The memory has exactly that size, so that valgrind sees a byte read or written too far. */
#include "check.h"

enum { LONGER = 64, NO_STRUCT = 4097 };

/* What a struct's first release ended with: smaller sizes were never valid. A field that comes later does not change this table. */
#define SIZE_UP_TO(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

static inf_runtime *rt;
static inf_model *m;
static inf_session *s;
static inf_generation *ended;
static const char *path;
static int releases;

static void on_release(void *user) { (void)user, releases++; }

/* ---- Inputs: a valid struct, and a call that takes it; what the call makes is freed ---- */

static inf_status create_runtime(void *p) {
  inf_runtime *made = NULL;
  inf_status status = inf_runtime_create(p, &made, &err);
  CHECK((status == INF_OK) == (made != NULL));
  inf_runtime_free(made);
  return status;
}

static inf_status take_source(void *p) {
  const inf_source *sources[] = { p };
  inf_model_params params = { .struct_size = sizeof params, .n_sources = 1, .sources = sources };
  inf_plan plan = { .struct_size = sizeof plan };
  const uint32_t size = *(uint32_t *)p;
  const int before = releases;
  inf_status status = inf_model_estimate(rt, &params, &plan, &err);
  /* One that cannot be read is not released. */
  CHECK(releases - before == (size >= SIZE_UP_TO(inf_source, reserved_pointer) && size < NO_STRUCT));
  return status;
}

static inf_status estimate(void *p) {
  inf_plan plan = { .struct_size = sizeof plan };
  return inf_model_estimate(rt, p, &plan, &err);
}

static inf_status create_session(void *p) {
  inf_session *made = NULL;
  inf_status status = inf_session_create(m, p, &made, &err);
  CHECK((status == INF_OK) == (made != NULL));
  inf_session_free(made);
  return status;
}

static inf_status start_generation(void *p) {
  inf_generation *made = NULL;
  inf_event ev = { .struct_size = sizeof ev };
  inf_status status = inf_generate_start(s, p, &made, &err);
  CHECK((status == INF_OK) == (made != NULL));
  if (!made) return status;
  do CHECK(inf_generation_next(made, INF_WAIT_FOREVER, &ev, NULL) == INF_OK); while (ev.type != INF_EV_DONE);
  CHECK(ev.finish != INF_FINISH_ERROR && inf_session_truncate(s, 1, NULL) == INF_OK);
  inf_generation_free(made);
  return status;
}

/* ---- Outputs: a call that fills the struct ---- */

static inf_status fill_memory(void *p) { return inf_runtime_memory(rt, p, &err); }
static inf_status fill_device(void *p) { return inf_device_get(rt, 0, p, &err); }
static inf_status fill_info(void *p) { return inf_model_get_info(m, p, &err); }
static inf_status fill_step(void *p) { return inf_session_step(s, NULL, 0, 0, p, &err); }
static inf_status fill_event(void *p) { return inf_generation_next(ended, 0, p, &err); }

static inf_status fill_plan(void *p) {
  inf_source file = { .struct_size = sizeof file, .path = path };
  const inf_source *sources[] = { &file };
  inf_model_params params = { .struct_size = sizeof params, .n_sources = 1, .sources = sources };
  return inf_model_estimate(rt, &params, p, &err);
}

/* `size` bytes on the heap, at least the struct_size itself: the valid struct, then `rest`. */
static uint8_t *place(uint32_t size, const void *valid, size_t known, int rest) {
  uint8_t *bytes = malloc(size > sizeof size ? size : sizeof size);
  CHECK(bytes);
  if (size > known) memset(bytes + known, rest, size - known);
  memcpy(bytes, valid, size < known ? size : known);
  memcpy(bytes, &size, sizeof size);
  return bytes;
}

static void input(inf_status (*call)(void *), const void *valid, size_t known, size_t first) {
  for (uint32_t size = 0; size <= known + LONGER; size++) {
    uint8_t *p = place(size, valid, known, 0);
    STATUS(size < first ? INF_ERR_ABI : INF_OK, call(p));
    free(p);
  }
  for (size_t at = known; at < known + LONGER; at++) {
    uint8_t *p = place((uint32_t)known + LONGER, valid, known, 0);
    p[at] = 1;
    STATUS(INF_ERR_ABI, call(p));
    free(p);
  }
  uint8_t *p = place(NO_STRUCT, valid, known, 0);
  STATUS(INF_ERR_ABI, call(p));
  free(p);
}

static void output(inf_status (*call)(void *), size_t known, size_t first) {
  uint8_t untouched[1024];
  CHECK(known + LONGER <= sizeof untouched);
  memset(untouched, 0xA5, sizeof untouched);
  for (uint32_t size = 0; size <= known + LONGER; size++) {
    uint8_t *p = place(size, untouched, known, 0xA5);
    uint32_t after;
    STATUS(size < first ? INF_ERR_ABI : INF_OK, call(p));
    memcpy(&after, p, sizeof after);
    CHECK(after == size);
    for (size_t i = sizeof size; size < first && i < size; i++) CHECK(p[i] == 0xA5);
    for (size_t i = known; i < size; i++) CHECK(p[i] == 0);
    free(p);
  }
}

int main(int argc, char **argv) {
  path = argv[1];
  rt = open_runtime(argc, argv);
  m = open_model(rt, argv);
  inf_token token = 5;
  inf_event ev = { .struct_size = sizeof ev };
  OK(inf_session_create(m, NULL, &s, &err));
  OK(inf_session_append(s, &token, 1, &err));

  inf_runtime_params runtime = { .n_threads = 1 };
  inf_source file = { .path = path, .release = on_release };
  inf_source nested = { .struct_size = sizeof nested, .path = path };
  const inf_source *sources[] = { &nested };
  inf_model_params model = { .n_sources = 1, .sources = sources };
  inf_session_params session = { .n_ctx = 64 };
  inf_generate_params ask = { .text = "x", .text_len = 1, .max_tokens = 1 };
  input(create_runtime, &runtime, sizeof runtime, SIZE_UP_TO(inf_runtime_params, options_len));
  input(take_source, &file, sizeof file, SIZE_UP_TO(inf_source, reserved_pointer));
  input(estimate, &model, sizeof model, SIZE_UP_TO(inf_model_params, options_len));
  input(create_session, &session, sizeof session, SIZE_UP_TO(inf_session_params, n_keep));
  input(start_generation, &ask, sizeof ask, SIZE_UP_TO(inf_generate_params, wake_tag));

  ask.struct_size = sizeof ask;
  OK(inf_generate_start(s, &ask, &ended, &err));
  do OK(inf_generation_next(ended, INF_WAIT_FOREVER, &ev, &err)); while (ev.type != INF_EV_DONE);
  output(fill_memory, sizeof(inf_memory), SIZE_UP_TO(inf_memory, host_left));
  output(fill_device, sizeof(inf_device_info), SIZE_UP_TO(inf_device_info, reason));
  output(fill_plan, sizeof(inf_plan), SIZE_UP_TO(inf_plan, host_bytes));
  output(fill_info, sizeof(inf_model_info), SIZE_UP_TO(inf_model_info, device));
  output(fill_step, sizeof(inf_step), SIZE_UP_TO(inf_step, logprob));
  output(fill_event, sizeof(inf_event), SIZE_UP_TO(inf_event, decode_ms));

  inf_generation_free(ended);
  inf_session_free(s);
  inf_model_free(m);
  OK(inf_runtime_shutdown(rt, INF_WAIT_FOREVER, &err));
  inf_runtime_free(rt);
  return 0;
}
