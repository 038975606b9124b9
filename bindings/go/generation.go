package inference

// #include "bridge.h"
import "C"

import (
	"context"
	"encoding/json"
	"iter"
	"runtime"
	"time"
	"unsafe"
)

// GenerateOptions is what a program asks of a generation; zero means default.
type GenerateOptions struct {
	MaxTokens int      // Most tokens to generate. 0 = until the context is full.
	Stop      []string // Texts that end the answer and are not part of it.
	Sampler   *Sampler // Copied. nil = the chain that the model recommends.
	Draft     int      // Most tokens to guess ahead from repetitions in the session's own text.
	Queue     int      // Events that are buffered before the worker pauses. 0 = 256.
	Format    string   // What the answer must match: a response_format as JSON, as {"type":"json_schema","json_schema":{"schema":{..}}}. Empty = anything.
	Logprobs  int      // Above 0: Event.Logprobs tells the probability of each token, and of so many of the likeliest ones.
}

// EventType says what an event is about.
type EventType uint32

const (
	EventNone     EventType = C.INF_EV_NONE      // Nothing is ready.
	EventProgress EventType = C.INF_EV_PROGRESS  // The prompt is being computed, Done of Total tokens.
	EventText     EventType = C.INF_EV_TEXT      // Text, in whole UTF-8 characters.
	EventThinking EventType = C.INF_EV_THINKING  // With Chat: what the model tells itself before it answers.
	EventToolCall EventType = C.INF_EV_TOOL_CALL // With Chat and tools: one call, as JSON.
	EventDone     EventType = C.INF_EV_DONE      // The end; Finish says why.
)

// Finish says why a generation ended.
type Finish uint32

const (
	FinishEOS         Finish = C.INF_FINISH_EOS          // The model said that it is done.
	FinishStop        Finish = C.INF_FINISH_STOP         // A stop text was about to appear.
	FinishMaxTokens   Finish = C.INF_FINISH_MAX_TOKENS   // MaxTokens were generated.
	FinishContextFull Finish = C.INF_FINISH_CONTEXT_FULL // The session has no room left.
	FinishToolCall    Finish = C.INF_FINISH_TOOL_CALL    // The model has called a tool: run it, and ask again with its result.
	FinishCancelled   Finish = C.INF_FINISH_CANCELLED    // Cancelled by the program.
	FinishError       Finish = C.INF_FINISH_ERROR        // Failed.
)

// Usage counts the tokens of a generation.
type Usage struct {
	Prompt int // Tokens of the prompt that it computed.
	Cached int // Tokens that the session had computed already.
	Output int // Tokens generated.
}

// An Event of a generation.
type Event struct {
	Type   EventType
	Text   string  // With EventText and EventThinking whole UTF-8 characters, with EventToolCall JSON.
	Tokens []Token // Behind Text; may be empty.
	// Logprobs is JSON: one object per entry of Tokens, in the shape of OpenAI's API. Empty if it was not asked for.
	Logprobs string
	Finish   Finish        // With EventDone.
	Done     int           // Prompt tokens computed ...
	Total    int           // ... of these.
	Usage    Usage         // With EventDone.
	Prefill  time.Duration // With EventDone: until the first token.
	Decode   time.Duration // With EventDone: after the first token.
}

// Generate appends prompt to the session and continues it; nil means all defaults. Ranging over the result starts the generation, ends it when the
// loop is left, and waits for its events. The last one is EventDone, or comes with an error: an *[Error], or that of ctx, which ends a generation
// wherever it is. The session holds the prompt and exactly the tokens that were accepted.
func (s *Session) Generate(ctx context.Context, prompt string, options *GenerateOptions) iter.Seq2[Event, error] {
	return stream(ctx, func() (*Generation, error) { return s.Start(prompt, options) })
}

// stream ranges over the events of what start starts.
func stream(ctx context.Context, start func() (*Generation, error)) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if ctx.Err() != nil {
			yield(Event{}, context.Cause(ctx))
			return
		}
		g, err := start()
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer g.Close()
		defer context.AfterFunc(ctx, g.Cancel)()
		for {
			event, err := g.Next(-1)
			if event.Finish == FinishCancelled && ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			if !yield(event, err) || err != nil || event.Type == EventDone {
				return
			}
		}
	}
}

// A Generation is one running request, for programs that poll: [Session.Generate] is easier. One reader at a time.
type Generation struct {
	h       *C.inf_generation
	cleanup runtime.Cleanup
	session *Session // A session that is collected would cancel its generation.
}

// Start starts a generation. Never blocks on computation.
func (s *Session) Start(prompt string, options *GenerateOptions) (*Generation, error) {
	return s.start(prompt, conversation{}, options)
}

