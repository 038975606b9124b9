package inference

// #include "bridge.h"
import "C"

import (
	"runtime"
	"slices"
	"time"
	"unsafe"
)

// SessionOptions is what a program asks of a session; zero means default.
type SessionOptions struct {
	Context        int  // Tokens it can hold. 0 = what the model was loaded for.
	PrefillChunk   int  // Most tokens of one indivisible prefill step.
	NoSharedPrefix bool // It shares no keys and values with sessions that begin alike.
	Overflow       Overflow
	Keep           int // With OverflowShift: tokens at the front that stay.
	Priority       int // Urgency of its generations beside those of other sessions; higher is sooner.
}

// Overflow says what happens when a session is full.
type Overflow uint32

const (
	OverflowError Overflow = C.INF_OVERFLOW_ERROR // [StatusContextFull], and generations end.
	OverflowShift Overflow = C.INF_OVERFLOW_SHIFT // Half of the tokens behind the first Keep are dropped, and it goes on.
	OverflowStop  Overflow = C.INF_OVERFLOW_STOP  // As OverflowError, but a step gives [StepEnd].
)

// A Session is one sequence of tokens. One goroutine at a time; while a generation runs on it, that one owns it.
type Session struct {
	h *C.inf_session
	_ collectable
}

// NewSession makes an empty session. nil means all defaults.
func (m *Model) NewSession(options *SessionOptions) (*Session, error) {
	defer runtime.KeepAlive(m)
	o := SessionOptions{}
	if options != nil {
		o = *options
	}
	flags := C.uint32_t(0)
	if o.NoSharedPrefix {
		flags = C.INF_SESSION_NO_SHARED_PREFIX
	}
	var h *C.inf_session
	var e C.inf_error
	status := C.bridge_session_create(m.h, u32(o.Context), u32(o.PrefillChunk), flags, C.uint32_t(o.Overflow), u32(o.Keep), C.int32_t(o.Priority), &h, &e)
	return newSession(status, h, &e)
}

func newSession(status C.inf_status, h *C.inf_session, e *C.inf_error) (*Session, error) {
	if err := failure(status, e); err != nil {
		return nil, err
	}
	s := &Session{h: h}
	runtime.AddCleanup(s, func(h *C.inf_session) { C.inf_session_free(h) }, h)
	return s, nil
}

// Close gives the session back and cancels its generation.
func (s *Session) Close() {
	defer runtime.KeepAlive(s)
	C.inf_session_free(s.h)
}

// Fork makes a second session with the same tokens; what is computed is shared.
func (s *Session) Fork() (*Session, error) {
	defer runtime.KeepAlive(s)
	var h *C.inf_session
	var e C.inf_error
	status := C.inf_session_fork(s.h, &h, &e)
	return newSession(status, h, &e)
}

// Truncate keeps the first n tokens; 0 empties the session.
func (s *Session) Truncate(n int) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	return failure(C.inf_session_truncate(s.h, u32(n), &e), &e)
}

// Len is how many tokens it holds.
func (s *Session) Len() int {
	defer runtime.KeepAlive(s)
	return int(C.inf_session_n_tokens(s.h))
}

// Append queues tokens: all, or none.
func (s *Session) Append(tokens ...Token) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	in, n := ctokens(tokens)
	return failure(C.inf_session_append(s.h, in, n, &e), &e)
}

// Save gives the session as bytes, for [Session.Restore] on the same model and version.
func (s *Session) Save() ([]byte, error) {
	defer runtime.KeepAlive(s)
	var n C.size_t
	var e C.inf_error
	if err := failure(C.inf_session_save(s.h, nil, 0, &n, &e), &e); err != nil {
		return nil, err
	}
	saved := make([]byte, n)
	err := failure(C.inf_session_save(s.h, unsafe.Pointer(unsafe.SliceData(saved)), n, &n, &e), &e)
	return saved, err
}

// Restore makes the session what was saved; the bytes may come from anywhere.
func (s *Session) Restore(saved []byte) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	return failure(C.inf_session_restore(s.h, unsafe.Pointer(unsafe.SliceData(saved)), C.size_t(len(saved)), &e), &e)
}

// SaveFile writes what Save gives into the file at path: its old content or all of the new one is there at any moment.
func (s *Session) SaveFile(path string) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	name, _ := cstring(path + "\x00")
	return failure(C.inf_session_save_file(s.h, name, &e), &e)
}

// RestoreFile is Restore from the file at path.
func (s *Session) RestoreFile(path string) error {
	defer runtime.KeepAlive(s)
	var e C.inf_error
	name, _ := cstring(path + "\x00")
	return failure(C.inf_session_restore_file(s.h, name, &e), &e)
}

// StepState says what a step did.
type StepState uint32

const (
	StepPending StepState = C.INF_STEP_PENDING // The budget was used up; call again.
	StepToken   StepState = C.INF_STEP_TOKEN   // Everything is computed, and with a sampler a token was chosen.
	StepEnd     StepState = C.INF_STEP_END     // An end-of-generation token was chosen, now or before.
)

// A Step is what [Session.Step] did.
type Step struct {
	State   StepState
	Token   Token   // The token chosen, or -1.
	Done    int     // Queued tokens computed ...
	Total   int     // ... of these.
	LogProb float32 // Of the chosen token, before any stage of the sampler.
}

// Step computes what is queued for about budget (0 = until done), and with a sampler then chooses the next token.
func (s *Session) Step(sampler *Sampler, budget time.Duration) (Step, error) {
	defer runtime.KeepAlive(s)
	defer runtime.KeepAlive(sampler)
	var chain *C.inf_sampler
	if sampler != nil {
		chain = sampler.h
	}
	var out C.inf_step
	var e C.inf_error
	err := failure(C.bridge_step(s.h, chain, u32(budget.Microseconds()), 0, &out, &e), &e)
	return Step{StepState(out.state), Token(out.token), int(out.prefill_done), int(out.prefill_total), float32(out.logprob)}, err
}

// Logits of the last position, copied.
func (s *Session) Logits() ([]float32, error) {
	defer runtime.KeepAlive(s)
	var data *C.float
	var n C.size_t
	var e C.inf_error
	if err := failure(C.inf_session_logits(s.h, &data, &n, &e), &e); err != nil {
		return nil, err
	}
	return slices.Clone(unsafe.Slice((*float32)(unsafe.Pointer(data)), int(n))), nil
}
