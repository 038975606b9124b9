/* What the machine can do at most: `limits THREADS` prints GB/s read from memory, then 10^9 int8 products per second with AVX2 and with
 * AVX-512 VNNI (0 where it is missing), all threads together. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define BYTES_PER_THREAD ((size_t)512 << 20) /* far more than any cache */
#define ROUNDS 5
#define MULTIPLY_STEPS 20000000

static unsigned n_threads;
static pthread_barrier_t barrier;
static volatile uint64_t sink;

static double seconds_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Four independent streams hide the latency of the addition. */
static void read_all(const uint64_t *data, size_t n) {
  uint64_t sums[32] = { 0 };
  for (size_t i = 0; i + 32 <= n; i += 32)
    for (size_t j = 0; j < 32; j++) sums[j] += data[i + j];
  for (size_t j = 0; j < 32; j++) sink += sums[j];
}

#if defined(__x86_64__)
#  include <immintrin.h>

/* Ten accumulators cover the latency of multiplication and addition. The empty asm keeps the compiler from folding the loop. */
__attribute__((target("avx2"))) static double multiply_avx2(void) {
  __m256i acc[10], a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
  for (int j = 0; j < 10; j++) acc[j] = _mm256_setzero_si256();
  for (int i = 0; i < MULTIPLY_STEPS / 10; i++) {
    for (int j = 0; j < 10; j++) acc[j] = _mm256_add_epi16(acc[j], _mm256_maddubs_epi16(a, b));
    __asm__ volatile("" : "+x"(a), "+x"(b));
  }
  for (int j = 1; j < 10; j++) acc[0] = _mm256_add_epi16(acc[0], acc[j]);
  sink += (uint64_t)_mm256_extract_epi16(acc[0], 0);
  return 32;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) static double multiply_vnni(void) {
  __m512i acc[10], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
  for (int j = 0; j < 10; j++) acc[j] = _mm512_setzero_si512();
  for (int i = 0; i < MULTIPLY_STEPS / 10; i++) {
    for (int j = 0; j < 10; j++) acc[j] = _mm512_dpbusd_epi32(acc[j], a, b);
    __asm__ volatile("" : "+v"(a), "+v"(b));
  }
  for (int j = 1; j < 10; j++) acc[0] = _mm512_add_epi32(acc[0], acc[j]);
  sink += (uint64_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(acc[0]));
  return 64;
}

static double has_avx2(void) { return __builtin_cpu_supports("avx2"); }
static double has_vnni(void) { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw"); }
#else
static double multiply_avx2(void) { return 0; }
static double multiply_vnni(void) { return 0; }
static double has_avx2(void) { return 0; }
static double has_vnni(void) { return 0; }
#endif

/* The best of some rounds, in units per second, of all threads; counted by the first. */
struct best {
  double bytes, avx2, vnni;
};

static void keep_best(double *best, double amount, double start) {
  double rate = n_threads * amount / (seconds_now() - start);
  if (rate > *best) *best = rate;
}

static void *measure(void *out) {
  struct best *best = out;
  uint64_t *data = mmap(NULL, BYTES_PER_THREAD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) exit(1);
  madvise(data, BYTES_PER_THREAD, MADV_HUGEPAGE);
  memset(data, 1, BYTES_PER_THREAD);
  for (int round = 0; round < ROUNDS; round++) {
    pthread_barrier_wait(&barrier);
    double start = seconds_now();
    read_all(data, BYTES_PER_THREAD / sizeof *data);
    pthread_barrier_wait(&barrier);
    keep_best(&best->bytes, BYTES_PER_THREAD, start);
    if (has_avx2()) {
      start = seconds_now();
      double products = MULTIPLY_STEPS * multiply_avx2();
      keep_best(&best->avx2, products, start);
    }
    if (has_vnni()) {
      start = seconds_now();
      double products = MULTIPLY_STEPS * multiply_vnni();
      keep_best(&best->vnni, products, start);
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  struct best best[64] = { { 0 } };
  pthread_t threads[64];
  n_threads = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
  if (n_threads < 1 || n_threads > 64) return 1;
  pthread_barrier_init(&barrier, NULL, n_threads);
  for (unsigned i = 1; i < n_threads; i++) pthread_create(&threads[i], NULL, measure, &best[i]);
  measure(&best[0]);
  for (unsigned i = 1; i < n_threads; i++) pthread_join(threads[i], NULL);
  printf("%.2f %.1f %.1f\n", best[0].bytes / 1e9, best[0].avx2 / 1e9, best[0].vnni / 1e9);
  return 0;
}
