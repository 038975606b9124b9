package inference

// #include "bridge.h"
import "C"

import (
	"context"
	"encoding/json"
	"iter"
	"runtime"
)

// A Message of a conversation, in the shape of OpenAI's API.
type Message struct {
	Role       string          `json:"role"` // "system", "user", "assistant", "tool".
	Content    string          `json:"content"`
	Reasoning  string          `json:"reasoning_content,omitempty"`
	ToolCalls  json.RawMessage `json:"tool_calls,omitempty"`
	ToolCallID string          `json:"tool_call_id,omitempty"`
	Name       string          `json:"name,omitempty"`
}

// ChatOptions are what the chat template gets beside the messages, and what [GenerateOptions] say.
type ChatOptions struct {
	GenerateOptions
	Tools    []json.RawMessage // {"type":"function","function":{..}}, each.
	Template map[string]any    // Options and variables: "enable_thinking", "chat_template"; inference.h says more.
}

// conversation is what C takes: JSON, empty where there is none.
type conversation struct{ messages, tools, options string }

func newConversation(messages []Message, o *ChatOptions) (c conversation, err error) {
	if c.messages, err = encoded(1, messages); err != nil {
		return c, err
	}
	if o == nil {
		return c, nil
	}
	if c.tools, err = encoded(len(o.Tools), o.Tools); err != nil {
		return c, err
	}
	c.options, err = encoded(len(o.Template), o.Template)
	return c, err
}

// Chat answers a conversation, as [Session.Generate] continues a prompt. Afterwards the session holds the conversation and nothing else; what it holds
// of it from earlier turns is not computed again, so give it the whole list each time.
func (s *Session) Chat(ctx context.Context, messages []Message, options *ChatOptions) iter.Seq2[Event, error] {
	return stream(ctx, func() (*Generation, error) {
		c, err := newConversation(messages, options)
		if err != nil {
			return nil, err
		}
		if options == nil {
			return s.start("", c, nil)
		}
		return s.start("", c, &options.GenerateOptions)
	})
}

// RenderChat gives the prompt that Chat would compute.
func (m *Model) RenderChat(messages []Message, options *ChatOptions) (string, error) {
	defer runtime.KeepAlive(m)
	c, err := newConversation(messages, options)
	if err != nil {
		return "", err
	}
	list, listLen := cstring(c.messages)
	tools, toolsLen := optional(c.tools)
	template, templateLen := optional(c.options)
	return text(1024, func(buf *C.char, size C.size_t, n *C.size_t, e *C.inf_error) C.inf_status {
		return C.inf_chat_render(m.h, list, listLen, tools, toolsLen, template, templateLen, buf, size, n, e)
	})
}
