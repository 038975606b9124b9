/*
 * libinference: a language-model inference engine that lives inside your process.
 *
 * Generated from src/ffi by `make header`; edit there. A program that uses only this file:
 *
 *     inf_runtime *rt;  inf_model *m;  inf_session *s;  inf_generation *g;  inf_error err;
 *     inf_source file = { 0 };
 *     file.struct_size = sizeof file;  file.path = "model.gguf";
 *     const inf_source *files[] = { &file };
 *     inf_model_params load = { 0 };
 *     load.struct_size = sizeof load;  load.n_sources = 1;  load.sources = files;
 *     if (inf_runtime_create(NULL, &rt, &err) || inf_model_load(rt, &load, &m, &err) || inf_session_create(m, NULL, &s, &err))
 *       fail(err.message);
 *     inf_generate_params ask = { 0 };
 *     ask.struct_size = sizeof ask;  ask.text = "Once upon a time";  ask.text_len = INF_NUL;
 *     if (inf_generate_start(s, &ask, &g, &err)) fail(err.message);
 *     inf_event ev = { 0 };
 *     ev.struct_size = sizeof ev;
 *     while (inf_generation_next(g, INF_WAIT_FOREVER, &ev, &err) == INF_OK && ev.type != INF_EV_DONE) fputs(ev.text, stdout);
 *     inf_generation_free(g);  inf_session_free(s);  inf_model_free(m);
 *     inf_runtime_shutdown(rt, INF_WAIT_FOREVER, NULL);  inf_runtime_free(rt);
 *
 * LIFE OF OBJECTS
 *   A runtime owns threads; a model is loaded on a runtime; sessions, samplers and generations work with a model. Children keep their
 *   parents alive, so objects may be freed in any order, also by a garbage collector, and NULL may be freed. What was running may end a moment after
 *   the last free; inf_runtime_shutdown waits for it, and after it nothing of yours is used any more.
 *   A handle is a number in the shape of a pointer, and is never dereferenced. NULL, a freed handle, a handle of another kind or an
 *   invented one is INF_ERR_INVALID_HANDLE, also while another thread frees it; functions that return no status answer 0 or NULL.
 *   There is no global state: no init, no exit, no environment variables, no signal handlers, no output to stdout or stderr.
 *
 * ERRORS
 *   What can fail returns an inf_status and takes, as its last argument, an inf_error of yours to fill; NULL if you do not want the
 *   sentence. Nothing is ever thrown, aborted or printed. Outputs are written on INF_OK only, except the length with INF_ERR_BUFFER_TOO_SMALL and the
 *   progress of a load with INF_ERR_TIMEOUT.
 *   A call that fails has changed nothing, unless its documentation says otherwise. Beside the statuses listed at a function, every function
 *   may return INF_ERR_INVALID_ARGUMENT (a NULL or misaligned pointer), INF_ERR_INVALID_HANDLE, INF_ERR_ABI, INF_ERR_SHUTDOWN (the runtime was shut
 *   down), INF_ERR_FORKED, INF_ERR_OUT_OF_MEMORY, and INF_ERR_INTERNAL, which is a bug of ours, caught: please report it.
 *
 * THREADS
 *   Functions that take `const T *` may be called on one object by several threads at once; functions that take `T *` of a session, a sampler
 *   or a generation may not: a clash is detected and is INF_ERR_BUSY. Each function says more. `free` and `cancel` are for any thread at any time.
 *   Functions of yours (log, thread, wake, read_at, release) are called on any thread, must not throw or longjmp, and must not call functions that block: INF_ERR_BUSY.
 *   Inside, the floating-point modes are the default ones; yours are back when a call returns, and are the same on your threads for ever.
 *   After fork(), handles of the parent answer INF_ERR_FORKED in the child; a new runtime works there.
 *
 * STRINGS AND BUFFERS
 *   Strings are UTF-8 with a length in bytes; INF_NUL as the length means that the string ends at its NUL. An empty one may be NULL.
 *   An output goes into a buffer of yours (buf, cap), and its length into *len: without the NUL, which is written if it fits. buf NULL with cap 0 asks
 *   for the length and is INF_OK. A buffer that is too small is INF_ERR_BUFFER_TOO_SMALL, with the length needed in *len and the buffer untouched.
 *   A pointer that is given to you is borrowed, for as long as its function says; nothing of ours is ever for free().
 *
 * STRUCTS
 *   Set struct_size to sizeof the struct, and everything that you do not use to 0, which always means default. So programs and libraries of different
 *   releases understand each other: an input that is shorter than this build's is read as if zeros followed; a longer one must end in zeros
 *   (INF_ERR_ABI otherwise); an output is written as far as your struct goes, and what this build does not know is zeroed.
 */
#ifndef INFERENCE_H
#define INFERENCE_H

#include <stddef.h>
#include <stdint.h>

#if defined(INF_STATIC)
#  define INF_API
#elif defined(_WIN32)
#  define INF_API __declspec(dllimport)
#elif defined(__GNUC__)
#  define INF_API __attribute__((visibility("default")))
#else
#  define INF_API
#endif

/** As the length of a string: it ends at its NUL. */
#define INF_NUL ((size_t)-1)
/** As timeout_ms: until it happens. */
#define INF_WAIT_FOREVER (-1)

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status codes and errors --------------------------------------------------------------------------------------- */

#define INF_OK 0u                    /**< Success. */

#define INF_ERR_INVALID_ARGUMENT 1u  /**< An argument that no state of the library makes valid: NULL where a value is
                                          needed, a number out of range, bad UTF-8 or JSON. */
#define INF_ERR_INVALID_HANDLE 2u    /**< A handle that is NULL, freed, of another kind, or never was one. */
#define INF_ERR_ABI 3u               /**< struct_size is smaller than in the first release, or carries non-zero
                                          fields that this build does not know. */
#define INF_ERR_BUSY 4u              /**< The handle is in use by another thread, has live work, or this is a
                                          blocking call from inside a hook. */
#define INF_ERR_BUFFER_TOO_SMALL 5u  /**< The output does not fit. `*len` (or `*n`) holds the size needed; nothing
                                          else was written. */
#define INF_ERR_IO 6u                /**< The operating system refused to open or to read. */
#define INF_ERR_FORMAT 7u            /**< Not a model, or a corrupt or truncated one. */
#define INF_ERR_UNSUPPORTED 8u       /**< A valid request for an architecture, type or feature that this build does
                                          not have. */
#define INF_ERR_OUT_OF_MEMORY 9u     /**< `detail[0]` = bytes wanted, `detail[1]` = bytes available if known. */
#define INF_ERR_BUDGET 10u           /**< Would exceed the host's memory budget. */
#define INF_ERR_NO_DEVICE 11u        /**< No such device, or it cannot be used. */
#define INF_ERR_DEVICE_LOST 12u      /**< A device failed for good: free every handle on it, then create anew. */
#define INF_ERR_CONTEXT_FULL 13u     /**< The session has no room for these tokens; it is unchanged. */
#define INF_ERR_CONSTRAINT 14u       /**< A grammar or schema did not compile; `detail[0]` = byte offset. */
#define INF_ERR_DEAD_END 15u         /**< A constraint admits no token. */
#define INF_ERR_TEMPLATE 16u         /**< A chat template failed. */
#define INF_ERR_STATE_MISMATCH 17u   /**< A saved state is of another model, version or KV type. */
#define INF_ERR_POISONED 18u         /**< An earlier failure left this session unusable: truncate it to 0, or free
                                          it. */
#define INF_ERR_CANCELLED 19u        /**< Cancelled by the host. */
#define INF_ERR_TIMEOUT 20u          /**< Not finished in the time given; work goes on. */
#define INF_ERR_INTERNAL 21u         /**< A bug in this library, caught: outputs are not written, the process lives.
                                          Please report it. */
#define INF_ERR_NOT_READY 22u        /**< Logits were asked for while tokens are queued. */
#define INF_ERR_SHUTDOWN 23u         /**< The runtime of this handle was shut down; the handle can only be freed. */
#define INF_ERR_FORKED 24u           /**< The handle was made before a fork() and is used in the child. Freeing it
                                          there does nothing. */

/** The result of a call: `INF_OK`, or one of the `INF_ERR_*` codes. Codes are never renumbered and never reused. */
typedef uint32_t inf_status;

/**
 * What went wrong, in words. Lives where the host puts it, need not be initialised, holds nothing to free; 512 bytes
 * for ever. A call that takes one always fills it: on success with `INF_OK` and an empty message.
 */
typedef struct inf_error {
  int64_t detail[2];  /**< Two numbers whose meaning is said at the code; 0 otherwise. */
  inf_status status;  /**< The status that the call returned. */
  uint32_t reserved;  /**< 0. */
  char message[488];  /**< A sentence in UTF-8: what, where, and what was expected. Always NUL-terminated, truncated
                           between characters. */
} inf_error;

/**
 * The name of a status: `"INF_ERR_BUSY"`; `"INF_ERR_UNKNOWN"` for a number that is none.
 *
 * A static string, never freed. Any thread. Never blocks. Since 0.1.
 */
