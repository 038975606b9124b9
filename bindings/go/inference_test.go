package inference_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"libinference/inference"
)

// The shipped model, or the one that INF_MODEL names.
func modelPath() string {
	if path := os.Getenv("INF_MODEL"); path != "" {
		return path
	}
	return filepath.Join("..", "..", "models", "demo.gguf")
}

func load(t testing.TB) *inference.Model {
	t.Helper()
	model, err := inference.Load(context.Background(), modelPath(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return model
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// say reads a whole generation.
func say(ctx context.Context, s *inference.Session, prompt string, o *inference.GenerateOptions) (string, inference.Event, error) {
	var all strings.Builder
	var last inference.Event
	for event, err := range s.Generate(ctx, prompt, o) {
		if err != nil {
			return all.String(), event, err
		}
		all.WriteString(event.Text)
		last = event
	}
	return all.String(), last, nil
}

func TestLoadTellsProgressAndErrors(t *testing.T) {
	var shares []float32
	options := &inference.LoadOptions{Context: 128, Progress: func(share float32) { shares = append(shares, share) }}
	model := must[*inference.Model](t)(inference.Load(context.Background(), modelPath(), options))
	if len(shares) == 0 || shares[len(shares)-1] != 1 {
		t.Errorf("progress %v does not end with 1", shares)
	}
	info := must[inference.ModelInfo](t)(model.Info())
	if !info.CanGenerate || info.Vocab == 0 || info.Architecture != must[string](t)(model.Metadata("general.architecture")) {
		t.Errorf("%+v", info)
	}

	_, err := inference.Load(context.Background(), "no/such/file.gguf", nil)
	var report *inference.Error
	if !errors.As(err, &report) || report.Status != inference.StatusIO || !strings.Contains(report.Message, "no/such/file.gguf") {
		t.Errorf("missing file: %v", err)
	}
	if !errors.Is(err, inference.StatusIO) || errors.Is(err, inference.StatusBusy) || !strings.HasPrefix(err.Error(), "INF_ERR_IO: ") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := inference.Load(context.Background(), modelPath(), &inference.LoadOptions{Device: "abacus"}); !errors.Is(err, inference.StatusNoDevice) {
		t.Errorf("missing device: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("changed my mind"))
	if _, err := inference.Load(ctx, modelPath(), nil); err == nil || err.Error() != "changed my mind" {
		t.Errorf("cancelled load: %v", err)
	}
}

func TestGenerate(t *testing.T) {
	model := load(t)
	greedy := must[*inference.Sampler](t)(model.NewSampler())
	session := must[*inference.Session](t)(model.NewSession(nil))
	text, done, err := say(context.Background(), session, "The smith", &inference.GenerateOptions{MaxTokens: 24, Sampler: greedy})
	if err != nil || text == "" || done.Type != inference.EventDone || done.Usage.Output == 0 || done.Usage.Output > 24 {
		t.Fatalf("%q %+v %v", text, done, err)
	}
	if session.Len() != done.Usage.Prompt+done.Usage.Output {
		t.Errorf("it holds %d tokens after %+v", session.Len(), done.Usage)
	}

	// Polled, and from a fork of nothing: the same text.
	fork := must[*inference.Session](t)(must[*inference.Session](t)(model.NewSession(nil)).Fork())
	g := must[*inference.Generation](t)(fork.Start("The smith", &inference.GenerateOptions{MaxTokens: 24, Sampler: greedy}))
	var polled string
	for {
		event := must[inference.Event](t)(g.Next(0))
		polled += event.Text
		if event.Type == inference.EventDone {
			break
		}
		if event.Type == inference.EventNone {
			time.Sleep(100 * time.Microsecond)
		}
	}
	g.Close()
	if polled != text {
		t.Errorf("polled %q, waited %q", polled, text)
	}

	// A stop text ends it; what fails inside is an error; a session in use is busy.
	if err := session.Truncate(0); err != nil {
		t.Fatal(err)
	}
	stopped, done, err := say(context.Background(), session, "The smith", &inference.GenerateOptions{Sampler: greedy, Stop: []string{"<\"&", " "}})
	if err != nil || done.Finish != inference.FinishStop || strings.Contains(stopped, " ") {
		t.Errorf("%q %+v %v", stopped, done, err)
	}
	small := must[*inference.Session](t)(model.NewSession(&inference.SessionOptions{Context: 4}))
	if _, _, err := say(context.Background(), small, "The smith went to the forge and found no iron", nil); !errors.Is(err, inference.StatusContextFull) {
		t.Errorf("a prompt too long: %v", err)
	}
	for _, err := range session.Generate(context.Background(), " and", &inference.GenerateOptions{Queue: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Truncate(0); !errors.Is(err, inference.StatusBusy) {
			t.Errorf("in use: %v", err)
		}
		break // Frees the session at once.
	}
	if err := session.Truncate(0); err != nil {
		t.Error(err)
	}
}

func TestContextEndsAGeneration(t *testing.T) {
	model := load(t)
	session := must[*inference.Session](t)(model.NewSession(nil))
	for range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		events := 0
		for event, err := range session.Generate(ctx, "The smith", &inference.GenerateOptions{Queue: 1}) {
			if events++; events == 2 {
				cancel()
			}
			if err != nil && (!errors.Is(err, context.Canceled) || event.Finish != inference.FinishCancelled) {
				t.Fatal(err)
			}
		}
		cancel()
		if err := session.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, _, err := say(ctx, session, "The smith", nil); !errors.Is(err, context.Canceled) || session.Len() != 0 {
			t.Fatalf("started with a context that has ended: %v", err)
		}
	}
}

func TestOwnLoop(t *testing.T) {
	model := load(t)
	prompt := must[[]inference.Token](t)(model.Tokenize("The smith", inference.AddSpecial))
	if text := must[string](t)(model.Detokenize(prompt, 0)); text != "The smith" {
		t.Errorf("%v is %q", prompt, text)
	}
	long := strings.Repeat("ümlaut 火 ", 1000)
	if text := must[string](t)(model.Detokenize(must[[]inference.Token](t)(model.Tokenize(long, inference.AddSpecial)), 0)); text != long {
		t.Errorf("%d bytes of text came back as %d", len(long), len(text))
	}
	if empty := must[[]inference.Token](t)(model.Tokenize("", 0)); len(empty) != 0 {
		t.Errorf("nothing is %v", empty)
	}
	session := must[*inference.Session](t)(model.NewSession(nil))
	if _, err := session.Logits(); !errors.Is(err, inference.StatusNotReady) {
		t.Error(err)
	}
	if err := session.Append(prompt...); err != nil {
		t.Fatal(err)
	}
	if err := session.Append(-7); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
	step := must[inference.Step](t)(session.Step(nil, 0))
	logits := must[[]float32](t)(session.Logits())
	chain := must[*inference.Sampler](t)(model.NewSampler(inference.Seed(7), inference.Penalties(64, 1.1, 0, 0), inference.TopK(40), inference.TopP(0.95), inference.MinP(0.05), inference.Temperature(0.8)))
	twin := must[*inference.Sampler](t)(chain.Clone())
	first := must[inference.Token](t)(chain.Pick(logits))
	if step.Token != -1 || first != must[inference.Token](t)(twin.Pick(logits)) || model.IsEOG(first) {
		t.Errorf("%+v, first token %d", step, first)
	}
	if bytes := must[[]byte](t)(model.TokenBytes(first)); len(bytes) == 0 {
		t.Errorf("token %d has no bytes", first)
	}
	if err := errors.Join(chain.Reset(), chain.Accept(first), session.Append(first)); err != nil {
		t.Fatal(err)
	}
	if step := must[inference.Step](t)(session.Step(chain, time.Minute)); step.State != inference.StepToken || step.Token < 0 {
		t.Errorf("%+v", step)
	}
	if _, err := model.NewSampler(inference.Temperature(-1)); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
}

func TestChatsSamplersStates(t *testing.T) {
	model := load(t)
	messages := []inference.Message{{Role: "user", Content: "Who are <you>?"}}
	options := &inference.ChatOptions{Template: map[string]any{"chat_template": "{{ messages[0].content }} I am"}}
	if prompt := must[string](t)(model.RenderChat(messages, options)); prompt != "Who are <you>? I am" {
		t.Errorf("%q", prompt)
	}
	if _, err := model.RenderChat([]inference.Message{{Role: "user", ToolCalls: []byte("1")}}, options); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
	stages := []inference.Stage{
		inference.LogitBias(map[inference.Token]float32{5: -1}), inference.DRY(0.8, 1.75, 2, 64), inference.TopNSigma(2), inference.TypicalP(0.9),
		inference.XTC(0.1, 0.1), inference.DynamicTemperature(0.5, 1, 1), inference.Mirostat(5, 0.1),
	}
	options.Sampler = must[*inference.Sampler](t)(model.NewSampler(stages...))
	options.MaxTokens = 8
	session := must[*inference.Session](t)(model.NewSession(&inference.SessionOptions{Overflow: inference.OverflowShift, Keep: 32}))
	var done inference.Event
	for event, err := range session.Chat(context.Background(), messages, options) {
		if err != nil {
			t.Fatal(err)
		}
		done = event
	}
	if done.Type != inference.EventDone || done.Usage.Output == 0 {
		t.Errorf("%+v", done)
	}

	copied := must[*inference.Session](t)(model.NewSession(nil))
	if err := copied.Restore(must[[]byte](t)(session.Save())); err != nil || copied.Len() != session.Len() {
		t.Errorf("%d tokens of %d: %v", copied.Len(), session.Len(), err)
	}
	if err := copied.Restore([]byte("not a state")); !errors.Is(err, inference.StatusStateMismatch) {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "köln.state")
	if err := errors.Join(session.SaveFile(file), copied.RestoreFile(file)); err != nil {
		t.Error(err)
	}
	g := must[*inference.Generation](t)(copied.StartJSON(`{"text":" and","max_tokens":2,"sampling":{"temperature":0}}`))
	for done = (inference.Event{}); done.Type != inference.EventDone; {
		done = must[inference.Event](t)(g.Next(-1))
	}
	format := `{"type":"json_schema","json_schema":{"schema":{"enum":["yes","no"]}}}`
	said, logprobs := "", ""
	for event, err := range copied.Generate(context.Background(), " so", &inference.GenerateOptions{Format: format, Logprobs: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == inference.EventText {
			said += event.Text
		}
		logprobs += event.Logprobs
	}
	if (said != `"yes"` && said != `"no"`) || !strings.Contains(logprobs, "top_logprobs") {
		t.Errorf("%q, %s", said, logprobs)
	}
	must[*inference.Sampler](t)(model.NewSampler(inference.Constrain(inference.GBNF, `root ::= "a"`)))
	if _, err := model.NewSampler(inference.Constrain(inference.Regex, "(")); !errors.Is(err, inference.StatusConstraint) {
		t.Error(err)
	}
	if _, err := model.ParseSampler(`{"heat":1}`); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
	must[*inference.Sampler](t)(model.ParseSampler(`{"temperature":0.8,"seed":7}`))
}

func TestRuntimes(t *testing.T) {
	rt := must[*inference.Runtime](t)(inference.NewRuntime(&inference.RuntimeOptions{HostDriven: true, LogLevel: 4}))
	if devices := must[[]inference.Device](t)(rt.Devices()); len(devices) == 0 || devices[0].ID != "cpu" || !devices[0].Usable {
		t.Errorf("%+v", devices)
	}
	if _, err := rt.Pump(time.Millisecond); err != nil {
		t.Error(err)
	}
	model := must[*inference.Model](t)(inference.Load(context.Background(), modelPath(), &inference.LoadOptions{Runtime: rt}))
	session := must[*inference.Session](t)(model.NewSession(nil))
	if text, _, err := say(context.Background(), session, "The smith", &inference.GenerateOptions{MaxTokens: 4}); err != nil || text == "" {
		t.Errorf("host-driven: %q %v", text, err)
	}
	if memory := must[inference.Memory](t)(rt.Memory()); memory.Held == 0 || memory.Peak < memory.Held {
		t.Errorf("%+v", memory)
	}
	if plan := must[inference.Plan](t)(rt.Estimate(modelPath(), &inference.LoadOptions{Context: 64, KVType: "f32"})); !plan.Fits || plan.Context != 64 || plan.Total == 0 {
		t.Errorf("%+v", plan)
	}
	line, level, err := rt.NextLog()
	if err != nil || level == 0 || line == "" {
		t.Errorf("log: %q %d %v", line, level, err)
	}
	if err := rt.Shutdown(-1); err != nil {
		t.Error(err)
	}
	if _, err := model.NewSession(nil); !errors.Is(err, inference.StatusShutdown) {
		t.Error(err)
	}
	if _, err := inference.NewRuntime(&inference.RuntimeOptions{Threads: -1}); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
	if _, err := inference.NewRuntime(&inference.RuntimeOptions{Options: `{"?":1}`}); !errors.Is(err, inference.StatusInvalidArgument) {
		t.Error(err)
	}
	if !strings.Contains(inference.BuildInfo(), fmt.Sprintf("%q", inference.Version())) {
		t.Error(inference.BuildInfo())
	}
}
