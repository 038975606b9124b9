// Loads and models.
using System;
using System.Runtime.InteropServices;
using System.Text;

namespace Inference
{
    public enum Overflow : uint { Error, Shift, Stop }

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
        /// <summary>Higher is sooner, beside other sessions of the model.</summary>
        public int Priority;
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

        /// <summary>Writes the model as it is held, quantised or not, as a GGUF file.</summary>
        public void SaveGguf(string path) => Call.Check(Native.inf_model_save_gguf(this, Call.Terminated(path), Call.Error));

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
                flags = o.NoSharedPrefix ? 1u : 0u, overflow = (uint)o.Overflow, n_keep = o.Keep, priority = o.Priority,
            };
            Call.Check(Native.inf_session_create(this, ref p, out IntPtr made, Call.Error));
            return new Session(made);
        }
    }
}
