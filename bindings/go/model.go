package inference

// #include "bridge.h"
import "C"

import (
	"context"
	"encoding/json"
	"runtime"
	"time"
	"unsafe"
)

// LoadOptions is what a program asks of a load; zero means default.
type LoadOptions struct {
	Device    string `json:"device,omitempty"`     // "auto", "cpu", "cuda:0", or the UUID of a GPU.
	Context   int    `json:"n_ctx,omitempty"`      // Tokens that sessions hold by default. 0 = 4096, cut to what the model was made for.
	KVType    string `json:"kv_type,omitempty"`    // "auto", "f32", "f16", "q8_0".
	KVBytes   int64  `json:"kv_bytes,omitempty"`   // Limit for the keys and values of all sessions together.
	VocabOnly bool   `json:"vocab_only,omitempty"` // The tokenizer and no weights.

	Fit                bool  `json:"fit,omitempty"`                  // Where a GPU has too little memory for all layers, as many as fit.
	ReserveDeviceBytes int64 `json:"reserve_device_bytes,omitempty"` // Memory of a GPU to leave to others.

	ChatTemplate string `json:"chat_template,omitempty"` // Jinja source in place of the templates in the file.

	Runtime  *Runtime            `json:"-"` // For [Load]; nil = one of the model's own.
	Progress func(share float32) `json:"-"` // Called now and then on the goroutine that loads, with the share of bytes read.
}

// How often a load tells its progress.
const progressInterval = 30 * time.Millisecond

// A Model is immutable weights and a tokenizer, shared by any number of sessions and goroutines.
type Model struct {
	h *C.inf_model
	_ collectable
}

// Load loads the model at path (a GGUF file, or the first of a split set). It ends early with ctx, whose error it then returns; what was read is freed.
func Load(ctx context.Context, path string, options *LoadOptions) (*Model, error) {
	if options != nil && options.Runtime != nil {
		return options.Runtime.Load(ctx, path, options)
	}
	rt, err := NewRuntime(nil)
	if err != nil {
		return nil, err
	}
	defer rt.Close() // The model keeps what it needs.
	return rt.Load(ctx, path, options)
}

// Load is the function [Load] on this runtime.
func (rt *Runtime) Load(ctx context.Context, path string, options *LoadOptions) (*Model, error) {
	defer runtime.KeepAlive(rt)
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if options == nil {
		options = &LoadOptions{}
	}
	encoded, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	var h *C.inf_load
	var e C.inf_error
	name, n := cstring(path)
	asked, size := cstring(string(encoded))
	if err := failure(C.inf_load_start_path(rt.h, name, n, asked, size, &h, &e), &e); err != nil {
		return nil, err
	}
	defer C.inf_load_free(h)
	defer context.AfterFunc(ctx, func() { C.inf_load_cancel(h) })()
	model, err := wait(h, options.Progress)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return model, err
}

// wait waits for the end of a load and tells its progress meanwhile.
func wait(h *C.inf_load, tell func(float32)) (*Model, error) {
	interval := milliseconds(-1)
	if tell != nil {
		interval = milliseconds(progressInterval)
	}
	for {
		var share C.float
		var m *C.inf_model
		var e C.inf_error
		status := C.inf_load_wait(h, interval, &share, &m, &e)
		if tell != nil && (status == C.INF_OK || status == C.INF_ERR_TIMEOUT) {
			tell(float32(share))
		}
		if status == C.INF_ERR_TIMEOUT {
			continue
		}
		if err := failure(status, &e); err != nil {
			return nil, err
		}
		model := &Model{h: m}
		runtime.AddCleanup(model, func(h *C.inf_model) { C.inf_model_free(h) }, m)
		return model, nil
	}
}

// A Plan is what a model with one session will need, in bytes.
type Plan struct {
	Fits            bool // It fits the runtime's limits and the memory that is free now.
	Layers, Context int
	Weights         uint64
	KVPerToken, KV  uint64 // Keys and values of a token, and of the whole context.
	Scratch         uint64 // Activations and logits.
	Total           uint64 // Memory of the host.
	DeviceTotal     uint64 // Memory of GPUs.
	LayersOnDevice  int    // Layers on GPUs.
	Device          string // Of most layers: "cpu", "cuda:0".
}

// Estimate tells from the header of the file at path what loading it with options will need; Context and KVType count.
func (rt *Runtime) Estimate(path string, options *LoadOptions) (Plan, error) {
	defer runtime.KeepAlive(rt)
	o := LoadOptions{}
	if options != nil {
		o = *options
	}
	types := map[string]C.uint32_t{"f32": C.INF_KV_F32, "f16": C.INF_KV_F16, "q8_0": C.INF_KV_Q8_0}
	name, _ := cstring(path + "\x00")
	var p C.inf_plan
	var e C.inf_error
	if err := failure(C.bridge_estimate(rt.h, name, u32(o.Context), types[o.KVType], &p, &e), &e); err != nil {
		return Plan{}, err
	}
	return Plan{p.fits == 1, int(p.n_layers), int(p.n_ctx), uint64(p.weights_bytes), uint64(p.kv_bytes_per_token), uint64(p.kv_bytes), uint64(p.scratch_bytes), uint64(p.host_bytes), uint64(p.device_bytes), int(p.n_layers_on_device), C.GoString(&p.device[0])}, nil
}

