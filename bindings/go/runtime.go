package inference

// #include "bridge.h"
import "C"

import (
	"runtime"
	"time"
)

// RuntimeOptions is what a program asks of a runtime; zero means default.
type RuntimeOptions struct {
	Threads    int           // That compute, the calling one included. 0 = physical cores - 1.
	HostDriven bool          // The library makes no threads: [Runtime.Pump] and calls that wait do the work.
	Priority   int           // Of the workers: -2 idle, -1 low, 0 normal, 1 high.
	Spin       time.Duration // Busy-wait of a worker before it parks.
	Memory     uint64        // Most bytes for weights, contexts and activations of all models; 0 = unlimited.
	LogLevel   int           // Lines up to this level wait for [Runtime.NextLog]: 1 error, 2 warning, 3 info, 4 debug.
	Options    string        // JSON: {"kernels":"avx2"} forces a kernel set.
}

// A Runtime owns threads, devices and a log.
type Runtime struct {
	h *C.inf_runtime
	_ collectable
}

// NewRuntime makes a runtime and starts its threads. nil means all defaults.
func NewRuntime(options *RuntimeOptions) (*Runtime, error) {
	o := RuntimeOptions{}
	if options != nil {
		o = *options
	}
	json, n := optional(o.Options)
	driven := C.uint32_t(0)
	if o.HostDriven {
		driven = 1
	}
	var h *C.inf_runtime
	var e C.inf_error
	spin := u32(o.Spin.Microseconds())
	status := C.bridge_runtime_create(u32(o.Threads), driven, C.int32_t(o.Priority), C.uint64_t(o.Memory), spin, u32(o.LogLevel), json, n, &h, &e)
	if err := failure(status, &e); err != nil {
		return nil, err
	}
	rt := &Runtime{h: h}
	runtime.AddCleanup(rt, func(h *C.inf_runtime) { C.inf_runtime_free(h) }, h)
	return rt, nil
}

// Close lets go of the runtime; models and sessions keep it alive.
func (rt *Runtime) Close() {
	defer runtime.KeepAlive(rt)
	C.inf_runtime_free(rt.h)
}

// Shutdown cancels what runs and joins the threads. It waits for at most limit, below 0 until done; [StatusTimeout] says to call again.
func (rt *Runtime) Shutdown(limit time.Duration) error {
	defer runtime.KeepAlive(rt)
	var e C.inf_error
	return failure(C.inf_runtime_shutdown(rt.h, milliseconds(limit), &e), &e)
}

// Pump works for about budget on the calling goroutine, in a runtime that is host-driven, and says whether work may remain.
func (rt *Runtime) Pump(budget time.Duration) (more bool, err error) {
	defer runtime.KeepAlive(rt)
	var left C.uint32_t
	var e C.inf_error
	err = failure(C.inf_runtime_pump(rt.h, u32(budget.Microseconds()), &left, &e), &e)
	return left != 0, err
}

// Memory is the bytes that a runtime holds.
type Memory struct {
	Held, Peak uint64 // Now, and at most until now.
	Left       uint64 // That may still be held.
}

// Memory accounts for weights, keys and values, activations and logits.
func (rt *Runtime) Memory() (Memory, error) {
	defer runtime.KeepAlive(rt)
	var m C.inf_memory
	var e C.inf_error
	err := failure(C.bridge_memory(rt.h, &m, &e), &e)
	return Memory{uint64(m.host), uint64(m.host_peak), uint64(m.host_left)}, err
}

// NextLog takes the oldest line that waits; level 0 means that there is none. One goroutine at a time.
func (rt *Runtime) NextLog() (line string, level int, err error) {
	defer runtime.KeepAlive(rt)
	var lvl C.uint32_t
	line, err = text(512, func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status {
		return C.inf_runtime_next_log(rt.h, buf, size, n, &lvl, e)
	})
	return line, int(lvl), err
}

// A Device of this machine, usable or not.
type Device struct {
	ID          string // For [LoadOptions.Device]: "cpu".
	Name        string // For people.
	Usable      bool
	Reason      string // Why it is not usable.
	MemoryTotal uint64 // Bytes; 0 = unknown.
	MemoryFree  uint64 // Bytes; 0 = unknown.
}

// Devices of this machine.
func (rt *Runtime) Devices() ([]Device, error) {
	defer runtime.KeepAlive(rt)
	devices := make([]Device, C.inf_device_count(rt.h))
	for i := range devices {
		var d C.inf_device_info
		var e C.inf_error
		if err := failure(C.bridge_device(rt.h, C.uint32_t(i), &d, &e), &e); err != nil {
			return nil, err
		}
		devices[i] = Device{C.GoString(&d.id[0]), C.GoString(&d.name[0]), d.usable == 1, C.GoString(&d.reason[0]), uint64(d.memory_total), uint64(d.memory_free)}
	}
	return devices, nil
}

// milliseconds of a wait, rounded up so that a short one is not a poll; below 0 waits forever.
func milliseconds(d time.Duration) C.int32_t {
	if d < 0 {
		return C.INF_WAIT_FOREVER
	}
	return C.int32_t(min((d+time.Millisecond-1)/time.Millisecond, 1<<31-1))
}
