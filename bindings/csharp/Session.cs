// Samplers and sessions.
using System;
using System.Runtime.InteropServices;

namespace Inference
{
    /// <summary>The language of a constraint.</summary>
    public enum Constraint : uint { JsonSchema = 1, Regex = 2, Lark = 3, Gbnf = 4, Json = 5 }

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

        /// <summary>Only what continues a text of this language is chosen.</summary>
        public Sampler Constrain(Constraint kind, string source)
        {
            byte[] text = Call.Bytes(source);
            return Then(Native.inf_sampler_set_constraint(this, (uint)kind, text, Call.Length(text), Call.Error));
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
        /// <summary>Above 0: each event tells the probability of its tokens, and of so many of the likeliest in their place.</summary>
        public uint TopLogprobs;
        public Sampler Sampler;
        /// <summary>A smaller model with the same vocabulary that guesses what comes next.</summary>
        public Model DraftModel;
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

        /// <summary>The handle of an object that is kept alive around the call, or NULL.</summary>
        private static IntPtr Raw(Handle handle) => handle == null ? IntPtr.Zero : handle.DangerousGetHandle();

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
            Call.Check(Native.inf_session_step(this, Raw(sampler), budgetMicroseconds, ignoreEnd ? 1u : 0u, ref s, Call.Error));
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
                    stop_json = pins.Add(stop), stop_len = Call.Length(stop), sampler = Raw(r.Sampler), draft = Raw(r.DraftModel),
                    top_logprobs = r.TopLogprobs,
                };
                Call.Check(Native.inf_generate_start(this, ref p, out IntPtr made, Call.Error));
                GC.KeepAlive(r);
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
}