// Close gives the model back; its sessions keep the weights alive.
func (m *Model) Close() {
	defer runtime.KeepAlive(m)
	C.inf_model_free(m.h)
}

// ModelInfo is facts about a model.
type ModelInfo struct {
	Vocab        int    // Tokens in the vocabulary, and logits per position.
	MaxContext   int    // Longest context it was made for; 0 without weights.
	Embedding    int    // Width of its hidden state; 0 without weights.
	Layers       int    // 0 without weights.
	CanGenerate  bool   // It has weights.
	BOS, EOS     Token  // Beginning and end of text, or -1.
	Params       uint64 // Weights, counted as numbers.
	Architecture string // "llama"
	Quantization string // The type that most of the weights have: "Q4_K".
	Device       string // "cpu"
}

// Info describes the model.
func (m *Model) Info() (ModelInfo, error) {
	defer runtime.KeepAlive(m)
	var i C.inf_model_info
	var e C.inf_error
	if err := failure(C.bridge_model_info(m.h, &i, &e), &e); err != nil {
		return ModelInfo{}, err
	}
	return ModelInfo{
		Vocab: int(i.n_vocab), MaxContext: int(i.n_ctx_max), Embedding: int(i.n_embd), Layers: int(i.n_layers),
		CanGenerate: i.capabilities&C.INF_CAN_GENERATE != 0, BOS: Token(i.bos), EOS: Token(i.eos), Params: uint64(i.n_params),
		Architecture: C.GoString(&i.architecture[0]), Quantization: C.GoString(&i.quantization[0]), Device: C.GoString(&i.device[0]),
	}, nil
}

// Metadata gives the value of a key of the model's file as text.
func (m *Model) Metadata(key string) (string, error) {
	defer runtime.KeepAlive(m)
	name, _ := cstring(key + "\x00")
	return text(128, func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status {
		return C.inf_model_metadata(m.h, name, buf, size, n, e)
	})
}

// SaveGGUF writes the model as it is held, quantised or not: its old content or all of the new one is there at any moment.
func (m *Model) SaveGGUF(path string) error {
	defer runtime.KeepAlive(m)
	var e C.inf_error
	name, _ := cstring(path + "\x00")
	return failure(C.inf_model_save_gguf(m.h, name, &e), &e)
}

// IsEOG says whether t ends a generation.
func (m *Model) IsEOG(t Token) bool {
	defer runtime.KeepAlive(m)
	return C.inf_model_is_eog(m.h, C.inf_token(t)) == 1
}

// TokenFlags for [Model.Tokenize] and [Model.Detokenize].
type TokenFlags uint32

const (
	AddSpecial   TokenFlags = C.INF_TOK_ADD_SPECIAL   // Tokenize: put the tokens around the text that the model expects.
	ParseSpecial TokenFlags = C.INF_TOK_PARSE_SPECIAL // Text that spells a control token is that token, and the reverse.
	Continues    TokenFlags = C.INF_TOK_CONTINUES     // Detokenize: the tokens continue a text; a space in front is kept.
)

// Tokenize turns text into tokens.
func (m *Model) Tokenize(s string, flags TokenFlags) ([]Token, error) {
	defer runtime.KeepAlive(m)
	chars, length := cstring(s)
	tokens := make([]Token, len(s)/2+8)
	for {
		var n C.size_t
		var e C.inf_error
		out, size := ctokens(tokens)
		status := C.inf_tokenize(m.h, chars, length, C.uint32_t(flags), out, size, &n, &e)
		if status == C.INF_ERR_BUFFER_TOO_SMALL {
			tokens = make([]Token, int(n))
			continue
		}
		return tokens[:n], failure(status, &e)
	}
}

// Detokenize turns tokens into text, which may begin or end inside a character if they do.
func (m *Model) Detokenize(tokens []Token, flags TokenFlags) (string, error) {
	defer runtime.KeepAlive(m)
	in, count := ctokens(tokens)
	return text(len(tokens)*6+16, func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status {
		return C.inf_detokenize(m.h, in, count, C.uint32_t(flags), buf, size, n, e)
	})
}

// TokenBytes gives the bytes of one token, which may be part of a character.
func (m *Model) TokenBytes(t Token) ([]byte, error) {
	defer runtime.KeepAlive(m)
	s, err := text(64, func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status {
		return C.inf_token_bytes(m.h, C.inf_token(t), buf, size, n, e)
	})
	return unsafe.Slice(unsafe.StringData(s), len(s)), err
}
