//! The messages and tools of a chat, in the shape of OpenAI's API: checked, and brought into the form that templates expect.

use super::json::Json;
use crate::error::Result;
use crate::fail;

/// Names under which hosts send the reasoning of a message; templates read the first and the second.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Checks `messages` and completes them.
///
/// Reasoning is put where templates look for it, and the arguments of tool calls, which the API writes as a text, become values.
///
/// # Errors
/// `InvalidArgument`, naming the place.
pub(super) fn checked_messages(messages: Json) -> Result<Vec<Json>> {
    let Json::Array(messages) = messages else { fail!(InvalidArgument, "messages: {}, expected an array", messages.kind()) };
    if messages.is_empty() {
        fail!(InvalidArgument, "messages: empty, expected one message at least");
    }
    messages.into_iter().enumerate().map(|(i, message)| checked_message(message, i)).collect()
}

fn checked_message(message: Json, i: usize) -> Result<Json> {
    let Json::Object(mut fields) = message else {
        fail!(InvalidArgument, "messages[{i}]: {}, expected an object", message.kind());
    };
    let mut has_role = false;
    for (key, value) in &mut fields {
        match (key.as_str(), &mut *value) {
            ("role", Json::String(role)) if !role.is_empty() => has_role = true,
            ("role", other) => fail!(InvalidArgument, "messages[{i}].role: {}, expected a name", other.kind()),
            ("content", Json::Array(parts)) => check_parts(parts, i)?,
            ("content", Json::String(_) | Json::Null) => {}
            ("content", other) => {
                fail!(InvalidArgument, "messages[{i}].content: {}, expected a string, an array of parts, or null", other.kind());
            }
            ("tool_calls", Json::Array(calls)) => calls.iter_mut().enumerate().try_for_each(|(k, call)| check_call(call, i, k))?,
            ("tool_calls", Json::Null) => {}
            ("tool_calls", other) => fail!(InvalidArgument, "messages[{i}].tool_calls: {}, expected an array", other.kind()),
            _ => {}
        }
    }
    if !has_role {
        fail!(InvalidArgument, "messages[{i}].role: missing");
    }
    alias_reasoning(&mut fields);
    Ok(Json::Object(fields))
}

fn check_parts(parts: &[Json], i: usize) -> Result<()> {
    for (k, part) in parts.iter().enumerate() {
        if part.as_str().is_none() && part.get("type").and_then(Json::as_str).is_none() {
            fail!(InvalidArgument, "messages[{i}].content[{k}]: expected a string, or an object with \"type\"");
        }
    }
    Ok(())
}

/// Checks one call of a tool; arguments that are written as a text become what they say.
fn check_call(call: &mut Json, i: usize, k: usize) -> Result<()> {
    let place = format!("messages[{i}].tool_calls[{k}]");
    let Json::Object(fields) = call else { fail!(InvalidArgument, "{place}: {}, expected an object", call.kind()) };
    let Some((_, function)) = fields.iter_mut().find(|(key, _)| key == "function") else { return Ok(()) };
    let Json::Object(function) = function else { fail!(InvalidArgument, "{place}.function: {}, expected an object", function.kind()) };
    if !function.iter().any(|(key, value)| key == "name" && value.as_str().is_some()) {
        fail!(InvalidArgument, "{place}.function.name: missing, or no string");
    }
    let arguments = function.iter_mut().find(|(key, _)| key == "arguments").map(|(_, value)| value);
    if let Some(arguments) = arguments
        && let Some(Ok(parsed @ Json::Object(_))) = arguments.as_str().map(|text| Json::parse("arguments", text))
    {
        *arguments = parsed;
    }
    Ok(())
}

/// As `transformers` does: `reasoning_content` from whichever name has it, and `thinking`, which gpt-oss reads.
fn alias_reasoning(fields: &mut Vec<(String, Json)>) {
    let find = |fields: &[(String, Json)], name: &str| fields.iter().position(|(key, value)| key == name && *value != Json::Null);
    let Some(at) = REASONING.iter().find_map(|name| find(fields, name)) else { return };
    let reasoning = fields[at].1.clone();
    if !fields.iter().any(|(key, _)| key == "thinking") {
        fields.insert(0, ("thinking".to_owned(), reasoning.clone()));
    }
    match fields.iter_mut().find(|(key, _)| key == "reasoning_content") {
        Some((_, value)) => *value = reasoning,
        None => fields.push(("reasoning_content".to_owned(), reasoning)),
    }
}

/// Checks `tools`; `None` if there are none.
///
/// # Errors
/// `InvalidArgument`, naming the place.
pub(super) fn checked_tools(tools: Json) -> Result<Option<Vec<Json>>> {
    let tools = match tools {
        Json::Null => return Ok(None),
        Json::Array(tools) if tools.is_empty() => return Ok(None),
        Json::Array(tools) => tools,
        other => fail!(InvalidArgument, "tools: {}, expected an array", other.kind()),
    };
    for (i, tool) in tools.iter().enumerate() {
        let Json::Object(_) = tool else { fail!(InvalidArgument, "tools[{i}]: {}, expected an object", tool.kind()) };
        if let Some(function) = tool.get("function")
            && function.get("name").and_then(Json::as_str).is_none()
        {
            fail!(InvalidArgument, "tools[{i}].function.name: missing, or no string");
        }
    }
    Ok(Some(tools))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Vec<Json>> {
        checked_messages(Json::parse("messages", text)?)
    }

    #[test]
    fn the_shape_is_checked_and_the_place_named() {
        for (text, place) in [
            ("{}", "messages: an object"),
            ("[]", "messages: empty"),
            ("[1]", "messages[0]: a number"),
            (r#"[{"content":"x"}]"#, "messages[0].role: missing"),
            (r#"[{"role":7}]"#, "messages[0].role: a number"),
            (r#"[{"role":"user","content":7}]"#, "messages[0].content: a number"),
            (r#"[{"role":"user","content":[{}]}]"#, "messages[0].content[0]"),
            (r#"[{"role":"a","tool_calls":{}}]"#, "messages[0].tool_calls: an object"),
            (r#"[{"role":"a","tool_calls":[{"function":{}}]}]"#, "messages[0].tool_calls[0].function.name"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.message().starts_with(place), "{text}: {error}");
        }
        let tools = |text| checked_tools(Json::parse("tools", text).unwrap());
        assert_eq!(tools("[]").unwrap(), None);
        assert!(tools("{}").is_err() && tools("[1]").is_err() && tools(r#"[{"function":{}}]"#).is_err());
    }

    #[test]
    fn arguments_become_values_and_reasoning_is_found() {
        let call = r#"[{"role":"a","reasoning":"r","tool_calls":[{"function":{"name":"f","arguments":"{\"b\":1,\"a\":2}"}}]}]"#;
        let message = &check(call).unwrap()[0];
        assert_eq!(
            message.to_string(),
            r#"{"thinking":"r","role":"a","reasoning":"r","tool_calls":[{"function":{"name":"f","arguments":{"b":1,"a":2}}}],"reasoning_content":"r"}"#
        );
        let broken = r#"[{"role":"a","tool_calls":[{"function":{"name":"f","arguments":"{\"b"}}]}]"#;
        assert!(check(broken).unwrap()[0].to_string().contains(r#""arguments":"{\"b""#));
    }
}
