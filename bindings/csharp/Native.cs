// libinference for C# and Unity: the functions and structs of inference.h as they are. Programs use the classes beside it.
//
// inference.h is the manual. A test compares every signature, field and number here with it. No callbacks: what happens is polled.
using System;
using System.Runtime.InteropServices;

namespace Inference
{
    internal static class Native
    {
#if UNITY_IOS && !UNITY_EDITOR
        private const string Library = "__Internal";
#else
        private const string Library = "inference";
#endif

        // An inf_error is an array of this many bytes: it is pinned during a call, and never copied.
        internal const int ErrorBytes = 512, ErrorStatus = 16, ErrorMessage = 24;

        internal static readonly UIntPtr Nul = UIntPtr.Size == 8 ? new UIntPtr(ulong.MaxValue) : new UIntPtr(uint.MaxValue);

        [DllImport(Library)] internal static extern IntPtr inf_status_name(uint status);
        [DllImport(Library)] internal static extern IntPtr inf_version();
        [DllImport(Library)] internal static extern IntPtr inf_build_info_json();
        [DllImport(Library)] internal static extern uint inf_runtime_create(ref inf_runtime_params p, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern void inf_runtime_free(IntPtr rt);
        [DllImport(Library)] internal static extern uint inf_runtime_shutdown(SafeHandle rt, int timeout_ms, byte[] err);
        [DllImport(Library)] internal static extern uint inf_runtime_pump(SafeHandle rt, uint budget_us, out uint more, byte[] err);
        [DllImport(Library)] internal static extern uint inf_runtime_next_log(SafeHandle rt, byte[] buf, UIntPtr cap, out UIntPtr len, out uint level, byte[] err);
        [DllImport(Library)] internal static extern uint inf_runtime_memory(SafeHandle rt, ref inf_memory made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_device_count(SafeHandle rt);
        [DllImport(Library)] internal static extern uint inf_device_get(SafeHandle rt, uint i, ref inf_device_info made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_model_estimate(SafeHandle rt, ref inf_model_params p, ref inf_plan made, byte[] err);
        [DllImport(Library)] internal static extern void inf_model_free(IntPtr m);
        [DllImport(Library)] internal static extern uint inf_model_get_info(SafeHandle m, ref inf_model_info made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_model_save_gguf(SafeHandle m, byte[] path, byte[] err);
        [DllImport(Library)] internal static extern uint inf_model_metadata(SafeHandle m, byte[] key, byte[] buf, UIntPtr cap, out UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_model_is_eog(SafeHandle m, int t);
        [DllImport(Library)] internal static extern uint inf_load_start_path(SafeHandle rt, byte[] path, UIntPtr path_len, byte[] options_json, UIntPtr options_len, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_load_wait(SafeHandle ld, int timeout_ms, ref float progress, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern void inf_load_cancel(SafeHandle ld);
        [DllImport(Library)] internal static extern void inf_load_free(IntPtr ld);
        [DllImport(Library)] internal static extern uint inf_tokenize(SafeHandle m, byte[] text, UIntPtr len, uint flags, int[] tokens, UIntPtr cap, out UIntPtr n, byte[] err);
        [DllImport(Library)] internal static extern uint inf_detokenize(SafeHandle m, int[] tokens, UIntPtr n, uint flags, byte[] buf, UIntPtr cap, out UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_token_bytes(SafeHandle m, int t, byte[] buf, UIntPtr cap, out UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_chat_render(SafeHandle m, byte[] messages_json, UIntPtr messages_len, byte[] tools_json, UIntPtr tools_len, byte[] options_json, UIntPtr options_len, byte[] buf, UIntPtr cap, out UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_create(SafeHandle m, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_from_json(SafeHandle m, byte[] json, UIntPtr len, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_clone(SafeHandle s, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern void inf_sampler_free(IntPtr s);
        [DllImport(Library)] internal static extern uint inf_sampler_reset(SafeHandle s, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_set_seed(SafeHandle s, ulong seed, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_temperature(SafeHandle s, float t, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_top_k(SafeHandle s, uint k, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_top_p(SafeHandle s, float p, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_min_p(SafeHandle s, float p, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_penalties(SafeHandle s, uint last_n, float repeat, float frequency, float presence, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_dynamic_temperature(SafeHandle s, float min, float max, float exponent, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_typical_p(SafeHandle s, float p, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_top_n_sigma(SafeHandle s, float n, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_xtc(SafeHandle s, float probability, float threshold, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_dry(SafeHandle s, float multiplier, float @base, uint allowed_len, uint last_n, byte[] breakers_json, UIntPtr breakers_len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_mirostat(SafeHandle s, float tau, float eta, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_add_logit_bias(SafeHandle s, int[] tokens, float[] bias, UIntPtr n, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_set_constraint(SafeHandle s, uint kind, byte[] src, UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_pick(SafeHandle s, float[] logits, UIntPtr n, out int made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_sampler_accept(SafeHandle s, int t, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_create(SafeHandle m, ref inf_session_params p, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern void inf_session_free(IntPtr s);
        [DllImport(Library)] internal static extern uint inf_session_fork(SafeHandle s, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_truncate(SafeHandle s, uint n_tokens, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_n_tokens(SafeHandle s);
        [DllImport(Library)] internal static extern uint inf_session_append(SafeHandle s, int[] tokens, UIntPtr n, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_step(SafeHandle s, IntPtr smp, uint budget_us, uint flags, ref inf_step made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_logits(SafeHandle s, out IntPtr logits, out UIntPtr n, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_save(SafeHandle s, byte[] buf, UIntPtr cap, out UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_restore(SafeHandle s, byte[] buf, UIntPtr len, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_save_file(SafeHandle s, byte[] path, byte[] err);
        [DllImport(Library)] internal static extern uint inf_session_restore_file(SafeHandle s, byte[] path, byte[] err);
        [DllImport(Library)] internal static extern uint inf_generate_start(SafeHandle s, ref inf_generate_params p, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_generate_json(SafeHandle s, byte[] request_json, UIntPtr len, out IntPtr made, byte[] err);
        [DllImport(Library)] internal static extern uint inf_generation_next(SafeHandle g, int timeout_ms, ref inf_event made, byte[] err);
        [DllImport(Library)] internal static extern void inf_generation_cancel(SafeHandle g);
        [DllImport(Library)] internal static extern void inf_generation_free(IntPtr g);
    }

    // Zero means default; struct_size is set by whoever makes one.
    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_runtime_params
    {
        internal uint struct_size, n_threads, host_driven;
        internal int thread_priority;
        internal ulong cpu_mask, cpu_mask_1, cpu_mask_2, cpu_mask_3;
        internal ulong host_memory_limit;
        internal uint spin_us, log_level;
        internal IntPtr log, log_user, thread, thread_user, options_json;
        internal UIntPtr options_len;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_memory
    {
        internal uint struct_size, reserved;
        internal ulong host, host_peak, host_left;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_device_info
    {
        internal uint struct_size, kind, index, usable;
        internal ulong memory_total, memory_free;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 32)] internal byte[] id;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 96)] internal byte[] name;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 128)] internal byte[] reason;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_source
    {
        internal uint struct_size, kind;
        internal IntPtr name, path, data, native;
        internal ulong size, offset;
        internal IntPtr read_at, release, user, reserved_pointer;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_model_params
    {
        internal uint struct_size, n_sources;
        internal IntPtr sources, device;
        internal uint n_ctx_hint, kv_type;
        internal IntPtr wake, wake_user;
        internal ulong wake_tag;
        internal IntPtr options_json;
        internal UIntPtr options_len;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_plan
    {
        internal uint struct_size, fits, n_layers, n_ctx;
        internal ulong weights_bytes, kv_bytes_per_token, kv_bytes, scratch_bytes, host_bytes, device_bytes;
        internal uint n_layers_on_device, reserved;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 32)] internal byte[] device;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_model_info
    {
        internal uint struct_size, n_vocab, n_ctx_max, n_embd, n_layers, capabilities;
        internal int bos, eos;
        internal ulong n_params;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 32)] internal byte[] architecture;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 32)] internal byte[] quantization;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 32)] internal byte[] device;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_session_params
    {
        internal uint struct_size, n_ctx, prefill_chunk, flags, overflow, n_keep;
        internal int priority;
        internal uint reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_step
    {
        internal uint struct_size, state;
        internal int token;
        internal uint prefill_done, prefill_total;
        internal float logprob;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_generate_params
    {
        internal uint struct_size, max_tokens;
        internal IntPtr text;
        internal UIntPtr text_len;
        internal IntPtr messages_json;
        internal UIntPtr messages_len;
        internal IntPtr tools_json;
        internal UIntPtr tools_len;
        internal IntPtr options_json;
        internal UIntPtr options_len;
        internal IntPtr stop_json;
        internal UIntPtr stop_len;
        internal IntPtr sampler, draft;
        internal uint n_draft, queue_capacity;
        internal IntPtr wake, wake_user;
        internal ulong wake_tag;
        internal uint top_logprobs, reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct inf_event
    {
        internal uint struct_size, type, finish, status;
        internal IntPtr text;
        internal UIntPtr text_len;
        internal IntPtr tokens;
        internal UIntPtr n_tokens;
        internal IntPtr error_text;
        internal UIntPtr error_len;
        internal uint n_done, n_total, prompt_tokens, cached_tokens, output_tokens, reserved;
        internal float prefill_ms, decode_ms;
        internal IntPtr logprobs_json;
        internal UIntPtr logprobs_len;
    }
}
