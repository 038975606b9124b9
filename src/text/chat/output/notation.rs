//! How each family writes calls of tools, as the pieces that a grammar is made of: the other direction of `calls`.

use super::formats::Format;

/// How the arguments of a call are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arguments {
    /// As one JSON object, where the call says `{arguments}`.
    Json,
    /// One by one, where the call says `{arguments}`: what stands before and behind each (with `{key}`, and `{string}` = whether it is a text), between two, and
    /// around a text.
    Pairs { open: &'static str, close: &'static str, between: &'static str, quote: &'static str },
}

/// How calls are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Notation {
    /// Before the first call.
    pub(super) before: &'static str,
    /// One call, with `{name}`, `{arguments}` and perhaps `{id}`.
    pub(super) call: &'static str,
    /// Between two; nothing = there is one call at most.
    pub(super) between: Option<&'static str>,
    /// Behind the last one.
    pub(super) after: &'static str,
    pub(super) arguments: Arguments,
}

const JSON: Notation = Notation { before: "", call: "", between: Some(""), after: "", arguments: Arguments::Json };

const XML: Arguments = Arguments::Pairs { open: "<parameter={key}>\n", close: "\n</parameter>\n", between: "", quote: "" };
const CALL: &str = r#"{"name": "{name}", "arguments": {arguments}}"#;

/// As Python writes them.
const PYTHON: Notation = Notation {
    before: "<|tool_call_start|>[",
    call: "{name}({arguments})",
    between: Some(", "),
    after: "]<|tool_call_end|>",
    arguments: Arguments::Pairs { open: "{key}=", close: "", between: ", ", quote: "\"" },
};

/// A list of calls in JSON, between marks.
const fn list(before: &'static str, call: &'static str, after: &'static str) -> Notation {
    Notation { before, call, between: Some(", "), after, ..JSON }
}

/// One call, and nothing behind it.
const fn single(call: &'static str) -> Notation {
    Notation { call, between: None, ..JSON }
}

/// Calls on lines of their own.
const fn lines(call: &'static str, arguments: Arguments) -> Notation {
    Notation { call, between: Some("\n"), arguments, ..JSON }
}

/// Format, what its template holds in this variant, and the notation. Of the variants of a format, the first that fits is meant.
const NOTATIONS: [(&str, &str, Notation); 29] = [
    ("gpt-oss", "", single("<|channel|>commentary to=functions.{name} <|constrain|>json<|message|>{arguments}")),
    (
        "solar",
        "",
        Notation {
            before: "<|tool_calls|>",
            call: "<|tool_call:begin|>{id}<|tool_call:name|>{name}<|tool_call:args|>{arguments}<|tool_call:end|>",
            ..JSON
        },
    ),
    (
        "gemma",
        "",
        Notation {
            call: "<|tool_call>call:{name}{{arguments}}<tool_call|>",
            arguments: Arguments::Pairs { open: "{key}:", close: "", between: ",", quote: "<|\"|>" },
            ..JSON
        },
    ),
    (
        "deepseek-v4",
        "",
        Notation {
            before: "<｜DSML｜tool_calls>\n",
            call: "<｜DSML｜invoke name=\"{name}\">\n{arguments}</｜DSML｜invoke>\n",
            after: "</｜DSML｜tool_calls>",
            arguments: Arguments::Pairs {
                open: "<｜DSML｜parameter name=\"{key}\" string=\"{string}\">",
                close: "</｜DSML｜parameter>\n",
                between: "",
                quote: "",
            },
            ..JSON
        },
    ),
    (
        "deepseek",
        "```json",
        Notation {
            before: "<｜tool▁calls▁begin｜>",
            call: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>",
            between: Some("\n"),
            after: "<｜tool▁calls▁end｜>",
            ..JSON
        },
    ),
    (
        "deepseek",
        "",
        Notation {
            before: "<｜tool▁calls▁begin｜>",
            call: "<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>",
            after: "<｜tool▁calls▁end｜>",
            ..JSON
        },
    ),
    (
        "kimi",
        "",
        Notation {
            before: "<|tool_calls_section_begin|>",
            call: "<|tool_call_begin|>functions.{name}:{id}<|tool_call_argument_begin|>{arguments}<|tool_call_end|>",
            after: "<|tool_calls_section_end|>",
            ..JSON
        },
    ),
    ("mistral", "[CALL_ID]", Notation { call: "[TOOL_CALLS]{name}[CALL_ID]{id}[ARGS]{arguments}", ..JSON }),
    ("mistral", "[ARGS]", Notation { call: "[TOOL_CALLS]{name}[ARGS]{arguments}", ..JSON }),
    ("mistral", "", list("[TOOL_CALLS][", CALL, "]")),
    ("lfm2", "", PYTHON),
    ("lfm2-lists", "", PYTHON),
    (
        "cohere",
        "",
        list(
            "<|START_ACTION|>[\n    ",
            r#"{"tool_call_id": "{id}", "tool_name": "{name}", "parameters": {arguments}}"#,
            "\n]<|END_ACTION|>",
        ),
    ),
    ("command-r", "", list("Action:\n```json\n[", r#"{"tool_name": "{name}", "parameters": {arguments}}"#, "]```")),
    ("gigachat", "", single(r#"<|function_call|>{"name": "{name}", "arguments": {arguments}}"#)),
    ("gigachat-text", "", single(r#"function call<|role_sep|>{"name": "{name}", "arguments": {arguments}}"#)),
    (
        "minimax",
        "",
        Notation {
            before: "<minimax:tool_call>\n",
            call: "<invoke name=\"{name}\">\n{arguments}</invoke>\n",
            after: "</minimax:tool_call>",
            arguments: Arguments::Pairs { open: "<parameter name=\"{key}\">", close: "</parameter>\n", between: "", quote: "" },
            ..JSON
        },
    ),
    ("seed", "", lines("<seed:tool_call>\n<function={name}>\n{arguments}</function>\n</seed:tool_call>", XML)),
    (
        "hermes",
        "<arg_key>",
        lines(
            "<tool_call>{name}\n{arguments}</tool_call>",
            Arguments::Pairs { open: "<arg_key>{key}</arg_key>\n<arg_value>", close: "</arg_value>\n", between: "", quote: "" },
        ),
    ),
    ("hermes", "<function=", lines("<tool_call>\n<function={name}>\n{arguments}</function>\n</tool_call>", XML)),
    ("hermes", "", lines("<tool_call>\n{\"name\": \"{name}\", \"arguments\": {arguments}}\n</tool_call>", Arguments::Json)),
    ("apriel", "", list("<tool_calls>[", CALL, "]</tool_calls>")),
    ("nemotron", "", list("<TOOLCALL>[", CALL, "]</TOOLCALL>")),
    ("functionary-v3.2", "", single(">>>{name}\n{arguments}")),
    ("functionary-v3.1", "", Notation { call: "<function={name}>{arguments}</function>", ..JSON }),
    ("firefunction", "", list(" functools[", CALL, "]")),
    ("phi", "", list("<|tool_call|>[", CALL, "]<|/tool_call|>")),
    ("granite", "", list("<|tool_call|>[", CALL, "]")),
    ("llama", "", single(r#"{"name": "{name}", "parameters": {arguments}}"#)),
];

/// The notation of `format`, in the variant that `template` shows.
pub(super) fn of(format: &Format, template: &str) -> Option<Notation> {
    let fits = |(name, holds, _): &&(&str, &str, Notation)| *name == format.name && template.contains(holds);
    NOTATIONS.iter().find(fits).map(|(.., notation)| *notation)
}