INF_API const char *inf_status_name(inf_status status);

/* ---- The library --------------------------------------------------------------------------------------------------- */

#define INF_VERSION_MAJOR 0  /**< Major version of this header. */
#define INF_VERSION_MINOR 1  /**< Minor version of this header. */
#define INF_VERSION_PATCH 0  /**< Patch version of this header. */

#define INF_ABI_VERSION 0u   /**< Changes only when the ABI breaks, together with the soname. While it is 0, it may
                                  break with every release. */

/**
 * The `INF_ABI_VERSION` of the library that is loaded: compare it with that of the header.
 *
 * Any thread. Never blocks. Since 0.1.
 */
INF_API uint32_t inf_abi_version(void);

/**
 * The version of the library that is loaded: `"0.1.0"`.
 *
 * A static string, never freed. Any thread. Never blocks. Since 0.1.
 */
INF_API const char *inf_version(void);

/**
 * What this build can do, as a JSON object: version, kernel sets, backends, file formats, architectures, types of
 * weights.
 *
 * A static string, never freed. Any thread. Never blocks. Since 0.1.
 */
INF_API const char *inf_build_info_json(void);

/* ---- Runtimes: threads, devices, log ------------------------------------------------------------------------------- */

/** Threads, devices and log. Any number may exist; nothing is global. Any thread. */
typedef struct inf_runtime inf_runtime;

/**
 * Receives log lines, on whichever thread logs. level: 1 error, 2 warning, 3 info, 4 debug. msg has len bytes and a NUL
 * behind them, and is gone when the function returns.
 */
typedef void (*inf_log_fn)(void *user, uint32_t level, const char *msg, size_t len);

/**
 * Called on each thread that the library makes, with starting 1 at its start and 0 at its end: to name it, to attach it
 * to a profiler or a VM.
 */
typedef void (*inf_thread_fn)(void *user, uint32_t starting);

/** What a host asks of a runtime. Zero means default. */
typedef struct inf_runtime_params {
  uint32_t struct_size;        /**< `sizeof(inf_runtime_params)` */
  uint32_t n_threads;          /**< Threads that compute, the calling one included. 0 = physical cores - 1. */
  uint32_t host_driven;        /**< 1: the library makes no threads, `inf_runtime_pump` and calls that wait do the
                                    work on yours, and n_threads must be 0 or 1. */
  int32_t thread_priority;     /**< Urgency of the workers: -2 idle, -1 low, 0 normal, 1 high. What the system
                                    refuses is ignored. */
  uint64_t cpu_mask[4];        /**< CPUs that the workers may run on: bit i % 64 of word i / 64 is CPU i. All zero =
                                    unrestricted. */
  uint64_t host_memory_limit;  /**< Most bytes for weights, keys and values, activations and logits of all models
                                    together. 0 = unlimited. What would exceed it is `INF_ERR_BUDGET`. */
  uint32_t spin_us;            /**< Busy-wait of a worker before it parks, in microseconds. 0 = park at once: best
                                    for a game, spin for throughput. */
  uint32_t log_level;          /**< Lines up to this level are kept; 0 = none. */
  inf_log_fn log;              /**< Optional; without it lines wait for `inf_runtime_next_log`. */
  void *log_user;              /**< Handed to log. */
  inf_thread_fn thread;        /**< Optional. */
  void *thread_user;           /**< Handed to thread. */
  const char *options_json;    /**< `{"kernels":"avx2"}` forces a kernel set (see `inf_build_info_json`).
                                    `{"plugin_path":"..."}` is where `libinference_cuda.so` lies, if not beside this
                                    library. `{"device_memory_limit":8000000000}` is the most bytes of each GPU for
                                    weights, keys and values. The set `amx`, the best one where it exists, asks Linux
                                    for the use of its registers (`ARCH_REQ_XCOMP_PERM`): the process has the
                                    permission from then on, and signal stacks (`sigaltstack`) below
                                    `getauxval(AT_MINSIGSTKSZ)` are refused. Where it is not given, and where another
                                    set is forced, nothing changes. NULL = none. An unknown key is an error that
                                    names it. */
  size_t options_len;          /**< Bytes of options_json, or `INF_NUL`. */
} inf_runtime_params;

/** Bytes that a runtime holds. */
typedef struct inf_memory {
  uint32_t struct_size;  /**< `sizeof(inf_memory)` */
  uint32_t reserved;     /**< 0. */
  uint64_t host;         /**< Bytes of host memory held now. */
  uint64_t host_peak;    /**< The most that were ever held. */
  uint64_t host_left;    /**< Bytes that may still be held: `UINT64_MAX` minus host without a limit. */
} inf_memory;

/** One device of this machine, usable or not. */
typedef struct inf_device_info {
  uint32_t struct_size;   /**< `sizeof(inf_device_info)` */
  uint32_t kind;          /**< 0 = CPU, 1 = a GPU by CUDA. */
  uint32_t index;         /**< Its number among its kind. */
  uint32_t usable;        /**< 1, or 0: then reason says why not. */
  uint64_t memory_total;  /**< Bytes; 0 = unknown. */
  uint64_t memory_free;   /**< Bytes not in use now; 0 = unknown. */
  char id[32];            /**< Name for `inf_model_params.device`: "cpu", "cuda:0". */
  char name[96];          /**< Name for people; of a GPU with its UUID, which `inf_model_params.device` takes, too. */
  char reason[128];       /**< Why it is not usable (no plugin, no driver, a driver that is too old, a GPU that the
                               plugin has no code for); empty if it is. */
} inf_device_info;

/** "Something is ready": carries no data, is called on a thread of the library, must not block and must not throw. */
typedef void (*inf_wake_fn)(void *user, uint64_t tag);

/**
 * Makes a runtime and starts its threads. params may be NULL.
 *
 * The caller owns `*out` and gives it back with `inf_runtime_free`. Any thread. Does not block.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: an impossible number, or options that are not understood.
 * - `INF_ERR_UNSUPPORTED`: this machine cannot run the kernels asked for; the message lists those it can.
 * - `INF_ERR_OUT_OF_MEMORY`: the system refuses memory or threads.
 *
 * Since 0.1.
 */
INF_API inf_status inf_runtime_create(const inf_runtime_params *params, inf_runtime **out, inf_error *err);

/**
 * Lets go of a runtime. Models, sessions and what still runs keep it alive, so any order of freeing is right; its
 * threads end with the last of them, which may be after this call: after `inf_runtime_shutdown` none of your log and
 * thread functions is called any more, after this alone one may be. NULL and dead handles are ignored.
 *
 * Any thread, also from inside a hook. Blocks until the threads have ended, if nothing else keeps them. Since 0.1.
 */
INF_API void inf_runtime_free(inf_runtime *rt);

/**
 * Cancels what runs, a step on another thread of yours included, and joins the threads. Models and sessions of the
 * runtime answer `INF_ERR_SHUTDOWN` from now on and can still be freed.
 *
 * Any thread. Blocks for at most timeout_ms (`INF_WAIT_FOREVER`: until done).
 *
 * - `INF_ERR_TIMEOUT`: work is still ending; nothing new starts; call again.
 * - `INF_ERR_BUSY`: called from inside a hook; nothing happened.
 *
 * Since 0.1.
 */
INF_API inf_status inf_runtime_shutdown(inf_runtime *rt, int32_t timeout_ms, inf_error *err);

/**
 * Works for about budget_us microseconds on the calling thread: at loads, prompts and tokens, in slices that pause
 * between the stages of a layer. Chunks are cut so that a stage takes at most half of the budget, by what stages took
 * before, and one that would end too late is left to the next call; but one slice is always run, budget 0 included. The
 * tokenizer and the tensors of a load, and the shift of a full context, advance in slices, too; a slice of a load can
 * last as long as the system takes to clear a huge page of 2 MiB, which a virtual machine may first have to get from
 * its host. One-off jobs are one slice each: rendering and tokenising a prompt, compiling a chat template or a
 * constraint (mostly a few milliseconds), one of the tries of the vocabulary that the first constraint of a model needs
 * (the rest of them advances in slices), comparing a draft model's vocabulary at the start of a generation.
 *
 * `*more` is 1 if work may remain, or if another thread is pumping: then this call returns at once. In host_driven mode
 * every call that waits (a load, the next event, a shutdown) pumps until it has what it waits for; hooks are called on
 * the thread that pumps or cancels. Any thread. Blocks for about the budget.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: the runtime was not made with host_driven.
 * - `INF_ERR_BUSY`: called from inside a hook.
 *
 * Since 0.1.
 */
INF_API inf_status inf_runtime_pump(inf_runtime *rt, uint32_t budget_us, uint32_t *more, inf_error *err);

/**
 * Takes the oldest log line that waits, if log was not set. No line: `INF_OK` with `*len` 0 and `*level` 0. Asking for
 * the size (buf NULL) takes nothing. The newest 256 lines are kept.
 *
 * Any thread. Never blocks.
 *
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed; the line is still there.
 *
 * Since 0.1.
 */
