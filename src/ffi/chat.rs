//! Chats: messages become a prompt. `inf_generate_start` does so by itself; this is for hosts that want to see it.

use super::boundary;
use super::bytes::{self, Buffer};
use super::handle;
use super::model::inf_model;
use super::status::{inf_error, inf_status};
use crate::text::chat::ChatRequest;
use std::ffi::c_char;

/// Writes the prompt that a chat generation would compute: the messages, as the model's chat template lays them out.
///
/// messages_json has the shape of OpenAI's API: `[{"role":"system","content":".."},{"role":"user","content":".."}]`. content is a string, null, or an array of parts;
/// an assistant may have `tool_calls` and `reasoning_content`, a tool `tool_call_id` and `name`. tools_json: `[{"type":"function","function":{"name":..,
/// "description":..,"parameters":{..}}}]`. options_json: `{"add_generation_prompt":true,"chat_template":"..","now":1767225600}`, and variables of the template,
/// such as `"enable_thinking":false`. The prompt ends with what makes the model answer unless add_generation_prompt is false; now, in seconds since
/// 1970, is for templates that write the date. An unknown key is an error that names it. tools_json and options_json may be NULL.
///
/// Templates are run with bounds on time, memory and depth, on a stack of our own. buf, cap and len follow the rules for buffers. Any thread. Blocks for the
/// time of the work only.
///
/// - `INF_ERR_INVALID_ARGUMENT`: messages, tools or options have another shape; the sentence names the place, and where it is no JSON, `detail[0]` is the byte offset.
/// - `INF_ERR_TEMPLATE`: the template failed or refused the chat; the sentence has line and cause, `detail[0]` the line.
/// - `INF_ERR_UNSUPPORTED`: neither the model nor options_json has a template.
/// - `INF_ERR_BUFFER_TOO_SMALL`: `*len` is the size needed.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn inf_chat_render(
    m: *const inf_model,
    messages_json: *const c_char,
    messages_len: usize,
    tools_json: *const c_char,
    tools_len: usize,
    options_json: *const c_char,
    options_len: usize,
    buf: *mut c_char,
    cap: usize,
    len: *mut usize,
    err: *mut inf_error,
) -> inf_status {
    // SAFETY: the header's contract on pointers.
    unsafe {
        boundary::status(err, || {
            let model = handle::get(m)?;
            let buffer = Buffer::new(buf.cast(), cap, len)?;
            let messages = bytes::text("messages_json", messages_json, messages_len)?;
            let tools = bytes::text("tools_json", tools_json, tools_len)?;
            let options = bytes::text("options_json", options_json, options_len)?;
            let request = ChatRequest::parse(messages, tools, options)?;
            buffer.fill_string(model.render_chat(&request)?.text().as_bytes())
        })
    }
}
