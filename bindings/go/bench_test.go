package inference_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"libinference/inference"
)

// What reading one event costs when all of them wait: tools/wrapper_overhead.cpp measures the same in C and C++.
func BenchmarkEvents(b *testing.B) {
	model := load(b)
	noEnd := inference.LogitBias(map[inference.Token]float32{must[inference.ModelInfo](b)(model.Info()).EOS: float32(math.Inf(-1))})
	greedy := must[*inference.Sampler](b)(model.NewSampler(noEnd))
	var spent time.Duration
	var events int
	for b.Loop() {
		session := must[*inference.Session](b)(model.NewSession(nil))
		g := must[*inference.Generation](b)(session.Start("The smith", &inference.GenerateOptions{MaxTokens: 200, Sampler: greedy, Queue: 4096}))
		for errors.Is(session.Truncate(1<<20), inference.StatusBusy) { // Until all is queued.
			time.Sleep(time.Millisecond)
		}
		start := time.Now()
		for {
			event := must[inference.Event](b)(g.Next(-1))
			events++
			if event.Type == inference.EventDone {
				break
			}
		}
		spent += time.Since(start)
		g.Close()
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(events), "ns/event")
}