INF_API inf_status inf_runtime_next_log(inf_runtime *rt, char *buf, size_t cap, size_t *len, uint32_t *level,
    inf_error *err);

/**
 * Accounts for memory: weights, keys and values (also those that no session uses and that are kept for the next one),
 * activations, logits. Tokenizers, queues and other small things are not counted, nor are weights that stay in a mapped
 * file: those are the system's, which may share and drop them.
 *
 * out is the caller's, with struct_size set. Any thread. Never blocks. Since 0.1.
 */
INF_API inf_status inf_runtime_memory(const inf_runtime *rt, inf_memory *out, inf_error *err);

/**
 * How many devices this machine has: the CPU, and every GPU; where no GPU can be looked for, one entry stands for them
 * and says why. 0 for a dead handle.
 *
 * Any thread. Blocks for the first call alone, which loads the plugin if there is one. Since 0.1.
 */
INF_API uint32_t inf_device_count(const inf_runtime *rt);

/**
 * Describes device i, counted from 0.
 *
 * out is the caller's, with struct_size set. Any thread. Blocks as `inf_device_count`.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: there is no device i.
 *
 * Since 0.1.
 */
INF_API inf_status inf_device_get(const inf_runtime *rt, uint32_t i, inf_device_info *out, inf_error *err);

/* ---- Sources: where a model's bytes come from ---------------------------------------------------------------------- */

#define INF_SOURCE_PATH 0u    /**< `inf_source.kind`: a file, by its path. */
#define INF_SOURCE_MEMORY 1u  /**< A file that lies in memory. */
#define INF_SOURCE_READER 2u  /**< A function of yours that reads. */
#define INF_SOURCE_NATIVE 3u  /**< An open file, or a stretch of it. */

/**
 * Reads up to n bytes from offset into dst, as pread does, and returns how many; fewer are asked for again, 0 makes the
 * load fail. Called on a thread of the library, or on the one that is inside `inf_model_load`; never for bytes beyond
 * size.
 */
typedef size_t (*inf_read_fn)(void *user, uint64_t offset, void *dst, size_t n);

/** Says that a source is not used any more. Called exactly once, on any thread. */
typedef void (*inf_release_fn)(void *user);

/** One input file. kind says which of path, data, native and read_at is used; the others are ignored. */
typedef struct inf_source {
  uint32_t struct_size;          /**< `sizeof(inf_source)` */
  uint32_t kind;                 /**< `INF_SOURCE_*` */
  const char *name;              /**< Memory, reader, native: what messages call it, NUL-terminated: "smith.gguf".
                                      NULL = a name made from place and kind. Copied. */
  const char *path;              /**< Path: UTF-8 on every platform, NUL-terminated. Copied. */
  const void *data;              /**< Memory: size bytes, borrowed until release is called (without release: until
                                      the load has ended). Never written to. */
  intptr_t native;               /**< Native: a POSIX file descriptor or a Windows HANDLE of a regular file.
                                      Duplicated during the call, its cursor is not used. */
  uint64_t size;                 /**< Memory, reader, native: bytes. Native: 0 = all that follow offset. */
  uint64_t offset;               /**< Native: where the source begins inside the file, for models in an archive. */
  inf_read_fn read_at;           /**< Reader. */
  inf_release_fn release;        /**< Optional, for every kind. Called exactly once when the source is not used any
                                      more, at the latest before the load tells its end, also where the call that
                                      takes the source fails. Only a source that cannot be read itself (NULL, an
                                      impossible struct_size) is not released. */
  void *user;                    /**< Handed to read_at and release. */
  const void *reserved_pointer;  /**< NULL. */
} inf_source;

/* ---- Models -------------------------------------------------------------------------------------------------------- */

#define INF_KV_AUTO 0u       /**< Keys and values of the context: the default, which is f16. */
#define INF_KV_F32 1u        /**< Exact: for tests and short contexts. */
#define INF_KV_F16 2u        /**< Half the memory, no difference that a reader sees. */
#define INF_KV_Q8_0 3u       /**< A quarter of the memory: int8, with a scale per 32 elements of a head. For heads of
                                  whole 32s. */

#define INF_CAN_GENERATE 1u  /**< `inf_model_info.capabilities`: it generates text. A file that holds only a
                                  vocabulary does not. */

/** Immutable weights and a tokenizer, shared by any number of sessions. Any thread. */
typedef struct inf_model inf_model;

/** What to load, and how. Zero means default. */
typedef struct inf_model_params {
  uint32_t struct_size;              /**< `sizeof(inf_model_params)` */
  uint32_t n_sources;                /**< Entries of sources. */
  const inf_source *const *sources;  /**< A GGUF file: 1, of a split set one path finds the others; or all files of
                                          the set, of any kind. Or a Hugging Face directory: its path, or its files
                                          one by one (`config.json`, the `.safetensors`, their index if there are
                                          several, `tokenizer.json`, `tokenizer_config.json`), by name. */
  const char *device;                /**< NULL or "auto" (a GPU that is usable and has room, else the CPU, and a line
                                          in the log that says why), "cpu", "cuda:0", or the UUID of a GPU. */
  uint32_t n_ctx_hint;               /**< Context that sessions get by default, cut to what the model was made for. 0
                                          = 4096. */
  uint32_t kv_type;                  /**< `INF_KV_*` */
  inf_wake_fn wake;                  /**< Optional, for `inf_load_start` alone: called once when the load has ended,
                                          on a thread of the library. */
  void *wake_user;                   /**< Handed to wake. */
  uint64_t wake_tag;                 /**< Handed to wake. */
  const char *options_json;          /**< `{"kv_bytes":1000000000}` limits the keys and values of all sessions
                                          together: generations that find no room wait for it, and what no session
                                          uses goes first. `{"vocab_only":true}` loads the tokenizer and no weights,
                                          also from a `tokenizer.json` (alone, or by the path of its directory, with
                                          the `tokenizer_config.json` beside it. From memory, their names must end
                                          so). `{"backend":"candle"}` computes with candle instead of our own
                                          kernels: slow, for comparison only, as candle has process-wide threads,
                                          reads environment variables and does not survive a fork.
                                          `{"pre_tokenizer":"default"}` cuts text as that one does, for vocabularies
                                          of bytes that name none or an unknown one: a wrong one gives wrong tokens
                                          and worse answers. `{"chat_template":"..."}` is Jinja source that takes the
                                          place of the templates in the file. `{"quantize":"q4_k"}` (or `q4_0`,
                                          `q5_0`, `q8_0`, `q5_k`, `q6_k`, `f16`) holds the matrices of a float model
                                          so, encoded while they are read; the head keeps six bits, rows that are no
                                          whole blocks become `q5_0` (for `q4_k`) or `q8_0`, or stay.
                                          `{"topology":[{"layers":"0-8","quantize":"q8_0"},{"tensors":"ffn_down|attn_v","quantize":"q6_k"}]}`
                                          sets it by layers (the end is not meant) or by regular expressions over
                                          GGUF's names; expressions win over layers, of ranges the one that ends
                                          last, then the later. Beside "quantize", or in its place, a rule may say
                                          `"device":"cuda:0"`: its layers, or those that have a tensor that matches,
                                          are computed there ("candle" is the CPU by candle). `{"fit":true}` puts as
                                          many layers on a GPU as it has room for, from the last on, and the rest on
                                          the CPU; without it a device that is asked for must hold all.
                                          `{"reserve_device_bytes":2000000000}` leaves so much of a GPU's memory to
                                          others, the host's renderer for example. `{"mmap":true}` is the fastest
                                          start, for weights that are stored as F32, F16, BF16 or Q8_0 in files given
                                          by path: they are used where they lie, the files mapped, and not read and
                                          packed; answers are the same to the last bit, and somewhat slower. **The
                                          files must not change as long as the model lives**: text becomes nonsense
                                          then, and a file that becomes shorter ends the process. Other types,
                                          sources and backends are read as ever, and so are files that the system
                                          does not map, with a line in the log. NULL = none. An unknown key is an
                                          error that names it. */
  size_t options_len;                /**< Bytes of options_json, or `INF_NUL`. */
} inf_model_params;

/** What a model will need. */
typedef struct inf_plan {
  uint32_t struct_size;         /**< `sizeof(inf_plan)` */
  uint32_t fits;                /**< 1 if host_bytes and device_bytes fit the runtime's limits and, with what stays
                                     in a mapped file, the memory that is free now. */
  uint32_t n_layers;            /**< Layers. */
  uint32_t n_ctx;               /**< Context of the session that is planned for. */
  uint64_t weights_bytes;       /**< Weights, as they will be held; also those that stay in a mapped file. */
  uint64_t kv_bytes_per_token;  /**< Keys and values of a token of one session. */
  uint64_t kv_bytes;            /**< Keys and values of the whole context of one session. */
  uint64_t scratch_bytes;       /**< Activations, and the logits of one session. */
  uint64_t host_bytes;          /**< What of all that is memory of the host: without weights that stay in a mapped
                                     file. */
  uint64_t device_bytes;        /**< What of it is memory of GPUs. */
  uint32_t n_layers_on_device;  /**< Layers on GPUs. */
  uint32_t reserved;            /**< 0. */
  char device[32];              /**< The device of most layers: "cpu", "cuda:0". */
} inf_plan;

