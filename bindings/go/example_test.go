package inference_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"libinference/inference"
)

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	model, err := inference.Load(ctx, modelPath(), nil)
	if err != nil {
		log.Fatal(err)
	}
	session, err := model.NewSession(nil)
	if err != nil {
		log.Fatal(err)
	}
	answer := ""
	for event, err := range session.Generate(ctx, "The smith", &inference.GenerateOptions{MaxTokens: 8}) {
		if err != nil {
			log.Fatal(err)
		}
		answer += event.Text
	}
	fmt.Println(len(answer) > 0)
	// Output: true
}

func ExampleLoad() {
	_, err := inference.Load(context.Background(), "missing.gguf", nil)
	fmt.Println(errors.Is(err, inference.StatusIO))
	// Output: true
}

func ExampleModel_Tokenize() {
	model, err := inference.Load(context.Background(), modelPath(), &inference.LoadOptions{VocabOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	tokens, err := model.Tokenize("The smith greets the fox.", 0)
	if err != nil {
		log.Fatal(err)
	}
	text, err := model.Detokenize(tokens, 0)
	fmt.Println(text, err)
	// Output: The smith greets the fox. <nil>
}

// A program that owns the loop: append, step, and look at every token.
func ExampleSession_Step() {
	model, err := inference.Load(context.Background(), modelPath(), nil)
	if err != nil {
		log.Fatal(err)
	}
	session, _ := model.NewSession(nil)
	sampler, _ := model.NewSampler(inference.Seed(1), inference.TopK(40), inference.Temperature(0.7))
	prompt, _ := model.Tokenize("The smith", inference.AddSpecial)
	if err := session.Append(prompt...); err != nil {
		log.Fatal(err)
	}
	for range 4 {
		step, err := session.Step(sampler, 0)
		if err != nil || step.State == inference.StepEnd {
			log.Fatal(step, err)
		}
	}
	fmt.Println(session.Len() - len(prompt))
	// Output: 4
}
