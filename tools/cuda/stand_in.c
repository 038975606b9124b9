/* What stands in for NVIDIA's libraries until they are found: see stand_in.py. Linked into the plugin, used by src/backend/candle/cuda. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "symbols.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define N_LIBRARIES 5
#define N_SYMBOLS (sizeof symbols / sizeof *symbols)

extern HIDDEN void *inf_slots[];

/* The answers of absent libraries, in the words of their own headers. */
HIDDEN int inf_no_driver(void) { return 100; } /* CUDA_ERROR_NO_DEVICE */
HIDDEN int inf_no_cublas(void) { return 15; }  /* CUBLAS_STATUS_NOT_SUPPORTED */
HIDDEN int inf_no_curand(void) { return 203; } /* CURAND_STATUS_INITIALIZATION_FAILED */
HIDDEN int inf_no_nvrtc(void) { return 11; }   /* NVRTC_ERROR_INTERNAL_ERROR */
HIDDEN int inf_done(void) { return 0; }

HIDDEN int inf_make_handle(void **handle) {
  static char nothing;
  *handle = &nothing;
  return 0;
}

HIDDEN int inf_error_text(int code, const char **text) {
  (void)code;
  *text = "NVIDIA's driver is not loaded";
  return 0;
}

static const char *const names[N_LIBRARIES] = { "libcuda.so.1", "libcublas.so." CUDA_MAJOR, "libcublasLt.so." CUDA_MAJOR, "libcurand.so.10", "libnvrtc.so." CUDA_MAJOR };
static unsigned loaded;
static char errors[N_LIBRARIES][256] = { "not asked for", "not asked for", "not asked for", "not asked for", "not asked for" };

/* The library's functions take their slots. One that an older library does not have keeps the answer of an absent one. */
static void fill(unsigned i, void *library) {
  for (size_t slot = 0; slot < N_SYMBOLS; slot++) {
    if (symbols[slot].library != i) continue;
    void *function = dlsym(library, symbols[slot].name);
    if (function) __atomic_store_n(&inf_slots[slot], function, __ATOMIC_RELEASE);
  }
}

/* From beside the plugin, for hosts that ship it, or from where the system looks. The driver belongs to the system alone. */
static void *open_library(unsigned i) {
  Dl_info here;
  char path[4096];
  const char *slash;
  if (i > 0 && dladdr((void *)(uintptr_t)open_library, &here) && (slash = strrchr(here.dli_fname, '/'))) {
    int n = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - here.dli_fname), here.dli_fname, names[i]);
    void *beside = n > 0 && (size_t)n < sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (beside) return beside;
  }
  return dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
}

/* Loads the libraries in wanted, of which bit i is names[i], and returns those that are loaded. */
HIDDEN unsigned inf_stand_in_load(unsigned wanted) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  for (unsigned i = 0; i < N_LIBRARIES; i++) {
    if (!(wanted >> i & 1) || loaded >> i & 1) continue;
    void *library = open_library(i);
    if (library) {
      fill(i, library);
      errors[i][0] = 0;
      loaded |= 1u << i;
    } else {
      const char *why = dlerror();
      snprintf(errors[i], sizeof errors[i], "%s", why ? why : "it cannot be loaded");
    }
  }
  unsigned result = loaded;
  pthread_mutex_unlock(&mutex);
  return result;
}

/* Why library i is not loaded; empty if it is. */
HIDDEN const char *inf_stand_in_error(unsigned i) { return i < N_LIBRARIES ? errors[i] : ""; }