/** A token of a model's vocabulary; -1 = none. */
typedef int32_t inf_token;

/** Facts about a model. */
typedef struct inf_model_info {
  uint32_t struct_size;   /**< `sizeof(inf_model_info)` */
  uint32_t n_vocab;       /**< Tokens in the vocabulary, and logits per position. */
  uint32_t n_ctx_max;     /**< Longest context it was made for; 0 without weights. */
  uint32_t n_embd;        /**< Width of its hidden state; 0 without weights. */
  uint32_t n_layers;      /**< Layers; 0 without weights. */
  uint32_t capabilities;  /**< Bits: `INF_CAN_GENERATE`. */
  inf_token bos;          /**< Beginning of text, or -1. */
  inf_token eos;          /**< End of text, or -1. See `inf_model_is_eog` for all that end a generation. */
  uint64_t n_params;      /**< Weights, counted as numbers. */
  char architecture[32];  /**< "llama", "qwen2", "qwen3". */
  char quantization[32];  /**< The type that most of the weights have: "Q4_K". */
  char device[32];        /**< The device that computes: "cpu". */
} inf_model_info;

/**
 * Tells what a model with one session of n_ctx_hint tokens will need, from the header of its file alone.
 * `inf_runtime_memory` accounts for the same bytes once it is loaded and the session is full, within 3 %.
 *
 * The sources of p are released before it returns. out is the caller's, with struct_size set. Any thread. Blocks while
 * the header is read.
 *
 * - `INF_ERR_INVALID_ARGUMENT`, `INF_ERR_IO`, `INF_ERR_FORMAT`, `INF_ERR_UNSUPPORTED`: as `inf_model_load`, as far as
 *   the header tells.
 * - `INF_ERR_BUSY`: called from inside a hook.
 *
 * Since 0.1.
 */
INF_API inf_status inf_model_estimate(inf_runtime *rt, const inf_model_params *p, inf_plan *out, inf_error *err);

/**
 * Loads a model; `inf_load_start` does so in the background. Everything in p is read during the call and may go
 * afterwards.
 *
 * The caller owns `*out` and gives it back with `inf_model_free`. Any thread, any number at once. Blocks until the
 * model is loaded.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible.
 * - `INF_ERR_IO`: a file cannot be opened or read.
 * - `INF_ERR_FORMAT`: not a model, corrupt, or truncated; the message says what and where.
 * - `INF_ERR_UNSUPPORTED`: an architecture, type or tokenizer that this build does not have; the message names it.
 * - `INF_ERR_NO_DEVICE`: no such device.
 * - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
 * - `INF_ERR_BUDGET`: its weights exceed host_memory_limit; `detail` = bytes wanted, bytes left.
 * - `INF_ERR_CANCELLED`: `inf_runtime_shutdown` ended it.
 * - `INF_ERR_BUSY`: called from inside a hook.
 *
 * After any of them nothing is loaded, no memory is held, and the sources are released. Since 0.1.
 */
INF_API inf_status inf_model_load(inf_runtime *rt, const inf_model_params *p, inf_model **out, inf_error *err);

/**
 * Writes m to path as a GGUF file: weights as they are held, quantised or not, with tokenizer, chat template and all
 * other metadata. Loading it again needs no conversion, and gives the same logits to the last bit.
 *
 * path is UTF-8; what was there is replaced when all is written, or stays. m stays as it is. Any thread. Blocks until
 * the file is on the disk.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: path is NULL or no UTF-8.
 * - `INF_ERR_UNSUPPORTED`: the model has no weights, or candle holds them.
 * - `INF_ERR_IO`: the file cannot be written; the message names it.
 * - `INF_ERR_BUSY`: called from inside a hook.
 *
 * Since 0.1.
 */
INF_API inf_status inf_model_save_gguf(const inf_model *m, const char *path, inf_error *err);

/**
 * Takes one more reference on m and returns it: it then takes one more `inf_model_free`. NULL for a dead handle.
 *
 * Any thread. Never blocks. Since 0.1.
 */
INF_API inf_model *inf_model_ref(inf_model *m);

/**
 * Gives one reference back; after the last one the handle is dead. Sessions keep the weights alive, so any order of
 * freeing is right. NULL and dead handles are ignored.
 *
 * Any thread. Blocks only to return memory. Since 0.1.
 */
INF_API void inf_model_free(inf_model *m);

/**
 * Describes a model.
 *
 * out is the caller's, with struct_size set. Any thread. Never blocks. Since 0.1.
 */
INF_API inf_status inf_model_get_info(const inf_model *m, inf_model_info *out, inf_error *err);

/**
 * Writes the value of a metadata key of the model's file as text: strings as they are, numbers in decimal, true or
 * false, arrays in brackets with their strings quoted.
 *
 * buf, cap and len follow the rules for buffers. Any thread. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: the file has no such key.
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
 *
 * Since 0.1.
 */
INF_API inf_status inf_model_metadata(const inf_model *m, const char *key, char *buf, size_t cap, size_t *len,
    inf_error *err);

/**
 * 1 if t ends a generation; 0 if not, for a dead handle, and for a number that is no token.
 *
 * Any thread. Never blocks. Since 0.1.
 */
INF_API uint32_t inf_model_is_eog(const inf_model *m, inf_token t);

/* ---- Loads: in the background, with progress and cancel ------------------------------------------------------------ */

/** A model load in progress. Any thread. */
typedef struct inf_load inf_load;

/**
 * Starts to load a model in the background. Everything in p is read during the call and may go afterwards, except
 * memory and readers, which are in use until their release. What is wrong with the files is told by `inf_load_wait`.
 * wake of p is called when the load has ended.
 *
 * The caller owns `*out` and gives it back with `inf_load_free`. Any thread, any number at once, also inside a hook.
 * Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible; nothing started.
 * - `INF_ERR_IO`: a native handle is not an open regular file; nothing started.
 * - `INF_ERR_FORMAT`: the file of a native handle is shorter than offset and size say; nothing started.
 * - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
 *
 * After any of them the sources are released. Since 0.1.
 */
INF_API inf_status inf_load_start(inf_runtime *rt, const inf_model_params *p, inf_load **out, inf_error *err);

/**
 * Starts to load the file at path in the background: `inf_load_start` without structs, for callers from other
 * languages.
 *
 * options_json:
 * `{"device":"cpu","n_ctx":4096,"kv_type":"f16","kv_bytes":0,"backend":"cpu","vocab_only":false,"pre_tokenizer":"...","chat_template":"...",
 * "quantize":"q4_k","topology":[...],"fit":false,"reserve_device_bytes":0,"mmap":false}`, all optional, with the
 * meaning of the fields and options of inf_model_params; kv_type is "auto", "f32", "f16" or "q8_0". NULL = none. An
 * unknown key is an error that names it.
 *
 * The caller owns `*out` and gives it back with `inf_load_free`. Any thread, also inside a hook. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: a parameter is impossible; nothing started.
 * - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
 *
 * Since 0.1.
 */
INF_API inf_status inf_load_start_path(inf_runtime *rt, const char *path, size_t path_len, const char *options_json,
    size_t options_len, inf_load **out, inf_error *err);

/**
 * Waits for the end of a load: 0 polls, above 0 waits so many milliseconds, `INF_WAIT_FOREVER` waits until it ends.
 * `INF_OK` once, with the model in `*out`; what made a load fail is answered each time.
 *
 * progress, which may be NULL, gets the share of the weights' bytes that have been read, with `INF_ERR_TIMEOUT` and
 * with `INF_OK`: from 0, never falling, 1 only with `INF_OK`. The caller owns `*out` and gives it back with
 * `inf_model_free`. Any thread. Blocks as long as asked.
 *
 * - `INF_ERR_TIMEOUT`: it is still loading.
 * - `INF_ERR_IO`: a source cannot be opened or read; the message names it.
 * - `INF_ERR_FORMAT`: not a model, corrupt, or truncated; the message says what and where.
 * - `INF_ERR_UNSUPPORTED`: an architecture, type, tokenizer or kind of file that this build does not have; the message
 *   names it.
 * - `INF_ERR_NO_DEVICE`: no such device.
 * - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
 * - `INF_ERR_BUDGET`: its weights exceed host_memory_limit; `detail` = bytes wanted, bytes left.
 * - `INF_ERR_CANCELLED`: it was cancelled, by you or by `inf_runtime_shutdown`; its memory is back and its sources are
 *   released.
 * - `INF_ERR_INVALID_ARGUMENT`: an earlier call handed out the model.
 * - `INF_ERR_BUSY`: a wait inside a hook.
 *
 * Since 0.1.
 */
INF_API inf_status inf_load_wait(inf_load *ld, int32_t timeout_ms, float *progress, inf_model **out, inf_error *err);

/**
 * Ends a load as soon as the read in flight is done; `inf_load_wait` then answers `INF_ERR_CANCELLED`. A load that has
 * ended stays as it is. Dead handles are ignored.
 *
 * Any thread. Never blocks. Since 0.1.
 */