// start starts a generation of a prompt, or of a conversation if there is one.
func (s *Session) start(prompt string, c conversation, options *GenerateOptions) (*Generation, error) {
	o := GenerateOptions{}
	if options != nil {
		o = *options
	}
	stops, err := encoded(len(o.Stop), o.Stop)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(s)
	defer runtime.KeepAlive(o.Sampler)
	var chain *C.inf_sampler
	if o.Sampler != nil {
		chain = o.Sampler.h
	}
	var h *C.inf_generation
	var e C.inf_error
	text, textLen := cstring(prompt)
	messages, messagesLen := cstring(c.messages)
	tools, toolsLen := cstring(c.tools)
	choices, err := withFormat(c.options, o.Format)
	if err != nil {
		return nil, err
	}
	template, templateLen := cstring(choices)
	stop, stopLen := cstring(stops)
	status := C.bridge_generate_start(s.h, text, textLen, messages, messagesLen, tools, toolsLen, template, templateLen, stop, stopLen,
		u32(o.MaxTokens), u32(o.Draft), u32(o.Queue), u32(o.Logprobs), chain, &h, &e)
	return s.newGeneration(status, h, &e)
}

// withFormat is the JSON object options, or an empty one, with a response_format.
func withFormat(options, format string) (string, error) {
	if format == "" {
		return options, nil
	}
	fields := map[string]json.RawMessage{}
	if options != "" {
		if err := json.Unmarshal([]byte(options), &fields); err != nil {
			return "", err
		}
	}
	fields["response_format"] = json.RawMessage(format)
	return encoded(len(fields), fields)
}

// StartJSON starts what a request of inf_generate_json describes: prompt or messages, sampling, and all else.
func (s *Session) StartJSON(request string) (*Generation, error) {
	defer runtime.KeepAlive(s)
	var h *C.inf_generation
	var e C.inf_error
	chars, n := cstring(request)
	status := C.inf_generate_json(s.h, chars, n, &h, &e)
	return s.newGeneration(status, h, &e)
}

func (s *Session) newGeneration(status C.inf_status, h *C.inf_generation, e *C.inf_error) (*Generation, error) {
	if err := failure(status, e); err != nil {
		return nil, err
	}
	g := &Generation{h: h, session: s}
	g.cleanup = runtime.AddCleanup(g, func(h *C.inf_generation) { C.inf_generation_free(h) }, h)
	return g, nil
}

// encoded is value as JSON; empty if it has no entries.
func encoded(entries int, value any) (string, error) {
	if entries == 0 {
		return "", nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

// Next gives the next event: 0 polls, above 0 waits so long, below 0 waits until there is one. Nothing in time is EventNone. A generation that
// failed gives EventDone with an *[Error].
func (g *Generation) Next(limit time.Duration) (Event, error) {
	defer runtime.KeepAlive(g)
	var out C.inf_event
	var e C.inf_error
	if status := C.bridge_next(g.h, milliseconds(limit), &out, &e); status != C.INF_OK {
		return Event{}, failure(status, &e)
	}
	event := Event{Type: EventType(out._type), Done: int(out.n_done), Total: int(out.n_total)}
	if out.logprobs_len > 0 {
		event.Logprobs = C.GoStringN(out.logprobs_json, C.int(out.logprobs_len))
	}
	switch event.Type {
	case EventText, EventThinking, EventToolCall:
		event.Text = C.GoStringN(out.text, C.int(out.text_len))
		if out.n_tokens > 0 {
			event.Tokens = append([]Token(nil), unsafe.Slice((*Token)(unsafe.Pointer(out.tokens)), int(out.n_tokens))...)
		}
	case EventDone:
		event.Finish = Finish(out.finish)
		event.Usage = Usage{int(out.prompt_tokens), int(out.cached_tokens), int(out.output_tokens)}
		event.Prefill, event.Decode = duration(out.prefill_ms), duration(out.decode_ms)
		if event.Finish == FinishError {
			return event, &Error{Status: Status(out.status), Message: C.GoStringN(out.error_text, C.int(out.error_len))}
		}
	}
	return event, nil
}

// Cancel ends the generation; EventDone follows. Any goroutine.
func (g *Generation) Cancel() {
	defer runtime.KeepAlive(g)
	C.inf_generation_cancel(g.h)
}

// Close gives the generation back, and cancels it if it runs.
func (g *Generation) Close() {
	g.cleanup.Stop() // Generations are many: spare the collector.
	C.inf_generation_free(g.h)
	runtime.KeepAlive(g)
}

func duration(ms C.float) time.Duration {
	return time.Duration(float64(ms) * float64(time.Millisecond))
}
