/* inference.h for cgo: structs that hold pointers are built here, on the C stack, so that no Go memory holds Go pointers that C sees. */
#ifndef BRIDGE_H
#define BRIDGE_H

#include "inference.h"

static inline inf_status bridge_runtime_create(uint32_t n_threads, uint32_t host_driven, int32_t thread_priority, uint64_t memory_limit, uint32_t spin_us,
                                               uint32_t log_level, const char *options, size_t options_len, inf_runtime **out, inf_error *err) {
  inf_runtime_params p = { 0 };
  p.struct_size = sizeof p;
  p.n_threads = n_threads, p.host_driven = host_driven, p.thread_priority = thread_priority, p.host_memory_limit = memory_limit, p.spin_us = spin_us, p.log_level = log_level;
  p.options_json = options, p.options_len = options_len;
  return inf_runtime_create(&p, out, err);
}

static inline inf_status bridge_session_create(inf_model *m, uint32_t n_ctx, uint32_t prefill_chunk, uint32_t flags, uint32_t overflow, uint32_t n_keep,
                                               int32_t priority, inf_session **out, inf_error *err) {
  inf_session_params p = { 0 };
  p.struct_size = sizeof p;
  p.n_ctx = n_ctx, p.prefill_chunk = prefill_chunk, p.flags = flags, p.overflow = overflow, p.n_keep = n_keep, p.priority = priority;
  return inf_session_create(m, &p, out, err);
}

/* A prompt, or where messages_len is not 0, a conversation. */
static inline inf_status bridge_generate_start(inf_session *s, const char *text, size_t text_len, const char *messages, size_t messages_len,
                                               const char *tools, size_t tools_len, const char *options, size_t options_len, const char *stop,
                                               size_t stop_len, uint32_t max_tokens, uint32_t n_draft, uint32_t queue_capacity, uint32_t top_logprobs,
                                               const inf_sampler *sampler, inf_generation **out, inf_error *err) {
  inf_generate_params p = { 0 };
  p.struct_size = sizeof p;
  p.text = text, p.text_len = text_len, p.max_tokens = max_tokens, p.n_draft = n_draft, p.queue_capacity = queue_capacity, p.sampler = sampler;
  p.top_logprobs = top_logprobs;
  if (messages_len) p.messages_json = messages, p.messages_len = messages_len;
  if (tools_len) p.tools_json = tools, p.tools_len = tools_len;
  if (options_len) p.options_json = options, p.options_len = options_len;
  if (stop_len) p.stop_json = stop, p.stop_len = stop_len;
  return inf_generate_start(s, &p, out, err);
}

static inline inf_status bridge_memory(const inf_runtime *rt, inf_memory *out, inf_error *err) {
  out->struct_size = sizeof *out;
  return inf_runtime_memory(rt, out, err);
}

static inline inf_status bridge_estimate(inf_runtime *rt, const char *path, uint32_t n_ctx, uint32_t kv_type, inf_plan *out, inf_error *err) {
  inf_source source = { 0 };
  source.struct_size = sizeof source, source.path = path;
  const inf_source *sources[] = { &source };
  inf_model_params p = { 0 };
  p.struct_size = sizeof p, p.n_sources = 1, p.sources = sources, p.n_ctx_hint = n_ctx, p.kv_type = kv_type;
  out->struct_size = sizeof *out;
  return inf_model_estimate(rt, &p, out, err);
}

static inline inf_status bridge_next(inf_generation *g, int32_t timeout_ms, inf_event *out, inf_error *err) {
  out->struct_size = sizeof *out;
  return inf_generation_next(g, timeout_ms, out, err);
}

static inline inf_status bridge_step(inf_session *s, inf_sampler *smp, uint32_t budget_us, uint32_t flags, inf_step *out, inf_error *err) {
  out->struct_size = sizeof *out;
  return inf_session_step(s, smp, budget_us, flags, out, err);
}

static inline inf_status bridge_model_info(const inf_model *m, inf_model_info *out, inf_error *err) {
  out->struct_size = sizeof *out;
  return inf_model_get_info(m, out, err);
}

static inline inf_status bridge_device(const inf_runtime *rt, uint32_t i, inf_device_info *out, inf_error *err) {
  out->struct_size = sizeof *out;
  return inf_device_get(rt, i, out, err);
}

#endif