INF_API void inf_load_cancel(inf_load *ld);

/**
 * Gives a load back, and cancels it if it runs; a thread that waits for it gets `INF_ERR_CANCELLED`. A model that it
 * handed out lives on. NULL and dead handles are ignored.
 *
 * Any thread. Does not wait for the load to end: memory and readers are in use until their release. Since 0.1.
 */
INF_API void inf_load_free(inf_load *ld);

/* ---- Tokenizer ----------------------------------------------------------------------------------------------------- */

#define INF_TOK_ADD_SPECIAL 1u    /**< `inf_tokenize`: put the tokens around the text that the model expects, such as
                                       the beginning of text. */
#define INF_TOK_PARSE_SPECIAL 2u  /**< `inf_tokenize`: text that spells a control token becomes that token; without
                                       it, it stays text, so that what a user writes is never a control token.
                                       `inf_detokenize`: control tokens are spelled out; without it, they are left
                                       out. */
#define INF_TOK_CONTINUES 4u      /**< `inf_detokenize`: the tokens continue a text, as an answer continues its
                                       prompt: a space that they begin with is kept. */

/**
 * Turns UTF-8 into tokens. flags: `INF_TOK_*`.
 *
 * tokens, cap and n follow the rules for buffers, counted in tokens. Any thread. Blocks for the time of the work only.
 *
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*n` is the number of tokens.
 *
 * Since 0.1.
 */
INF_API inf_status inf_tokenize(const inf_model *m, const char *text, size_t len, uint32_t flags, inf_token *tokens,
    size_t cap, size_t *n, inf_error *err);

/**
 * Turns n tokens into text, as `inf_tokenize` would have made them from. flags: `INF_TOK_PARSE_SPECIAL`,
 * `INF_TOK_CONTINUES`. The text may begin or end inside a character if the tokens do.
 *
 * buf, cap and len follow the rules for buffers. Any thread. Blocks for the time of the work only.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: a number that is no token of the model.
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
 *
 * Since 0.1.
 */
INF_API inf_status inf_detokenize(const inf_model *m, const inf_token *tokens, size_t n, uint32_t flags, char *buf,
    size_t cap, size_t *len, inf_error *err);

/**
 * The bytes of one token: may be part of a character, and need not be UTF-8. Control tokens are spelled out.
 *
 * buf, cap and len follow the rules for buffers. Any thread. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: t is no token of the model.
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
 *
 * Since 0.1.
 */
INF_API inf_status inf_token_bytes(const inf_model *m, inf_token t, char *buf, size_t cap, size_t *len, inf_error *err);

/* ---- Chats: messages become a prompt ------------------------------------------------------------------------------- */

/**
 * Writes the prompt that a chat generation would compute: the messages, as the model's chat template lays them out.
 *
 * messages_json has the shape of OpenAI's API: `[{"role":"system","content":".."},{"role":"user","content":".."}]`.
 * content is a string, null, or an array of parts; an assistant may have `tool_calls` and `reasoning_content`, a tool
 * `tool_call_id` and `name`. tools_json: `[{"type":"function","function":{"name":..,
 * "description":..,"parameters":{..}}}]`. options_json:
 * `{"add_generation_prompt":true,"chat_template":"..","now":1767225600}`, and variables of the template, such as
 * `"enable_thinking":false`. The prompt ends with what makes the model answer unless add_generation_prompt is false;
 * now, in seconds since 1970, is for templates that write the date. An unknown key is an error that names it.
 * tools_json and options_json may be NULL.
 *
 * Templates are run with bounds on time, memory and depth, on a stack of our own. buf, cap and len follow the rules for
 * buffers. Any thread. Blocks for the time of the work only.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: messages, tools or options have another shape; the sentence names the place, and where
 *   it is no JSON, `detail[0]` is the byte offset.
 * - `INF_ERR_TEMPLATE`: the template failed or refused the chat; the sentence has line and cause, `detail[0]` the line.
 * - `INF_ERR_UNSUPPORTED`: neither the model nor options_json has a template.
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
 *
 * Since 0.1.
 */
INF_API inf_status inf_chat_render(const inf_model *m, const char *messages_json, size_t messages_len,
    const char *tools_json, size_t tools_len, const char *options_json, size_t options_len, char *buf, size_t cap,
    size_t *len, inf_error *err);

/* ---- Samplers ------------------------------------------------------------------------------------------------------ */

/**
 * A chain of stages, its random state, and its memory of accepted tokens. One thread at a time; a clash is
 * `INF_ERR_BUSY`.
 */
typedef struct inf_sampler inf_sampler;

/**
 * Makes an empty chain for the vocabulary of a model. It is greedy: it chooses the most likely token. Stages work in
 * the order in which they are added; a chain with a stage that is not a penalty draws at random, unless a temperature
 * is 0.
 *
 * The caller owns `*out` and gives it back with `inf_sampler_free`; it does not need the model. Any thread. Never
 * blocks. Since 0.1.
 */
INF_API inf_status inf_sampler_create(const inf_model *m, inf_sampler **out, inf_error *err);

/**
 * Makes a chain from JSON: `{"temperature":0.8,"top_k":40,"top_p":0.95,"seed":7}`. All keys are optional; the stages
 * work in this order, whatever the order of the keys: logit_bias (`{"123":-1.5,"7":false}`, by token; false forbids),
 * repeat_penalty, frequency_penalty and presence_penalty with repeat_last_n (64; -1 = all), dry_multiplier with
 * dry_base (1.75), dry_allowed_length (2), dry_last_n (all) and dry_breakers (`["\n",":","\"","*"]`), top_n_sigma,
 * top_k, typical_p, top_p, min_p, xtc_probability with xtc_threshold (0.1), temperature with dynatemp_range and
 * dynatemp_exponent; mirostat_tau and mirostat_eta (0.1) take the place of the truncations. Without any of them it is
 * greedy. An unknown key is an error that names it.
 *
 * The caller owns `*out`. Any thread. Blocks only to look for the breakers in the vocabulary.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: no JSON (`detail[0]` = byte offset), or a number out of range; the sentence names the
 *   key.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_from_json(const inf_model *m, const char *json, size_t len, inf_sampler **out,
    inf_error *err);

/**
 * Copies a chain with its random state and its memory: both choose the same tokens from now on.
 *
 * The caller owns `*out`. Any thread. Never blocks.
 *
 * - `INF_ERR_BUSY`: another thread changes s.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_clone(const inf_sampler *s, inf_sampler **out, inf_error *err);

/** Gives a chain back. NULL and dead handles are ignored. Any thread, at any time. Never blocks. Since 0.1. */
INF_API void inf_sampler_free(inf_sampler *s);

/**
 * Forgets the accepted tokens and starts the random sequence again from its seed; the stages stay.
 *
 * One thread at a time. Never blocks.
 *
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_reset(inf_sampler *s, inf_error *err);

/**
 * Starts the random sequence from seed. The same seed, build and device give the same text, whatever else runs. Without
 * it, every sampler has a seed of its own.
 *
 * One thread at a time. Never blocks.
 *
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_set_seed(inf_sampler *s, uint64_t seed, inf_error *err);

/**
 * Adds a stage that divides the logits by t: below 1 more predictable, above 1 more surprising, 0 = always the most
 * likely token.
 *
 * One thread at a time. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: t is not a number >= 0, or there are 64 stages; unchanged.
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_add_temperature(inf_sampler *s, float t, inf_error *err);

/**
 * Adds a stage that keeps the k most likely tokens; 0 = all.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_top_k(inf_sampler *s, uint32_t k, inf_error *err);

/**
 * Adds a stage that keeps the fewest most likely tokens whose probabilities sum to at least p, 0 < p <= 1.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_top_p(inf_sampler *s, float p, inf_error *err);

/**
 * Adds a stage that keeps the tokens at least p times as likely as the most likely one, 0 <= p <= 1.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_min_p(inf_sampler *s, float p, inf_error *err);

/**
 * Adds a stage that makes tokens less likely that are among the last last_n accepted ones (0 = off): their logits are
 * divided by repeat if positive and multiplied if negative (1 = off), then lowered by frequency per occurrence and by
 * presence once (0 = off).
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_penalties(inf_sampler *s, uint32_t last_n, float repeat, float frequency,
    float presence, inf_error *err);

/**
 * Adds a stage that divides the logits by a temperature between min and max, 0 <= min <= max: min where the model is
 * certain, max where all tokens are as likely; in between by the power exponent of the distribution's relative entropy.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_dynamic_temperature(inf_sampler *s, float min, float max, float exponent,
    inf_error *err);

/**
 * Adds a stage that keeps the tokens whose surprise is nearest to the expected one, as few as have probability p
 * together, 0 < p <= 1.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_typical_p(inf_sampler *s, float p, inf_error *err);

/**
 * Adds a stage that keeps the tokens whose logits are at most n standard deviations below the largest; 0 = all.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_top_n_sigma(inf_sampler *s, float n, inf_error *err);

/**
 * Adds a stage that, so often as probability says, drops all tokens at least as likely as threshold but the least
 * likely of them, which makes texts less predictable and keeps them coherent. Both in [0, 1]; above 0.5, threshold
 * turns it off.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_xtc(inf_sampler *s, float probability, float threshold, inf_error *err);

/**
 * Adds a stage that makes tokens less likely that would continue a repetition of n >= allowed_len tokens among the last
 * last_n: their logits are lowered by `multiplier * base^(n - allowed_len)`, multiplier 0 = off, base >= 1. A
 * repetition does not reach across a token whose text holds one of the breakers, `["\n",":"]`; NULL =
 * `["\n",":","\"","*"]`. They are looked for in the vocabulary: the chain's model must not be freed yet.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_dry(inf_sampler *s, float multiplier, float base, uint32_t allowed_len,
    uint32_t last_n, const char *breakers_json, size_t breakers_len, inf_error *err);

/**
 * Adds a stage that steers the surprise of what is drawn to tau bits, learning with rate eta, 0 to 1 (mirostat v2). The
 * last stage of its chain, behind a temperature.
 *
 * Threads, blocking and statuses as `inf_sampler_add_temperature`. Since 0.1.
 */
