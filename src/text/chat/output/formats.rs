//! How the families of models mark thinking and tool calls in what they generate: a table, and how a template tells which row is meant.

/// The marks of one family.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Format {
    /// For errors and tests.
    pub(super) name: &'static str,
    /// Texts that a template of this family holds, all of them.
    pub(super) signature: &'static [&'static str],
    /// What begins a call, and what ends it; nothing = the next call, or the end of the answer.
    pub(super) calls: &'static [(&'static str, &'static str)],
    /// What may stand around answers and calls, and is neither.
    pub(super) noise: &'static [&'static str],
    /// An answer that begins with a brace is a call.
    pub(super) bare_json: bool,
    /// Answers come in channels, with headers (gpt-oss).
    pub(super) channels: bool,
}

const NONE: Format = Format { name: "none", signature: &[], calls: &[], noise: &[], bare_json: false, channels: false };

/// The more special ones first: the first whose signature is in the template is taken.
pub(super) const FORMATS: [Format; 24] = [
    Format { name: "gpt-oss", signature: &["<|channel|>", "functions."], channels: true, ..NONE },
    Format {
        name: "solar",
        signature: &["<|tool_call:begin|>"],
        calls: &[("<|tool_call:begin|>", "<|tool_call:end|>")],
        noise: &["<|begin|>assistant", "<|content|>", "<|tool_calls|>", "<|end|>"],
        ..NONE
    },
    Format { name: "gemma", signature: &["<|tool_call>"], calls: &[("<|tool_call>", "<tool_call|>")], ..NONE },
    Format {
        name: "deepseek-v4",
        signature: &["DSML"],
        calls: &[("<｜DSML｜invoke", "</｜DSML｜invoke>")],
        noise: &["<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>"],
        ..NONE
    },
    Format {
        name: "deepseek",
        signature: &["<｜tool▁call▁begin｜>"],
        calls: &[("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>")],
        noise: &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"],
        ..NONE
    },
    Format {
        name: "kimi",
        signature: &["<|tool_call_begin|>"],
        calls: &[("<|tool_call_begin|>", "<|tool_call_end|>")],
        noise: &["<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"],
        ..NONE
    },
    Format { name: "mistral", signature: &["[TOOL_CALLS]"], calls: &[("[TOOL_CALLS]", "")], ..NONE },
    Format { name: "lfm2", signature: &["<|tool_call_start|>"], calls: &[("<|tool_call_start|>", "<|tool_call_end|>")], ..NONE },
    Format { name: "lfm2-lists", signature: &["<|tool_list_start|>"], calls: &[("<|tool_call_start|>", "<|tool_call_end|>")], ..NONE },
    Format {
        name: "cohere",
        signature: &["<|START_ACTION|>"],
        calls: &[("<|START_ACTION|>", "<|END_ACTION|>")],
        noise: &["<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"],
        ..NONE
    },
    Format { name: "command-r", signature: &["Action:", "```json", "tool_name"], calls: &[("Action:\n```json", "```")], ..NONE },
    Format { name: "gigachat", signature: &["<|function_call|>"], calls: &[("<|function_call|>", "")], ..NONE },
    Format { name: "gigachat-text", signature: &["function call", "<|role_sep|>"], calls: &[("function call<|role_sep|>", "")], ..NONE },
    Format {
        name: "minimax",
        signature: &["<minimax:tool_call>"],
        calls: &[("<invoke", "</invoke>")],
        noise: &["<minimax:tool_call>", "</minimax:tool_call>"],
        ..NONE
    },
    Format { name: "seed", signature: &["<seed:tool_call>"], calls: &[("<seed:tool_call>", "</seed:tool_call>")], ..NONE },
    Format {
        name: "apriel",
        signature: &["<tool_calls>["],
        calls: &[("<tool_calls>", "</tool_calls>")],
        noise: &["[END FINAL RESPONSE]"],
        ..NONE
    },
    Format { name: "hermes", signature: &["<tool_call>"], calls: &[("<tool_call>", "</tool_call>")], ..NONE },
    Format { name: "nemotron", signature: &["<TOOLCALL>"], calls: &[("<TOOLCALL>", "</TOOLCALL>")], ..NONE },
    Format { name: "functionary-v3.2", signature: &[">>>all"], calls: &[(">>>", "")], noise: &[">>>all\n"], ..NONE },
    Format {
        name: "functionary-v3.1",
        signature: &["<function="],
        calls: &[("<function=", "</function>"), ("<|python_tag|>", "")],
        ..NONE
    },
    Format { name: "firefunction", signature: &["functools["], calls: &[("functools", "")], ..NONE },
    Format { name: "phi", signature: &["<|/tool_call|>"], calls: &[("<|tool_call|>", "<|/tool_call|>")], ..NONE },
    Format { name: "granite", signature: &["<|tool_call|>"], calls: &[("<|tool_call|>", "")], ..NONE },
    Format { name: "llama", signature: &["ipython"], calls: &[("<|python_tag|>", "")], bare_json: true, ..NONE },
];

/// Marks of thinking, and whether a template holds them is all that tells.
pub(super) const THINKING: [(&str, &str); 8] = [
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|think|>", "<|end|>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    ("<think>", "</think>"),
];

/// Control tokens inside calls: they are text to the parser, and to nobody else.
pub(super) const INSIDE: [&str; 14] = [
    "<|\"|>",
    "[ARGS]",
    "[CALL_ID]",
    "<｜tool▁sep｜>",
    "<|tool_call_argument_begin|>",
    "<|tool_call:name|>",
    "<|tool_call:args|>",
    "<|constrain|>",
    "<|message|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<arg_key>",
    "<arg_value>",
];

/// The row that `template` is written for, and its marks of thinking.
pub(super) fn detect(template: &str) -> (Format, Option<(&'static str, &'static str)>) {
    let fits = |format: &&Format| format.signature.iter().all(|text| template.contains(text));
    let thinking = THINKING.into_iter().find(|(open, _)| template.contains(open));
    // Some templates only take thinking out of old answers.
    let closing = THINKING.into_iter().find(|(_, close)| template.contains(close));
    (FORMATS.iter().find(fits).copied().unwrap_or(NONE), thinking.or(closing))
}
