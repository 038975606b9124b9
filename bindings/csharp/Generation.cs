// Generations and their events.
using System;
using System.Collections;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

namespace Inference
{
    public enum EventType : uint { None, Progress, Text, Thinking, ToolCall, Done }

    public enum Finish : uint { None, Eos, Stop, MaxTokens, ContextFull, ToolCall, Cancelled, Error }

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
        /// <summary>If Request.TopLogprobs asked for them: a JSON array with one object per token. Empty otherwise.</summary>
        public string LogprobsJson;
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
                PrefillMs = e.prefill_ms, DecodeMs = e.decode_ms, LogprobsJson = Encoding.UTF8.GetString(Call.Copy(e.logprobs_json, e.logprobs_len)),
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