INF_API inf_status inf_sampler_add_mirostat(inf_sampler *s, float tau, float eta, inf_error *err);

/**
 * Adds a stage that adds `bias[i]` to the logit of `tokens[i]`, n of them; minus infinity forbids a token.
 *
 * Both arrays are read during the call only. Threads, blocking and statuses as `inf_sampler_add_temperature`. Since
 * 0.1.
 */
INF_API inf_status inf_sampler_add_logit_bias(inf_sampler *s, const inf_token *tokens, const float *bias, size_t n,
    inf_error *err);

/**
 * Chooses a token from n logits (the model's n_vocab), and accepts it. For hosts that own the loop and edit the logits:
 * one that is no finite number is not chosen.
 *
 * logits is read during the call only. One thread at a time. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: another number of logits, or none of them is finite; unchanged.
 * - `INF_ERR_DEAD_END`: the chain's constraint allows no token that has a finite logit and is not forbidden; nothing
 *   was chosen.
 * - `INF_ERR_CONSTRAINT`: the constraint takes more work for this token than any useful one; nothing was chosen.
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_pick(inf_sampler *s, const float *logits, size_t n, inf_token *out, inf_error *err);

/**
 * Notes a token that the host chose itself, so that penalties and the constraint see it.
 *
 * One thread at a time. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: t is not in the vocabulary, or the constraint does not allow it here; unchanged.
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_accept(inf_sampler *s, inf_token t, inf_error *err);

/* ---- Constraints: what a sampler may choose at all ----------------------------------------------------------------- */

#define INF_CONSTRAINT_JSON_SCHEMA 1u  /**< A JSON schema. Property order is that of the schema; keywords that no
                                            grammar can express are an error. */
#define INF_CONSTRAINT_REGEX 2u        /**< A regular expression in the syntax of Rust's regex; the whole answer
                                            matches it. */
#define INF_CONSTRAINT_LARK 3u         /**< A grammar in llguidance's variant of Lark; it begins with the rule start.
                                            `<name>` and `<[17]>` stand for control tokens. */
#define INF_CONSTRAINT_GBNF 4u         /**< A grammar as llama.cpp reads them (GBNF); it begins with the rule root. */
#define INF_CONSTRAINT_JSON 5u         /**< Any JSON value; there is no source. */

/**
 * Lets a chain choose only tokens that continue a text of a language, and the end only where the text is complete. kind
 * is one of `INF_CONSTRAINT_*` and src its source, or kind is 0 and src empty: then everything is allowed again. It is
 * applied before every stage, wherever it was set, and begins with the next token that the chain chooses or accepts;
 * `inf_sampler_reset` begins it anew, a copy of the chain goes on by itself. Where only one token is allowed,
 * `inf_session_step` takes it without computing logits; where a bias of minus infinity forbids that one, others that
 * say the same are looked for. What `inf_session_step` and `inf_sampler_pick` answer if nothing is allowed is
 * `INF_ERR_DEAD_END`.
 *
 * Between the values of JSON it allows a space, or a line break with an indentation, at most:
 * `"x-guidance":{"whitespace_flexible":false}` in a schema allows none.
 *
 * One thread at a time. Blocks for the time of the work: mostly a few milliseconds, a tenth of a second where src is
 * made to take long. The first constraint of a model also makes tries of its vocabulary, once, which takes the longer
 * the larger that is: set any constraint on a loading screen to have that behind you. The constraint of a generation is
 * compiled while its prompt is computed, and beside the generations that run.
 *
 * - `INF_ERR_CONSTRAINT`: src does not compile, says what no grammar can, or is too large; detail[0] is the byte offset
 *   (0 where it is about all of it), the sentence names the key or the rule; unchanged.
 * - `INF_ERR_INVALID_ARGUMENT`: an unknown kind, or a source where there is none; unchanged.
 * - `INF_ERR_INVALID_HANDLE`: the model of the chain was freed.
 * - `INF_ERR_BUSY`: in use by another thread; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_sampler_set_constraint(inf_sampler *s, uint32_t kind, const char *src, size_t len,
    inf_error *err);

/* ---- Sessions: append, then step; for hosts that own the loop ------------------------------------------------------ */

#define INF_OVERFLOW_ERROR 0u            /**< A full session: calls that need room answer `INF_ERR_CONTEXT_FULL`, a
                                              generation ends with `INF_FINISH_CONTEXT_FULL`. */
#define INF_OVERFLOW_SHIFT 1u            /**< A full session: half of the tokens behind the first n_keep are dropped,
                                              the others move up, and it goes on. It forgets the middle of its text;
                                              what comes then is not what a session with the remaining tokens alone
                                              would say, as the others were computed with those that are gone. */
#define INF_OVERFLOW_STOP 2u             /**< A full session: as `INF_OVERFLOW_ERROR`, but a step that would choose a
                                              token answers `INF_STEP_END`. */

#define INF_SESSION_NO_SHARED_PREFIX 1u  /**< Flag of a session: it takes no keys and values that others computed for
                                              the same first tokens, and gives them none. Memory and time for
                                              privacy: without it, the time to the first token tells whether another
                                              session of the model began alike. */

#define INF_STEP_IGNORE_EOG 1u           /**< Flag: an end-of-generation token is a token like any other. */
#define INF_STEP_PENDING 0u              /**< State: the budget was used up; call again. */
#define INF_STEP_TOKEN 1u                /**< State: everything is computed, and with a sampler a token was chosen. */
#define INF_STEP_END 2u                  /**< State: an end-of-generation token was chosen, now or before. */

/** One sequence. One thread at a time; a clash is `INF_ERR_BUSY`. */
typedef struct inf_session inf_session;

/** What a host asks of a session. Zero means default. */
typedef struct inf_session_params {
  uint32_t struct_size;    /**< `sizeof(inf_session_params)` */
  uint32_t n_ctx;          /**< Tokens it can hold. 0 = what the model was loaded for. */
  uint32_t prefill_chunk;  /**< Most tokens of one indivisible prefill step; smaller = finer deadlines. 0 =
                                automatic. */
  uint32_t flags;          /**< Bits: `INF_SESSION_NO_SHARED_PREFIX`. */
  uint32_t overflow;       /**< `INF_OVERFLOW_*`: what happens when it is full. */
  uint32_t n_keep;         /**< With `INF_OVERFLOW_SHIFT`: tokens at the front that stay, rounded up to a multiple of
                                32. 64 more must fit. */
  int32_t priority;        /**< Urgency of its generations beside those of other sessions of the model; higher is
                                sooner, 0 is usual. Where they compete, prompts of higher priority are computed
                                first, do not spare streams of lower priority, and get memory first; in one pass of
                                eight all are equal, so that nobody stands still. */
  uint32_t reserved;       /**< 0. */
} inf_session_params;

/** What a step did. */
typedef struct inf_step {
  uint32_t struct_size;    /**< `sizeof(inf_step)` */
  uint32_t state;          /**< `INF_STEP_PENDING`, `INF_STEP_TOKEN` or `INF_STEP_END`. */
  inf_token token;         /**< The token chosen, or -1. */
  uint32_t prefill_done;   /**< Queued tokens computed ... */
  uint32_t prefill_total;  /**< ... of those that were queued when the first step on them began. */
  float logprob;           /**< Natural logarithm of the chosen token's probability before any stage of the sampler;
                                0 without a token. */
} inf_step;

/**
 * Makes an empty session. p may be NULL. Sessions of a model that begin with the same tokens compute them once and
 * share the memory, block by block of 32 tokens, whether they run at once or one after the other, and copy what they
 * share of a last one; their tokens are the same bits as without.
 *
 * The caller owns `*out` and gives it back with `inf_session_free`; it keeps the model alive. Any thread. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: n_ctx is more than the model was made for; overflow and n_keep do not fit it.
 * - `INF_ERR_UNSUPPORTED`: the model has no weights; or overflow is `INF_OVERFLOW_SHIFT`, and the backend or the
 *   architecture cannot do that.
 * - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_create(inf_model *m, const inf_session_params *p, inf_session **out, inf_error *err);

/**
 * Gives a session back; cancels its generation, if it has one. NULL and dead handles are ignored.
 *
 * Any thread, at any time. Never blocks. Since 0.1.
 */
