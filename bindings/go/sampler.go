package inference

// #include "bridge.h"
import "C"

import (
	"runtime"
	"unsafe"
)

// A Sampler is a chain of stages that chooses tokens, its random state, and its memory of what it chose. One goroutine at a time.
type Sampler struct {
	h *C.inf_sampler
	_ collectable
}

// A Stage of a sampler.
type Stage struct {
	add func(s *C.inf_sampler, e *C.inf_error) C.inf_status
}

// Seed starts the random sequence; without it every sampler has one of its own.
func Seed(seed uint64) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_set_seed(s, C.uint64_t(seed), e)
	}}
}

// Temperature divides the logits by t: below 1 more predictable, above 1 more surprising, 0 = always the most likely token.
func Temperature(t float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_temperature(s, C.float(t), e)
	}}
}

// TopK keeps the k most likely tokens; 0 = all.
func TopK(k int) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_top_k(s, u32(k), e)
	}}
}

// TopP keeps the fewest most likely tokens whose probabilities sum to at least p.
func TopP(p float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status { return C.inf_sampler_add_top_p(s, C.float(p), e) }}
}

// MinP keeps the tokens at least p times as likely as the most likely one.
func MinP(p float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status { return C.inf_sampler_add_min_p(s, C.float(p), e) }}
}

// Penalties make tokens less likely that are among the last ones: logits are divided by repeat, lowered by frequency each and presence once.
func Penalties(last int, repeat, frequency, presence float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_penalties(s, u32(last), C.float(repeat), C.float(frequency), C.float(presence), e)
	}}
}

// DynamicTemperature divides the logits by low where the model is certain, by high where all tokens are as likely.
func DynamicTemperature(low, high, exponent float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_dynamic_temperature(s, C.float(low), C.float(high), C.float(exponent), e)
	}}
}

// TypicalP keeps the tokens whose surprise is nearest to the expected one, as few as have probability p together.
func TypicalP(p float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_typical_p(s, C.float(p), e)
	}}
}

// TopNSigma keeps the tokens whose logits are at most n standard deviations below the largest.
func TopNSigma(n float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_top_n_sigma(s, C.float(n), e)
	}}
}

// XTC drops, so often as probability says, all tokens at least as likely as threshold but the least likely of them.
func XTC(probability, threshold float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_xtc(s, C.float(probability), C.float(threshold), e)
	}}
}

// DRY makes tokens less likely that would continue a repetition of allowed tokens or more among the last ones.
func DRY(multiplier, base float32, allowed, last int) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_dry(s, C.float(multiplier), C.float(base), u32(allowed), u32(last), nil, 0, e)
	}}
}

// Mirostat steers the surprise of what is drawn to tau bits, learning with rate eta. The last stage, behind a temperature.
func Mirostat(tau, eta float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		return C.inf_sampler_add_mirostat(s, C.float(tau), C.float(eta), e)
	}}
}

// LogitBias adds to the logits of tokens; minus infinity forbids one.
func LogitBias(bias map[Token]float32) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		tokens, values := make([]Token, 0, len(bias)), make([]float32, 0, len(bias))
		for token, value := range bias {
			tokens, values = append(tokens, token), append(values, value)
		}
		in, n := ctokens(tokens)
		return C.inf_sampler_add_logit_bias(s, in, (*C.float)(unsafe.Pointer(unsafe.SliceData(values))), n, e)
	}}
}

// A Language of constraints.
type Language uint32

const (
	JSONSchema Language = C.INF_CONSTRAINT_JSON_SCHEMA // A JSON schema.
	Regex      Language = C.INF_CONSTRAINT_REGEX       // A regular expression that all of the answer matches.
	Lark       Language = C.INF_CONSTRAINT_LARK        // A grammar in llguidance's variant of Lark; it begins with the rule start.
	GBNF       Language = C.INF_CONSTRAINT_GBNF        // A grammar as llama.cpp reads them; it begins with the rule root.
	AnyJSON    Language = C.INF_CONSTRAINT_JSON        // Any JSON value; the source is empty.
)

// Constrain lets the chain choose only tokens that continue a text of a language. Wherever it stands in the chain, it comes first.
func Constrain(language Language, source string) Stage {
	return Stage{func(s *C.inf_sampler, e *C.inf_error) C.inf_status {
		chars, n := cstring(source)
		return C.inf_sampler_set_constraint(s, C.uint32_t(language), chars, n, e)
	}}
}

// ParseSampler makes a chain from JSON: {"temperature":0.8,"top_k":40,"seed":7}; inference.h lists the keys.
func (m *Model) ParseSampler(json string) (*Sampler, error) {
	defer runtime.KeepAlive(m)
	var h *C.inf_sampler
	var e C.inf_error
	chars, n := cstring(json)
	if err := failure(C.inf_sampler_from_json(m.h, chars, n, &h, &e), &e); err != nil {
		return nil, err
	}
	return own(h), nil
}

// NewSampler makes a chain; without stages it is greedy.
func (m *Model) NewSampler(stages ...Stage) (*Sampler, error) {
	defer runtime.KeepAlive(m)
	var h *C.inf_sampler
	var e C.inf_error
	if err := failure(C.inf_sampler_create(m.h, &h, &e), &e); err != nil {
		return nil, err
	}
	s := own(h)
	for _, stage := range stages {
		if err := failure(stage.add(h, &e), &e); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func own(h *C.inf_sampler) *Sampler {
	s := &Sampler{h: h}
	runtime.AddCleanup(s, func(h *C.inf_sampler) { C.inf_sampler_free(h) }, h)
	return s
}

// Clone copies the chain: both choose the same tokens from now on.
func (s *Sampler) Clone() (*Sampler, error) {
	defer runtime.KeepAlive(s)
	var h *C.inf_sampler
	var e C.inf_error
	if err := failure(C.inf_sampler_clone(s.h, &h, &e), &e); err != nil {
		return nil, err
	}
	return own(h), nil
}

// Reset forgets the accepted tokens and starts the random sequence again.
func (s *Sampler) Reset() error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	return failure(C.inf_sampler_reset(s.h, &e), &e)
}

// Pick chooses a token from the logits of a position and accepts it.
func (s *Sampler) Pick(logits []float32) (Token, error) {
	defer runtime.KeepAlive(s)
	var t C.inf_token
	var e C.inf_error
	data := (*C.float)(unsafe.Pointer(unsafe.SliceData(logits)))
	err := failure(C.inf_sampler_pick(s.h, data, C.size_t(len(logits)), &t, &e), &e)
	return Token(t), err
}

// Accept notes a token that the program chose itself.
func (s *Sampler) Accept(t Token) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	return failure(C.inf_sampler_accept(s.h, C.inf_token(t), &e), &e)
}

// Close gives the chain back.
func (s *Sampler) Close() {
	defer runtime.KeepAlive(s)
	C.inf_sampler_free(s.h)
}
