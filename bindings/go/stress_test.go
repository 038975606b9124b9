package inference_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"libinference/inference"
)

const goroutines = 64

// How many generations each goroutine runs: INF_ROUNDS for a long test.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("INF_ROUNDS")); err == nil {
		return n
	}
	return 10
}

// Eventually waits for what needs a moment: goroutines and threads that are ending.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
		runtime.GC()
	}
}

// Resident memory of this process in bytes; 0 where there is no /proc.
func resident() int {
	fields := strings.Fields(read("/proc/self/statm"))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize()
}

func read(path string) string {
	bytes, _ := os.ReadFile(path)
	return string(bytes)
}

// Threads of this process that the library made.
func engineThreads() (n int) {
	names, _ := filepath.Glob("/proc/self/task/*/comm")
	for _, name := range names {
		if strings.HasPrefix(read(name), "inference-") {
			n++
		}
	}
	return n
}

// One generation, cancelled at random: what it said is want, or how want begins if it was cancelled.
func one(t *testing.T, model *inference.Model, greedy *inference.Sampler, want string) {
	session, err := model.NewSession(nil)
	if err != nil {
		t.Error(err)
		return
	}
	if rand.N(2) == 0 {
		defer session.Close() // Else the collector frees it.
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rand.N(2) == 0 {
		time.AfterFunc(time.Duration(rand.N(20_000))*time.Microsecond, cancel)
	}
	got, done, err := say(ctx, session, "The smith", &inference.GenerateOptions{MaxTokens: 16, Sampler: greedy})
	switch {
	case errors.Is(err, context.Canceled):
		if !strings.HasPrefix(want, got) {
			t.Errorf("cancelled at %q, which does not begin %q", got, want)
		}
	case err != nil || got != want:
		t.Errorf("%q, not %q: %+v %v", got, want, done, err)
	}
}

func crowd(t *testing.T, model *inference.Model, greedy *inference.Sampler, want string, rounds int) {
	var group sync.WaitGroup
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			for range rounds {
				one(t, model, greedy, want)
			}
		}()
	}
	group.Wait()
}

func TestManyGoroutines(t *testing.T) {
	model := load(t)
	greedy := must[*inference.Sampler](t)(model.NewSampler())
	want, _, err := say(context.Background(), must[*inference.Session](t)(model.NewSession(nil)), "The smith", &inference.GenerateOptions{MaxTokens: 16, Sampler: greedy})
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	crowd(t, model, greedy, want, 1+rounds()/2)
	runtime.GC()
	held := resident()
	crowd(t, model, greedy, want, rounds()-rounds()/2)
	eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= before })
	const noise = 48 << 20 // Stacks, arenas, the race detector's shadow.
	if growth := resident() - held; growth > noise {
		t.Errorf("resident memory grew by %d bytes in the second half", growth)
	}
}

// One chain, one session, many goroutines: each call works or is busy.
func TestClashesAreBusy(t *testing.T) {
	model := load(t)
	session := must[*inference.Session](t)(model.NewSession(nil))
	var group sync.WaitGroup
	for range goroutines {
		group.Add(1)
		go func() {
			defer group.Done()
			if _, _, err := say(context.Background(), session, "on", &inference.GenerateOptions{MaxTokens: 1}); err != nil && !errors.Is(err, inference.StatusBusy) {
				t.Error(err)
			}
		}()
	}
	group.Wait()
}

// Nothing is closed: the collector frees all, in its own order, and the threads end.
func TestCollectorFreesEverything(t *testing.T) {
	eventually(t, "threads of earlier tests are left", func() bool { return engineThreads() == 0 })
	for range 8 {
		model := load(t)
		session := must[*inference.Session](t)(model.NewSession(nil))
		must[*inference.Sampler](t)(model.NewSampler())
		g := must[*inference.Generation](t)(session.Start("The smith", nil))
		must[inference.Event](t)(g.Next(-1))
	}
	eventually(t, "threads are left", func() bool { return engineThreads() == 0 })
}

// Close while another goroutine waits, twice, and parents first.
func TestCloseInAnyOrder(t *testing.T) {
	rt := must[*inference.Runtime](t)(inference.NewRuntime(nil))
	model := must[*inference.Model](t)(rt.Load(context.Background(), modelPath(), nil))
	session := must[*inference.Session](t)(model.NewSession(nil))
	g := must[*inference.Generation](t)(session.Start("The smith", nil))
	rt.Close()
	model.Close()
	ended := make(chan error)
	go func() {
		for {
			if event, err := g.Next(-1); err != nil || event.Type == inference.EventDone {
				ended <- err
				return
			}
		}
	}()
	session.Close()
	g.Close()
	g.Close()
	if err := <-ended; err != nil && !errors.Is(err, inference.StatusCancelled) && !errors.Is(err, inference.StatusInvalidHandle) {
		t.Error(err)
	}
	if _, err := model.NewSession(nil); !errors.Is(err, inference.StatusInvalidHandle) {
		t.Error(err)
	}
}
