/* Twelve characters talk while a game runs at 60 frames a second. Prints how long the frames took without inference, with worker threads, and with
 * inference inside of the frame, pumped within a budget. Usage: game_loop model.gguf [seconds of each] */
#include "inference.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Ends the function with the error's sentence unless the call succeeds. */
#define TRY(call) \
  do { if ((call) != INF_OK) { fprintf(stderr, "%s: %s\n", inf_status_name(err.status), err.message); goto done; } } while (0)

enum { N_CHARACTERS = 12, FRAME_US = 16667, GAME_WORK_US = 4000, PUMP_US = 2000, N_BINS = 20, BIN_US = 1000 };
enum mode { WITHOUT, THREADS, PUMPED };
static const char *const mode_names[] = { "without inference", "worker threads", "pumped, 2 ms a frame" };

/* What all of them know: computed once, whoever speaks first. */
static const char *const world = "The town lies between the hills and the sea. The smith sells swords. The baker sells bread. ";

typedef struct { inf_session *session; inf_generation *generation; uint32_t n_known; char line[240]; size_t len; } character;
typedef struct { uint32_t bins[N_BINS]; uint32_t n_frames, n_late, n_tokens; double longest_ms; } measured;

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void sleep_until(uint64_t at) {
  uint64_t now = now_us();
  struct timespec t = { 0, 0 };
  if (at <= now) return;
  t.tv_nsec = (long)((at - now) * 1000u);
  nanosleep(&t, NULL);
}

/* The game's own frame: physics, animation, drawing. */
static void game_work(void) {
  uint64_t end = now_us() + GAME_WORK_US;
  volatile double x = 1;
  while (now_us() < end) for (int i = 0; i < 100; i++) x = x * 1.0000001;
}

/* Takes what a character has said since the last frame, without ever waiting; one that has finished begins again. */
static inf_status hear(character *c, measured *m, inf_error *err) {
  inf_status status;
  inf_event ev = { .struct_size = sizeof ev };
  while ((status = inf_generation_next(c->generation, 0, &ev, err)) == INF_OK && ev.type != INF_EV_NONE) {
    if (ev.type == INF_EV_TEXT && c->len + ev.text_len < sizeof c->line) memcpy(c->line + c->len, ev.text, ev.text_len), c->len += ev.text_len;
    m->n_tokens += (uint32_t)ev.n_tokens;
    if (ev.type != INF_EV_DONE) continue;
    inf_generation_free(c->generation);
    c->generation = NULL, c->len = 0;
    if ((status = inf_session_truncate(c->session, c->n_known, err)) != INF_OK) return status;
    inf_generate_params ask = { .struct_size = sizeof ask, .text = "Hello! What is new today?", .text_len = INF_NUL, .max_tokens = 80 };
    return inf_generate_start(c->session, &ask, &c->generation, err);
  }
  return status;
}

/* Runs the game for some seconds and measures its frames. */
static int play(const char *path, enum mode mode, int seconds, measured *m) {
  int failed = 1;
  inf_error err;
  inf_runtime *rt = NULL;
  inf_load *ld = NULL;
  inf_model *model = NULL;
  character all[N_CHARACTERS] = { { 0 } };
  inf_runtime_params params = { .struct_size = sizeof params, .host_driven = mode == PUMPED, .thread_priority = mode == THREADS ? -1 : 0 };
  memset(m, 0, sizeof *m);
  if (mode != WITHOUT) {
    TRY(inf_runtime_create(&params, &rt, &err));
    TRY(inf_load_start_path(rt, path, INF_NUL, NULL, 0, &ld, &err));
    TRY(inf_load_wait(ld, INF_WAIT_FOREVER, NULL, &model, &err)); /* a game would show a loading screen here, and poll */
    for (int i = 0; i < N_CHARACTERS; i++) {
      inf_token known[128];
      size_t n;
      char self[160];
      snprintf(self, sizeof self, "%sCharacter %d speaks. ", world, i);
      TRY(inf_tokenize(model, self, INF_NUL, INF_TOK_ADD_SPECIAL, known, 128, &n, &err));
      TRY(inf_session_create(model, NULL, &all[i].session, &err));
      TRY(inf_session_append(all[i].session, known, n, &err));
      all[i].n_known = (uint32_t)n;
      inf_generate_params ask = { .struct_size = sizeof ask, .max_tokens = 80 };
      TRY(inf_generate_start(all[i].session, &ask, &all[i].generation, &err));
    }
  }
  uint64_t frame = now_us(), end = frame + (uint64_t)seconds * 1000000u;
  while (frame < end) {
    game_work();
    uint32_t more;
    if (mode == PUMPED) TRY(inf_runtime_pump(rt, PUMP_US, &more, &err));
    for (int i = 0; mode != WITHOUT && i < N_CHARACTERS; i++) TRY(hear(&all[i], m, &err));
    uint64_t took = now_us() - frame;
    m->bins[took / BIN_US < N_BINS ? took / BIN_US : N_BINS - 1]++;
    m->n_frames++, m->n_late += took > FRAME_US;
    if ((double)took / 1000 > m->longest_ms) m->longest_ms = (double)took / 1000;
    frame += took > FRAME_US ? took : FRAME_US;
    sleep_until(frame);
  }
  failed = 0;
done:
  for (int i = 0; i < N_CHARACTERS; i++) inf_generation_free(all[i].generation), inf_session_free(all[i].session);
  inf_load_free(ld), inf_model_free(model), inf_runtime_free(rt);
  return failed;
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "models/demo.gguf";
  int seconds = argc > 2 ? atoi(argv[2]) : 2;
  measured m[3];
  for (int mode = WITHOUT; mode <= PUMPED; mode++) if (play(path, (enum mode)mode, seconds, &m[mode])) return 1;
  printf("frame time, %d characters, %d us of game in each frame; frames of %d s\n%8s", N_CHARACTERS, GAME_WORK_US, seconds, "ms");
  for (int mode = WITHOUT; mode <= PUMPED; mode++) printf(" %-28s", mode_names[mode]);
  printf("\n");
  for (int bin = 0; bin < N_BINS; bin++) {
    if (m[0].bins[bin] + m[1].bins[bin] + m[2].bins[bin] == 0) continue;
    printf("%5d-%-2d", bin * BIN_US / 1000, bin + 1);
    for (int mode = WITHOUT; mode <= PUMPED; mode++) {
      char bar[21] = "";
      uint32_t n = m[mode].bins[bin], width = m[mode].n_frames ? n * 20 / m[mode].n_frames : 0;
      memset(bar, '#', width), bar[width] = 0;
      printf(" %6u %-21s", n, bar);
    }
    printf("\n");
  }
  for (int mode = WITHOUT; mode <= PUMPED; mode++) {
    printf("%-24s %4u frames, %3u late, longest %6.2f ms, %6.0f tokens/s\n", mode_names[mode], m[mode].n_frames, m[mode].n_late,
           m[mode].longest_ms, m[mode].n_tokens / (double)seconds);
  }
  return 0;
}
