// libinference for C# and Unity.
//
//     using (var runtime = new Runtime())
//     using (var model = runtime.Load("model.gguf"))
//     using (var session = model.NewSession())
//         foreach (var e in session.Generate("Once upon a time", 64)) Console.Write(e.Text);
//
// Objects may be disposed in any order, from any thread, or left to the collector. What fails throws InferenceException. In a game nothing waits:
// Runtime.StartLoad and Load.Poll, Session.Ask and Generation.Poll once per frame. inference.h is the manual.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Inference
{
    public enum Status : uint
    {
        OK, InvalidArgument, InvalidHandle, Abi, Busy, BufferTooSmall, Io, Format, Unsupported, OutOfMemory, Budget, NoDevice, DeviceLost, ContextFull,
        Constraint, DeadEnd, Template, StateMismatch, Poisoned, Cancelled, Timeout, Internal, NotReady, Shutdown, Forked,
    }

    public enum EventType : uint { None, Progress, Text, Thinking, ToolCall, Done }

    public enum Finish : uint { None, Eos, Stop, MaxTokens, ContextFull, ToolCall, Cancelled, Error }

    public enum KvType : uint { Auto, F32, F16, Q8_0 }

    public enum Overflow : uint { Error, Shift, Stop }

    /// <summary>What a call reports: a status, a sentence, and two numbers that inference.h explains at the status.</summary>
    public sealed class InferenceException : Exception
    {
        public Status Status { get; }
        public long Detail0 { get; }
        public long Detail1 { get; }

        internal InferenceException(Status status, string message, long detail0 = 0, long detail1 = 0) : base(status + ": " + message)
        {
            Status = status;
            Detail0 = detail0;
            Detail1 = detail1;
        }
    }

    /// <summary>Calls, errors, and texts on their way between two memories.</summary>
    internal static class Call
    {
        [ThreadStatic] private static byte[] error;

        /// <summary>The inf_error of this thread.</summary>
        internal static byte[] Error => error ?? (error = new byte[Native.ErrorBytes]);

        internal static InferenceException Exception(Status status)
        {
            byte[] e = Error;
            return new InferenceException(status, Text(e, Native.ErrorMessage), BitConverter.ToInt64(e, 0), BitConverter.ToInt64(e, 8));
        }

        /// <summary>Throws what a call reports.</summary>
        internal static void Check(uint status)
        {
            if (status != 0) throw Exception((Status)status);
        }

        internal static byte[] Bytes(string text) => text == null ? null : Encoding.UTF8.GetBytes(text);

        /// <summary>UTF-8 with a NUL behind it.</summary>
        internal static byte[] Terminated(string text) => Encoding.UTF8.GetBytes(text + "\0");

        internal static UIntPtr Length(Array array) => new UIntPtr(array == null ? 0u : (uint)array.Length);

        /// <summary>The text in bytes from `start` to its NUL.</summary>
        internal static string Text(byte[] bytes, int start = 0)
        {
            int end = Array.IndexOf(bytes, (byte)0, start);
            return Encoding.UTF8.GetString(bytes, start, (end < 0 ? bytes.Length : end) - start);
        }

        internal static byte[] Copy(IntPtr from, UIntPtr length)
        {
            var bytes = new byte[(int)length];
            if (bytes.Length > 0) Marshal.Copy(from, bytes, 0, bytes.Length);
            return bytes;
        }

        internal static string Text(IntPtr terminated)
        {
            int n = 0;
            while (Marshal.ReadByte(terminated, n) != 0) n++;
            return Encoding.UTF8.GetString(Copy(terminated, new UIntPtr((uint)n)));
        }

        internal delegate uint Fill<T>(T[] buffer, UIntPtr capacity, out UIntPtr length);

        /// <summary>What a call writes into a buffer: at once if `guess` elements are enough, else once more.</summary>
        internal static T[] Buffered<T>(int guess, Fill<T> fill)
        {
            while (true)
            {
                var buffer = new T[guess];
                uint status = fill(buffer, new UIntPtr((uint)guess), out UIntPtr length);
                if ((Status)status == Status.BufferTooSmall)
                {
                    guess = (int)length + 1;
                    continue;
                }
                Check(status);
                Array.Resize(ref buffer, (int)length);
                return buffer;
            }
        }
    }

    /// <summary>Memory of arrays and texts that a struct points to, pinned until it is disposed.</summary>
    internal sealed class Pins : IDisposable
    {
        private readonly List<GCHandle> pinned = new List<GCHandle>();

        internal IntPtr Add(object array)
        {
            if (array == null) return IntPtr.Zero;
            GCHandle handle = GCHandle.Alloc(array, GCHandleType.Pinned);
            pinned.Add(handle);
            return handle.AddrOfPinnedObject();
        }

        public void Dispose()
        {
            foreach (GCHandle handle in pinned) handle.Free();
            pinned.Clear();
        }
    }

    /// <summary>Owns one handle. It is freed once, not during a call that uses it.</summary>
    public abstract class Handle : SafeHandle
    {
        internal Handle() : base(IntPtr.Zero, true) { }

        internal Handle(IntPtr made) : this() => SetHandle(made);

        public override bool IsInvalid => handle == IntPtr.Zero;
    }

    /// <summary>What a runtime holds, in bytes.</summary>
    public struct Memory
    {
        public ulong Host, HostPeak, HostLeft;
    }

    /// <summary>One device of this machine; where it is not usable, Reason says why.</summary>
    public struct Device
    {
        public string Id, Name, Reason;
        public bool Usable;
        public ulong MemoryTotal, MemoryFree;
    }

    /// <summary>What a model will need, in bytes.</summary>
    public struct Plan
    {
        public bool Fits;
        public uint Layers, Context;
        public ulong Weights, KvPerToken, Kv, Scratch, Host;
    }

    /// <summary>What a runtime is made with; zero means default.</summary>
    public sealed class RuntimeOptions
    {
        public uint Threads, SpinMicroseconds, LogLevel;
        public bool HostDriven;
        public int ThreadPriority;
        public ulong CpuMask, HostMemoryLimit;
        public string Json;
    }

    /// <summary>Threads, devices, log. Any number may exist.</summary>
    public sealed class Runtime : Handle
    {
        public Runtime(RuntimeOptions options = null)
        {
            RuntimeOptions o = options ?? new RuntimeOptions();
            byte[] json = Call.Bytes(o.Json);
            using (var pins = new Pins())
            {
                var p = new inf_runtime_params
                {
                    struct_size = (uint)Marshal.SizeOf(typeof(inf_runtime_params)), n_threads = o.Threads, host_driven = o.HostDriven ? 1u : 0u,
                    thread_priority = o.ThreadPriority, cpu_mask = o.CpuMask, host_memory_limit = o.HostMemoryLimit, spin_us = o.SpinMicroseconds,
                    log_level = o.LogLevel, options_json = pins.Add(json), options_len = Call.Length(json),
                };
                Call.Check(Native.inf_runtime_create(ref p, out IntPtr made, Call.Error));
                SetHandle(made);
            }
        }

        /// <summary>The version of the library.</summary>
        public static string Version => Call.Text(Native.inf_version());

        /// <summary>What the library can do, as JSON.</summary>
        public static string BuildInfoJson => Call.Text(Native.inf_build_info_json());

        /// <summary>The name that inference.h has for a status.</summary>
        public static string NameOf(Status status) => Call.Text(Native.inf_status_name((uint)status));

        protected override bool ReleaseHandle()
        {
            Native.inf_runtime_free(handle);
            return true;
        }

        /// <summary>Cancels what runs and joins the threads; -1 waits until it is done.</summary>
        public void Shutdown(int timeoutMs = -1) => Call.Check(Native.inf_runtime_shutdown(this, timeoutMs, Call.Error));

        /// <summary>In a host-driven runtime: works for about that many microseconds; true if there is more to do.</summary>
        public bool Pump(uint budgetMicroseconds)
        {
            Call.Check(Native.inf_runtime_pump(this, budgetMicroseconds, out uint more, Call.Error));
            return more != 0;
        }

        /// <summary>The oldest log line that waits, or null.</summary>
        public string NextLog(out uint level)
        {
            uint found = 0;
            byte[] line = Call.Buffered(512, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_runtime_next_log(this, buffer, capacity, out length, out found, Call.Error));
            level = found;
            return found == 0 ? null : Encoding.UTF8.GetString(line);
        }

        public Memory Memory
        {
            get
            {
                var m = new inf_memory { struct_size = (uint)Marshal.SizeOf(typeof(inf_memory)) };
                Call.Check(Native.inf_runtime_memory(this, ref m, Call.Error));
                return new Memory { Host = m.host, HostPeak = m.host_peak, HostLeft = m.host_left };
            }
        }

        public List<Device> Devices
        {
            get
            {
                var all = new List<Device>();
                for (uint i = 0, n = Native.inf_device_count(this); i < n; i++)
                {
                    var d = new inf_device_info { struct_size = (uint)Marshal.SizeOf(typeof(inf_device_info)) };
                    Call.Check(Native.inf_device_get(this, i, ref d, Call.Error));
                    all.Add(new Device
                    {
                        Id = Call.Text(d.id), Name = Call.Text(d.name), Reason = Call.Text(d.reason), Usable = d.usable != 0,
                        MemoryTotal = d.memory_total, MemoryFree = d.memory_free,
                    });
                }
                return all;
            }
        }

        /// <summary>What the model at path will need, from the header of its file.</summary>
        public Plan Estimate(string path, uint context = 0, KvType kv = KvType.Auto)
        {
            using (var pins = new Pins())
            {
                var source = new inf_source { struct_size = (uint)Marshal.SizeOf(typeof(inf_source)), path = pins.Add(Call.Terminated(path)) };
                var sources = new[] { pins.Add(source) };
                var p = new inf_model_params
                {
                    struct_size = (uint)Marshal.SizeOf(typeof(inf_model_params)), n_sources = 1, sources = pins.Add(sources), n_ctx_hint = context, kv_type = (uint)kv,
                };
                var plan = new inf_plan { struct_size = (uint)Marshal.SizeOf(typeof(inf_plan)) };
                Call.Check(Native.inf_model_estimate(this, ref p, ref plan, Call.Error));
                return new Plan
                {
                    Fits = plan.fits != 0, Layers = plan.n_layers, Context = plan.n_ctx, Weights = plan.weights_bytes, KvPerToken = plan.kv_bytes_per_token,
                    Kv = plan.kv_bytes, Scratch = plan.scratch_bytes, Host = plan.host_bytes,
                };
            }
        }

        /// <summary>Starts to load; never waits. options: the JSON of inf_load_start_path.</summary>
        public Load StartLoad(string path, string optionsJson = null) => new Load(this, path, optionsJson);

        /// <summary>Loads; waits until it is done.</summary>
        public Model Load(string path, string optionsJson = null)
        {
            using (Load load = StartLoad(path, optionsJson)) return load.Wait();
        }
    }

    /// <summary>A model load in the background.</summary>
    public sealed class Load : Handle
    {
        /// <summary>How much has been read, 0 to 1.</summary>
        public float Progress { get; private set; }

        internal Load(Runtime runtime, string path, string optionsJson)
        {
            byte[] name = Call.Bytes(path), options = Call.Bytes(optionsJson);
            Call.Check(Native.inf_load_start_path(runtime, name, Call.Length(name), options, Call.Length(options), out IntPtr made, Call.Error));
            SetHandle(made);
        }

        protected override bool ReleaseHandle()
        {
            Native.inf_load_free(handle);
            return true;
        }

        /// <summary>The model, once, when it is loaded; null until then. Waits at most so long: 0 for once per frame.</summary>
        public Model Poll(int timeoutMs = 0)
        {
            float progress = Progress;
            uint status = Native.inf_load_wait(this, timeoutMs, ref progress, out IntPtr made, Call.Error);
            Progress = progress;
            if ((Status)status == Status.Timeout) return null;
            Call.Check(status);
            return new Model(made);
        }

        public Model Wait() => Poll(-1);

        public void Cancel() => Native.inf_load_cancel(this);
    }

    /// <summary>Facts about a model.</summary>
    public struct ModelInfo
    {
        public uint Vocabulary, ContextMax, Width, Layers;
        public bool CanGenerate;
        public int Bos, Eos;
        public ulong Parameters;
        public string Architecture, Quantization, Device;
    }

    [Flags]
    public enum TokenFlags : uint { None, AddSpecial = 1, ParseSpecial = 2, Continues = 4 }

    /// <summary>What a session is made with; zero means default.</summary>
    public sealed class SessionOptions
    {
        public uint Context, PrefillChunk, Keep;
        public bool NoSharedPrefix;
        public Overflow Overflow;
    }

    /// <summary>Weights and a tokenizer, shared by any number of sessions. Any thread.</summary>
    public sealed class Model : Handle
    {
        internal Model(IntPtr made) : base(made) { }

        protected override bool ReleaseHandle()
        {
            Native.inf_model_free(handle);
            return true;
        }

        public ModelInfo Info
        {
            get
            {
                var i = new inf_model_info { struct_size = (uint)Marshal.SizeOf(typeof(inf_model_info)) };
                Call.Check(Native.inf_model_get_info(this, ref i, Call.Error));
                return new ModelInfo
                {
                    Vocabulary = i.n_vocab, ContextMax = i.n_ctx_max, Width = i.n_embd, Layers = i.n_layers, CanGenerate = (i.capabilities & 1) != 0,
                    Bos = i.bos, Eos = i.eos, Parameters = i.n_params, Architecture = Call.Text(i.architecture), Quantization = Call.Text(i.quantization),
                    Device = Call.Text(i.device),
                };
            }
        }

        public string Metadata(string key)
        {
            byte[] name = Call.Terminated(key);
            return Encoding.UTF8.GetString(Call.Buffered(128, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_model_metadata(this, name, buffer, capacity, out length, Call.Error)));
        }

        public bool EndsGeneration(int token) => Native.inf_model_is_eog(this, token) != 0;

        public int[] Tokenize(string text, TokenFlags flags = TokenFlags.AddSpecial)
        {
            byte[] bytes = Call.Bytes(text);
            return Call.Buffered(bytes.Length + 8, (int[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_tokenize(this, bytes, Call.Length(bytes), (uint)flags, buffer, capacity, out length, Call.Error));
        }

        /// <summary>Bytes, because tokens may end inside a character.</summary>
        public byte[] Detokenize(int[] tokens, TokenFlags flags = TokenFlags.None) =>
            Call.Buffered(tokens.Length * 6 + 16, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_detokenize(this, tokens, Call.Length(tokens), (uint)flags, buffer, capacity, out length, Call.Error));

        public byte[] TokenBytes(int token) => Call.Buffered(64, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
            Native.inf_token_bytes(this, token, buffer, capacity, out length, Call.Error));

        /// <summary>The prompt that a chat becomes.</summary>
        public string RenderChat(string messagesJson, string toolsJson = null, string optionsJson = null)
        {
            byte[] messages = Call.Bytes(messagesJson), tools = Call.Bytes(toolsJson), options = Call.Bytes(optionsJson);
            return Encoding.UTF8.GetString(Call.Buffered(messages.Length * 2 + 512, (byte[] buffer, UIntPtr capacity, out UIntPtr length) =>
                Native.inf_chat_render(this, messages, Call.Length(messages), tools, Call.Length(tools), options, Call.Length(options), buffer, capacity,
                    out length, Call.Error)));
        }

        /// <summary>An empty chain, which is greedy, or one from the JSON of inf_sampler_from_json.</summary>
        public Sampler NewSampler(string json = null)
        {
            IntPtr made;
            byte[] text = Call.Bytes(json);
            Call.Check(text == null ? Native.inf_sampler_create(this, out made, Call.Error)
                : Native.inf_sampler_from_json(this, text, Call.Length(text), out made, Call.Error));
            return new Sampler(made);
        }

        public Session NewSession(SessionOptions options = null)
        {
            SessionOptions o = options ?? new SessionOptions();
            var p = new inf_session_params
            {
                struct_size = (uint)Marshal.SizeOf(typeof(inf_session_params)), n_ctx = o.Context, prefill_chunk = o.PrefillChunk,
                flags = o.NoSharedPrefix ? 1u : 0u, overflow = (uint)o.Overflow, n_keep = o.Keep,
            };
            Call.Check(Native.inf_session_create(this, ref p, out IntPtr made, Call.Error));
            return new Session(made);
        }
    }

    /// <summary>A chain of stages that chooses tokens. One thread at a time. Stages work in the order in which they are added.</summary>
    public sealed class Sampler : Handle
    {
        internal Sampler(IntPtr made) : base(made) { }

        protected override bool ReleaseHandle()
        {
            Native.inf_sampler_free(handle);
            return true;
        }

        private Sampler Then(uint status)
        {
            Call.Check(status);
            return this;
        }

        public Sampler Clone()
        {
            Call.Check(Native.inf_sampler_clone(this, out IntPtr made, Call.Error));
            return new Sampler(made);
        }

        public Sampler Reset() => Then(Native.inf_sampler_reset(this, Call.Error));
        public Sampler Seed(ulong seed) => Then(Native.inf_sampler_set_seed(this, seed, Call.Error));
        public Sampler Temperature(float t) => Then(Native.inf_sampler_add_temperature(this, t, Call.Error));
        public Sampler TopK(uint k) => Then(Native.inf_sampler_add_top_k(this, k, Call.Error));
        public Sampler TopP(float p) => Then(Native.inf_sampler_add_top_p(this, p, Call.Error));
        public Sampler MinP(float p) => Then(Native.inf_sampler_add_min_p(this, p, Call.Error));
        public Sampler TypicalP(float p) => Then(Native.inf_sampler_add_typical_p(this, p, Call.Error));
        public Sampler TopNSigma(float n) => Then(Native.inf_sampler_add_top_n_sigma(this, n, Call.Error));
        public Sampler Xtc(float probability, float threshold) => Then(Native.inf_sampler_add_xtc(this, probability, threshold, Call.Error));
        public Sampler Mirostat(float tau, float eta) => Then(Native.inf_sampler_add_mirostat(this, tau, eta, Call.Error));

        public Sampler DynamicTemperature(float min, float max, float exponent) =>
            Then(Native.inf_sampler_add_dynamic_temperature(this, min, max, exponent, Call.Error));

        public Sampler Penalties(uint lastN, float repeat, float frequency = 0, float presence = 0) =>
            Then(Native.inf_sampler_add_penalties(this, lastN, repeat, frequency, presence, Call.Error));

        public Sampler Dry(float multiplier, float growth, uint allowedLength, uint lastN, string breakersJson = null)
        {
            byte[] breakers = Call.Bytes(breakersJson);
            return Then(Native.inf_sampler_add_dry(this, multiplier, growth, allowedLength, lastN, breakers, Call.Length(breakers), Call.Error));
        }

        public Sampler LogitBias(int[] tokens, float[] bias)
        {
            if (tokens.Length != bias.Length) throw new ArgumentException("as many numbers as tokens");
            return Then(Native.inf_sampler_add_logit_bias(this, tokens, bias, Call.Length(tokens), Call.Error));
        }

        /// <summary>Chooses a token and accepts it.</summary>
        public int Pick(float[] logits)
        {
            Call.Check(Native.inf_sampler_pick(this, logits, Call.Length(logits), out int token, Call.Error));
            return token;
        }

        public Sampler Accept(int token) => Then(Native.inf_sampler_accept(this, token, Call.Error));
    }

    public enum StepState : uint { Pending, Token, End }

    /// <summary>What a step did.</summary>
    public struct Step
    {
        public StepState State;
        public int Token;
        public uint PrefillDone, PrefillTotal;
        public float LogProbability;
    }

    /// <summary>What is asked of a generation; zero means default.</summary>
    public sealed class Request
    {
        public string Text, MessagesJson, ToolsJson, OptionsJson, StopJson;
        public uint MaxTokens, Draft, QueueCapacity;
        public Sampler Sampler;
    }

    /// <summary>One sequence of tokens. One thread at a time; a clash throws Busy.</summary>
    public sealed class Session : Handle
    {
        internal Session(IntPtr made) : base(made) { }

        protected override bool ReleaseHandle()
        {
            Native.inf_session_free(handle);
            return true;
        }

        /// <summary>How many tokens it holds.</summary>
        public int Count => (int)Native.inf_session_n_tokens(this);

        public Session Fork()
        {
            Call.Check(Native.inf_session_fork(this, out IntPtr made, Call.Error));
            return new Session(made);
        }

        public void Truncate(uint tokens) => Call.Check(Native.inf_session_truncate(this, tokens, Call.Error));

        public void Append(int[] tokens) => Call.Check(Native.inf_session_append(this, tokens, Call.Length(tokens), Call.Error));

        /// <summary>Computes what is queued; with a sampler it then chooses the next token. 0 microseconds: until it is done.</summary>
        public Step Step(Sampler sampler = null, uint budgetMicroseconds = 0, bool ignoreEnd = false)
        {
            var s = new inf_step { struct_size = (uint)Marshal.SizeOf(typeof(inf_step)) };
            IntPtr chain = sampler == null ? IntPtr.Zero : sampler.DangerousGetHandle();
            Call.Check(Native.inf_session_step(this, chain, budgetMicroseconds, ignoreEnd ? 1u : 0u, ref s, Call.Error));
            GC.KeepAlive(sampler);
            return new Step { State = (StepState)s.state, Token = s.token, PrefillDone = s.prefill_done, PrefillTotal = s.prefill_total, LogProbability = s.logprob };
        }

        /// <summary>A copy of the logits of the last position.</summary>
        public float[] Logits()
        {
            Call.Check(Native.inf_session_logits(this, out IntPtr logits, out UIntPtr n, Call.Error));
            var copy = new float[(int)n];
            Marshal.Copy(logits, copy, 0, copy.Length);
            return copy;
        }

        public byte[] Save()
        {
            Call.Check(Native.inf_session_save(this, null, UIntPtr.Zero, out UIntPtr length, Call.Error));
            return Call.Buffered((int)length, (byte[] buffer, UIntPtr capacity, out UIntPtr n) => Native.inf_session_save(this, buffer, capacity, out n, Call.Error));
        }

        public void Restore(byte[] state) => Call.Check(Native.inf_session_restore(this, state, Call.Length(state), Call.Error));
        public void SaveFile(string path) => Call.Check(Native.inf_session_save_file(this, Call.Terminated(path), Call.Error));
        public void RestoreFile(string path) => Call.Check(Native.inf_session_restore_file(this, Call.Terminated(path), Call.Error));

        /// <summary>Starts to continue a text.</summary>
        public Generation Generate(string text, uint maxTokens = 0) => Start(new Request { Text = text, MaxTokens = maxTokens });

        /// <summary>Starts to answer a chat, messages in the shape of OpenAI's API.</summary>
        public Generation Chat(string messagesJson, uint maxTokens = 0) => Start(new Request { MessagesJson = messagesJson, MaxTokens = maxTokens });

        public Generation Start(Request r)
        {
            byte[] text = Call.Bytes(r.Text), messages = Call.Bytes(r.MessagesJson), tools = Call.Bytes(r.ToolsJson), options = Call.Bytes(r.OptionsJson);
            byte[] stop = Call.Bytes(r.StopJson);
            using (var pins = new Pins())
            {
                var p = new inf_generate_params
                {
                    struct_size = (uint)Marshal.SizeOf(typeof(inf_generate_params)), max_tokens = r.MaxTokens, n_draft = r.Draft, queue_capacity = r.QueueCapacity,
                    text = pins.Add(text), text_len = Call.Length(text), messages_json = pins.Add(messages), messages_len = Call.Length(messages),
                    tools_json = pins.Add(tools), tools_len = Call.Length(tools), options_json = pins.Add(options), options_len = Call.Length(options),
                    stop_json = pins.Add(stop), stop_len = Call.Length(stop), sampler = r.Sampler == null ? IntPtr.Zero : r.Sampler.DangerousGetHandle(),
                };
                Call.Check(Native.inf_generate_start(this, ref p, out IntPtr made, Call.Error));
                GC.KeepAlive(r.Sampler);
                return new Generation(made);
            }
        }

        /// <summary>Starts what a JSON text asks for, as inf_generate_json says.</summary>
        public Generation StartJson(string requestJson)
        {
            byte[] request = Call.Bytes(requestJson);
            Call.Check(Native.inf_generate_json(this, request, Call.Length(request), out IntPtr made, Call.Error));
            return new Generation(made);
        }
    }

    /// <summary>One message of a generation.</summary>
    public struct Event
    {
        public EventType Type;
        public Finish Finish;
        /// <summary>With Finish.Error: why.</summary>
        public Status Status;
        /// <summary>Whole characters; a tool call's JSON; with Finish.Error the sentence.</summary>
        public string Text;
        public int[] Tokens;
        public uint PromptDone, PromptTotal, PromptTokens, CachedTokens, OutputTokens;
        public float PrefillMs, DecodeMs;
    }

    /// <summary>A request that runs in the background: poll it once per frame, or walk through its events. One reader.</summary>
    public sealed class Generation : Handle, IEnumerable<Event>
    {
        private static readonly int[] NoTokens = new int[0];
        private static readonly uint EventBytes = (uint)Marshal.SizeOf(typeof(inf_event));

        internal Generation(IntPtr made) : base(made) { }

        protected override bool ReleaseHandle()
        {
            Native.inf_generation_free(handle);
            return true;
        }

        /// <summary>Ends it; Done follows. Any thread.</summary>
        public void Cancel() => Native.inf_generation_cancel(this);

        /// <summary>The next event: EventType.None if nothing is ready in time. 0 never waits, -1 waits for one.</summary>
        public Event Poll(int timeoutMs = 0)
        {
            var e = new inf_event { struct_size = EventBytes };
            Call.Check(Native.inf_generation_next(this, timeoutMs, ref e, Call.Error));
            if ((EventType)e.type == EventType.None) return default(Event);
            bool failed = (Finish)e.finish == Finish.Error;
            var tokens = e.n_tokens == UIntPtr.Zero ? NoTokens : new int[(int)e.n_tokens];
            if (tokens.Length > 0) Marshal.Copy(e.tokens, tokens, 0, tokens.Length);
            return new Event
            {
                Type = (EventType)e.type, Finish = (Finish)e.finish, Status = (Status)e.status, Tokens = tokens,
                Text = Encoding.UTF8.GetString(failed ? Call.Copy(e.error_text, e.error_len) : Call.Copy(e.text, e.text_len)),
                PromptDone = e.n_done, PromptTotal = e.n_total, PromptTokens = e.prompt_tokens, CachedTokens = e.cached_tokens, OutputTokens = e.output_tokens,
                PrefillMs = e.prefill_ms, DecodeMs = e.decode_ms,
            };
        }

        /// <summary>The events to the end, which is among them. A generation that fails throws; leaving the loop early cancels.</summary>
        public IEnumerator<Event> GetEnumerator()
        {
            try
            {
                while (true)
                {
                    Event e = Poll(-1);
                    if (e.Finish == Finish.Error) throw new InferenceException(e.Status, e.Text);
                    yield return e;
                    if (e.Type == EventType.Done) yield break;
                }
            }
            finally
            {
                if (!IsClosed) Cancel();
            }
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
