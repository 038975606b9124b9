// Package inference runs language models inside a Go program: libinference through cgo.
//
//	model, err := inference.Load(ctx, "model.gguf", nil)
//	session, err := model.NewSession(nil)
//	for event, err := range session.Generate(ctx, "Once upon a time", nil) {
//		if err != nil {
//			return err
//		}
//		fmt.Print(event.Text)
//	}
//
// A [Runtime] owns threads, a [Model] weights and a tokenizer, a [Session] one sequence of tokens, a [Sampler] the choice of tokens, a
// [Generation] one running request. Each is freed by the garbage collector, or earlier by Close; in any order, as children keep what they need.
// Close may be called twice, and from any goroutine.
//
// Runtimes and models are for all goroutines at once. Sessions, samplers and generations are for one at a time, and a clash is
// [StatusBusy], never a race. Errors are *[Error]; errors.Is(err, inference.StatusBusy) asks for a status.
//
// Nothing calls back into Go. What waits in C (a load, the next event) holds an operating-system thread meanwhile.
//
// The compiler finds the library through pkg-config (`make install`). With the build tag inference_noconfig it does not ask: set CGO_CFLAGS
// and CGO_LDFLAGS.
package inference

// #cgo !inference_noconfig pkg-config: inference
// #cgo noescape bridge_next
// #cgo nocallback bridge_next
// #cgo noescape bridge_step
// #cgo nocallback bridge_step
// #cgo noescape inf_tokenize
// #cgo nocallback inf_tokenize
// #cgo noescape inf_detokenize
// #cgo nocallback inf_detokenize
// #include "bridge.h"
import "C"

import (
	"fmt"
	"math"
	"unsafe"
)

// A Token is a number of a model's vocabulary; -1 is none.
type Token int32

// A Status says how a call failed. It is an error, so that errors.Is finds it in an *[Error].
type Status uint32

// What can go wrong; inference.h says more about each.
const (
	StatusInvalidArgument Status = C.INF_ERR_INVALID_ARGUMENT
	StatusInvalidHandle   Status = C.INF_ERR_INVALID_HANDLE
	StatusABI             Status = C.INF_ERR_ABI
	StatusBusy            Status = C.INF_ERR_BUSY
	StatusBufferTooSmall  Status = C.INF_ERR_BUFFER_TOO_SMALL
	StatusIO              Status = C.INF_ERR_IO
	StatusFormat          Status = C.INF_ERR_FORMAT
	StatusUnsupported     Status = C.INF_ERR_UNSUPPORTED
	StatusOutOfMemory     Status = C.INF_ERR_OUT_OF_MEMORY
	StatusBudget          Status = C.INF_ERR_BUDGET
	StatusNoDevice        Status = C.INF_ERR_NO_DEVICE
	StatusDeviceLost      Status = C.INF_ERR_DEVICE_LOST
	StatusContextFull     Status = C.INF_ERR_CONTEXT_FULL
	StatusConstraint      Status = C.INF_ERR_CONSTRAINT
	StatusDeadEnd         Status = C.INF_ERR_DEAD_END
	StatusTemplate        Status = C.INF_ERR_TEMPLATE
	StatusStateMismatch   Status = C.INF_ERR_STATE_MISMATCH
	StatusPoisoned        Status = C.INF_ERR_POISONED
	StatusCancelled       Status = C.INF_ERR_CANCELLED
	StatusTimeout         Status = C.INF_ERR_TIMEOUT
	StatusInternal        Status = C.INF_ERR_INTERNAL
	StatusNotReady        Status = C.INF_ERR_NOT_READY
	StatusShutdown        Status = C.INF_ERR_SHUTDOWN
	StatusForked          Status = C.INF_ERR_FORKED
)

// Error is the name of the status: "INF_ERR_BUSY".
func (s Status) Error() string { return C.GoString(C.inf_status_name(C.inf_status(s))) }

// An Error is what a call of the library reports.
type Error struct {
	Status  Status
	Message string   // What, where, and what was expected.
	Detail  [2]int64 // Two numbers whose meaning is said at the status.
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Status, e.Message) }

// Unwrap gives the status.
func (e *Error) Unwrap() error { return e.Status }

// Version of the library that is loaded: "0.1.0".
func Version() string { return C.GoString(C.inf_version()) }

// BuildInfo says what this build can do, as a JSON object.
func BuildInfo() string { return C.GoString(C.inf_build_info_json()) }

// collectable makes an object large enough to be collected alone: the allocator puts objects below 16 bytes without Go pointers (handles are none)
// into blocks together, where one that lives keeps the cleanups of all from running.
type collectable [2]uintptr

// failure is the error that a call filled in; nil after success.
func failure(status C.inf_status, e *C.inf_error) error {
	if status == C.INF_OK {
		return nil
	}
	return &Error{Status(status), C.GoString(&e.message[0]), [2]int64{int64(e.detail[0]), int64(e.detail[1])}}
}

// cstring borrows the bytes of s for one call; they need no NUL.
func cstring(s string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}

// optional is cstring, with NULL for an empty string.
func optional(s string) (*C.char, C.size_t) {
	if s == "" {
		return nil, 0
	}
	return cstring(s)
}

// ctokens borrows tokens for one call.
func ctokens(tokens []Token) (*C.inf_token, C.size_t) {
	return (*C.inf_token)(unsafe.Pointer(unsafe.SliceData(tokens))), C.size_t(len(tokens))
}

// text asks call for a string: once if guess bytes are enough, else twice.
func text(guess int, call func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status) (string, error) {
	for {
		var n C.size_t
		var e C.inf_error
		buf := make([]byte, guess)
		status := call((*C.char)(unsafe.Pointer(&buf[0])), C.size_t(guess), &n, &e)
		if status == C.INF_ERR_BUFFER_TOO_SMALL {
			guess = int(n) + 1
			continue
		}
		if err := failure(status, &e); err != nil {
			return "", err
		}
		return unsafe.String(&buf[0], int(n)), nil
	}
}

// u32 is n for C; what C cannot count is its largest number, which is an error or no limit there, but never a small one.
func u32[T int | int64](n T) C.uint32_t {
	if n < 0 || int64(n) > math.MaxUint32 {
		return math.MaxUint32
	}
	return C.uint32_t(n)
}