INF_API void inf_session_free(inf_session *s);

/**
 * Makes a second session with the same tokens, queued ones included. What is computed is shared, not copied, until one
 * of the two writes behind it; an unfinished step of s begins again. A sampler does not follow: clone it.
 *
 * The caller owns `*out` and gives it back with `inf_session_free`; the two live on independently. One thread at a
 * time. Never blocks.
 *
 * - `INF_ERR_BUSY`: in use by another thread or a generation; nothing was made.
 * - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted; nothing was made.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_fork(inf_session *s, inf_session **out, inf_error *err);

/**
 * Keeps the first n_tokens tokens; 0 empties the session and clears `INF_ERR_POISONED`. If the logits of the last one
 * that is kept are gone, the next step computes them again.
 *
 * One thread at a time. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: it holds fewer; unchanged.
 * - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_truncate(inf_session *s, uint32_t n_tokens, inf_error *err);

/**
 * How many tokens it holds, queued ones and chosen ones included; 0 for a dead handle.
 *
 * Any thread, also while a generation runs. Never blocks. Since 0.1.
 */
INF_API uint32_t inf_session_n_tokens(const inf_session *s);

/**
 * Queues n tokens: all, or none. They are computed by the next steps.
 *
 * tokens is copied. One thread at a time. Never blocks.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: a number that is no token of the model; unchanged.
 * - `INF_ERR_CONTEXT_FULL`: no room for all of them; unchanged.
 * - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory to shift shared keys and values; unchanged.
 * - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_append(inf_session *s, const inf_token *tokens, size_t n, inf_error *err);

/**
 * Computes what is queued, on the calling thread and the runtime's workers. With a sampler it then chooses the next
 * token, which joins the session at once and is computed by the next step: `while step` generates. With smp NULL
 * nothing is chosen (`INF_STEP_TOKEN`, token -1): read the logits, pick, append. With nothing queued and valid logits
 * it chooses at once. After an end-of-generation token it answers `INF_STEP_END` and changes nothing, until something
 * is appended, or with the flag `INF_STEP_IGNORE_EOG`.
 *
 * What another session of the model is computing already is not computed again: while another thread steps that one,
 * this call waits for it, within its budget; where one thread steps many in turn, with budgets, it answers
 * `INF_STEP_PENDING` at once as long as the other one comes on between its calls.
 *
 * out is the caller's, with struct_size set. One thread at a time. Blocks for about budget_us microseconds (0: until
 * done), checked between the stages of a layer.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: the session is empty, or the sampler is for another vocabulary; unchanged.
 * - `INF_ERR_CONTEXT_FULL`: everything is computed, but a chosen token has no room; nothing was chosen.
 * - `INF_ERR_FORMAT`: everything is computed, but no logit is finite, because the model's weights are corrupt; nothing
 *   was chosen.
 * - `INF_ERR_DEAD_END`, `INF_ERR_CONSTRAINT`: everything is computed, but the sampler's constraint allows nothing, as
 *   `inf_sampler_pick` says; nothing was chosen.
 * - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory for more keys and values, though what no session uses was
 *   given up; nothing was chosen.
 * - `INF_ERR_BUSY`: session or sampler in use by another thread or a generation, or called inside a hook; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_step(inf_session *s, inf_sampler *smp, uint32_t budget_us, uint32_t flags, inf_step *out,
    inf_error *err);

/**
 * The logits of the last position: `*n` (the model's n_vocab) floats.
 *
 * `*logits` is borrowed until the next call on s. One thread at a time. Never blocks.
 *
 * - `INF_ERR_NOT_READY`: tokens are queued, or nothing was computed yet.
 * - `INF_ERR_BUSY`: in use by another thread or a generation.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_logits(inf_session *s, const float **logits, size_t *n, inf_error *err);

/* ---- Saved sessions: as bytes and in files ------------------------------------------------------------------------- */

/**
 * Writes the session as bytes: its tokens, and the keys and values of what is computed, in blocks of 32 tokens. They
 * hold what the session says, and are bound to the model, its KV type and the version of this library. The logits are
 * not saved: after a restore the next step computes up to 32 tokens again.
 *
 * buf, cap and len follow the rules for buffers. One thread at a time. Never blocks on computation.
 *
 * - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
 * - `INF_ERR_BUSY`: in use by another thread or a generation.
 * - `INF_ERR_OUT_OF_MEMORY`: `detail[0]` = bytes wanted.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_save(inf_session *s, void *buf, size_t cap, size_t *len, inf_error *err);

/**
 * Makes the session what was saved, whatever it held; it goes on with the same bits as where it was saved. The bytes
 * may come from anywhere: all of them are checked before anything changes, and keys and values in them are never shown
 * to other sessions.
 *
 * One thread at a time. Never blocks on computation.
 *
 * - `INF_ERR_STATE_MISMATCH`: not a saved state, damaged, or of another model, KV type or version; unchanged.
 * - `INF_ERR_CONTEXT_FULL`: it has more tokens than the session can hold; unchanged.
 * - `INF_ERR_BUDGET`, `INF_ERR_OUT_OF_MEMORY`: no memory for its keys and values; unchanged.
 * - `INF_ERR_BUSY`: in use by another thread or a generation; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_restore(inf_session *s, const void *buf, size_t len, inf_error *err);

/**
 * `inf_session_save` into the file at path, in UTF-8: whoever opens it, also after a crash at any moment, finds its old
 * content or the new one. It is written beside it first, as path with a suffix, and renamed.
 *
 * One thread at a time. Blocks on the disk.
 *
 * - `INF_ERR_IO`: the system refuses; the old content is still there.
 * - `INF_ERR_BUSY`, `INF_ERR_OUT_OF_MEMORY`, `INF_ERR_UNSUPPORTED`: as `inf_session_save`; nothing was written.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_save_file(inf_session *s, const char *path, inf_error *err);

/**
 * `inf_session_restore` from the file at path.
 *
 * One thread at a time. Blocks on the disk.
 *
 * - `INF_ERR_IO`: the file cannot be read; unchanged.
 * - Others: as `inf_session_restore`; unchanged.
 *
 * Since 0.1.
 */
INF_API inf_status inf_session_restore_file(inf_session *s, const char *path, inf_error *err);

/* ---- Generations: in the background; pull their events ------------------------------------------------------------- */

#define INF_EV_NONE 0u              /**< Nothing is ready. */
#define INF_EV_PROGRESS 1u          /**< The prompt is being computed, n_done of n_total tokens. */
#define INF_EV_TEXT 2u              /**< Text, in whole UTF-8 characters. */
#define INF_EV_THINKING 3u          /**< With messages_json: what the model tells itself before it answers, in whole
                                         UTF-8 characters. */
#define INF_EV_TOOL_CALL 4u         /**< With messages_json and tools_json: text is one call,
                                         `{"id":"..","name":"..","arguments":{..}}`, or, where the model wrote
                                         something that is no whole call, `{"error":"..","raw":".."}` with all of it. */
#define INF_EV_DONE 5u              /**< The end; finish says why. */

#define INF_FINISH_EOS 1u           /**< The model said that it is done. */
#define INF_FINISH_STOP 2u          /**< A stop string was about to appear. */
#define INF_FINISH_MAX_TOKENS 3u    /**< max_tokens tokens were generated. */
#define INF_FINISH_CONTEXT_FULL 4u  /**< The session has no room left. */
#define INF_FINISH_TOOL_CALL 5u     /**< The model said that it is done, and has called a tool: run it, and ask again
                                         with its result. */
#define INF_FINISH_CANCELLED 6u     /**< Cancelled by the host. */
#define INF_FINISH_ERROR 7u         /**< Failed; status and error_text say why. */

/** One running request. One reader; cancel and free from any thread. */
typedef struct inf_generation inf_generation;

/** What a host asks of a generation. Zero means default. */
typedef struct inf_generate_params {
  uint32_t struct_size;        /**< `sizeof(inf_generate_params)` */
  uint32_t max_tokens;         /**< Most tokens to generate. 0 = until the context is full. */
  const char *text;            /**< UTF-8 that is appended to the session and continued. May be empty if the session
                                    is not. What looks like a control token in it stays text. */
  size_t text_len;             /**< Bytes of text, or `INF_NUL`. */
  const char *messages_json;   /**< Instead of text: a whole conversation, `[{"role":"user","content":"Hello!"},
                                    ...]`, in the shape of OpenAI's API, as `inf_chat_render` takes it. Afterwards
                                    the session holds it and nothing else. What it holds of it already, from earlier
                                    turns, is kept, and only the rest is computed. NULL = none. */
  size_t messages_len;         /**< Bytes of messages_json, or `INF_NUL`. */
  const char *tools_json;      /**< With messages_json: the tools that the model may call, as there. NULL = none. */
  size_t tools_len;            /**< Bytes of tools_json, or `INF_NUL`. */
  const char *options_json;    /**< NULL, or a JSON object. With text or messages_json: response_format, what the
                                    answer must match: `{"type":"json_schema","json_schema":{"schema":{..}}}`,
                                    `{"type":"json_object"}`, `{"type":"json"}` (any value),
                                    `{"type":"regex","regex":".."}`, `{"type":"gbnf","grammar":".."}`,
                                    `{"type":"lark","grammar":".."}`, or `{"type":"text"}`, which is anything;
                                    `inf_sampler_set_constraint` says more. With messages_json also tool_choice
                                    (`"none"`, `"auto"`, `"required"`,
                                    `{"type":"function","function":{"name":".."}}`; without it calls are free, and
                                    unchecked until they are complete), parallel_tool_calls (true), and options of
                                    the template as `inf_chat_render` takes them. */
  size_t options_len;          /**< Bytes of options_json, or `INF_NUL`. */
  const char *stop_json;       /**< `["\n\n", ...]`: texts that end the answer and are not part of it. NULL = none. */
  size_t stop_len;             /**< Bytes of stop_json, or `INF_NUL`. */
  const inf_sampler *sampler;  /**< Copied. NULL = the chain that the model recommends. */
  const inf_model *draft;      /**< A smaller model with the same vocabulary, of the same runtime, that guesses what
                                    comes next. It computes the text, too, with keys and values of its own; where it
                                    has no memory or context left, the generation goes on without it. Kept alive
                                    until the end. NULL = none. */
  uint32_t n_draft;            /**< Most tokens to guess ahead, 16 at most: by draft (0 = 8), or from repetitions in
                                    the session's own text, which is fast where an answer quotes or edits it (0 =
                                    none). Guesses are verified in one pass, so the same is said without them. */
  uint32_t queue_capacity;     /**< Events that are buffered before the worker pauses. 0 = 256. */
  inf_wake_fn wake;            /**< Optional: called when an empty queue gets an event. */
  void *wake_user;             /**< Handed to wake. */
  uint64_t wake_tag;           /**< Handed to wake. */
  uint32_t top_logprobs;       /**< Above 0: each event tells the probability of its tokens, and of so many of the
                                    likeliest ones in their place, 20 at most. 0 = none. */
  uint32_t reserved;           /**< 0. */
} inf_generate_params;

/** One message of a generation. */
typedef struct inf_event {
  uint32_t struct_size;       /**< `sizeof(inf_event)` */
  uint32_t type;              /**< `INF_EV_*` */
  uint32_t finish;            /**< With `INF_EV_DONE`: `INF_FINISH_*`. */
  inf_status status;          /**< With `INF_FINISH_ERROR`: why. `INF_OK` otherwise. */
  const char *text;           /**< With `INF_EV_TEXT` and `INF_EV_THINKING` whole UTF-8 characters, with
                                   `INF_EV_TOOL_CALL` JSON, with a NUL behind them; "" otherwise. Borrowed until the
                                   next `inf_generation_next` on this handle. */
  size_t text_len;            /**< Bytes of text. */
  const inf_token *tokens;    /**< The tokens behind text; may be empty. Borrowed as text is. */
  size_t n_tokens;            /**< Entries of tokens. */
  const char *error_text;     /**< With `INF_FINISH_ERROR`: the sentence, with a NUL behind it; "" otherwise.
                                   Borrowed as text is. */
  size_t error_len;           /**< Bytes of error_text. */
  uint32_t n_done;            /**< Prompt tokens computed ... */
  uint32_t n_total;           /**< ... of these. */
  uint32_t prompt_tokens;     /**< Tokens of the prompt that this generation computes: what it added, and what was
                                   queued before it. */
  uint32_t cached_tokens;     /**< Tokens that the session had computed already. */
  uint32_t output_tokens;     /**< Tokens generated. */
  uint32_t reserved;          /**< 0. */
  float prefill_ms;           /**< Wall time until the first token, in milliseconds. */
  float decode_ms;            /**< Wall time after the first token, in milliseconds. */
  const char *logprobs_json;  /**< If probabilities were asked for: one object per entry of tokens,
                                   `[{"token":"He","id":17,"logprob":-0.25,"bytes":[72,101],"top_logprobs":[..]}]`,
                                   before any stage of the sampler; a token that a constraint left no choice about
                                   has logprob 0. With a NUL behind it; "" otherwise. Borrowed as text is. */
  size_t logprobs_len;        /**< Bytes of logprobs_json. */
} inf_event;

/**
 * Starts a generation on s. Checks and copies the parameters; rendering, tokenising, compiling a constraint and
 * computing happen on threads of the library, and what fails there arrives as `INF_EV_DONE` with `INF_FINISH_ERROR`: a
 * template that refuses the chat (`INF_ERR_TEMPLATE`), a schema that does not compile (`INF_ERR_CONSTRAINT`; the
 * sentence has the byte offset), a constraint that allows nothing any more (`INF_ERR_DEAD_END`; what was said before it
 * stays).
 *
 * The session belongs to the generation (other calls answer `INF_ERR_BUSY`) until `INF_EV_DONE` is queued, or until it
 * is cancelled or freed. Afterwards the session holds the computed prompt and exactly the accepted tokens. All
 * generations of a model share its passes; a prompt beside streams of the same or a higher priority gets as many rows
 * of each as let its layers take at most twice the time that the streams alone would need, by what passes took before.
 *
 * The caller owns `*out` and gives it back with `inf_generation_free`. One thread at a time. Never blocks: where a
 * cancelled generation still ends on s, the new one begins behind it.
 *
 * - `INF_ERR_INVALID_ARGUMENT`: text is not UTF-8, messages, tools or options have another shape (the sentence names
 *   the place), stop_json is no array of strings, the sampler is for another vocabulary; nothing started.
 * - `INF_ERR_BUSY`: session or sampler in use; nothing started.
 * - `INF_ERR_FORMAT`: sampler is NULL, and the chain that the model's file recommends has impossible numbers; nothing
 *   started.
 * - `INF_ERR_OUT_OF_MEMORY`: no thread can be started; nothing started.
 *
 * Since 0.1.
 */
INF_API inf_status inf_generate_start(inf_session *s, const inf_generate_params *p, inf_generation **out,
    inf_error *err);

/**
 * Starts a generation from one JSON text: `inf_generate_start` without structs, for callers from other languages.
 *
 * request_json:
 * `{"messages":[..],"tools":[..],"options":{..},"sampling":{..},"stop":["\n\n"],"max_tokens":100,"n_draft":0,"response_format":{..},"tool_choice":"auto",
 * "parallel_tool_calls":true,"logprobs":false,"top_logprobs":0}`, or `"text":".."` instead of messages; all optional,
 * with the meaning of the fields of inf_generate_params and its options_json. sampling is what `inf_sampler_from_json`
 * takes. An unknown key is an error that names it.
 *
 * The caller owns `*out` and gives it back with `inf_generation_free`. One thread at a time. Never blocks: where a
 * cancelled generation still ends on s, the new one begins behind it.
 *
 * Statuses as `inf_generate_start`; where request_json is no JSON, `detail[0]` is the byte offset. Since 0.1.
 */
INF_API inf_status inf_generate_json(inf_session *s, const char *request_json, size_t len, inf_generation **out,
    inf_error *err);

/**
 * The next event. timeout_ms 0 polls: no wait, no lock shared with computation; above 0 waits so long;
 * `INF_WAIT_FOREVER` waits until there is one. Nothing ready in time is `INF_OK` with `INF_EV_NONE`. After
 * `INF_EV_DONE` it answers `INF_EV_DONE` again.
 *
 * out is the caller's, with struct_size set; what it points to is borrowed until the next call of this function on g,
 * or its free. One reader at a time. Blocks as long as asked.
 *
 * - `INF_ERR_CANCELLED`: g was freed during the wait.
 * - `INF_ERR_BUSY`: another thread reads g, or this is a wait inside a hook.
 *
 * Since 0.1.
 */
INF_API inf_status inf_generation_next(inf_generation *g, int32_t timeout_ms, inf_event *out, inf_error *err);

/**
 * Ends a generation, in its prefill too; `INF_EV_DONE` follows. It ends with the stage in flight, or, where others
 * share its forward pass and one before was given up for a cancel, with the pass. Calls on the session wait for that.
 * Dead handles are ignored.
 *
 * Any thread. Never blocks. Since 0.1.
 */
INF_API void inf_generation_cancel(inf_generation *g);

/**
 * Gives a generation back, and cancels it if it runs; a thread that waits for its events gets `INF_ERR_CANCELLED`. NULL
 * and dead handles are ignored.
 *
 * Any thread. Does not wait for the computation to end, but for a call of wake in progress, unless called inside a
 * hook: afterwards wake is not called any more. So do not hold a lock here that wake takes. Since 0.1.
 */
INF_API void inf_generation_free(inf_generation *g);
#ifdef __cplusplus
}
#endif

#endif /* INFERENCE_H */
