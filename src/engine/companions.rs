//! What lies beside the weights or the tokenizer of a published model and is neither: chat templates and recommended sampling. For `Model`.

use super::model::LoadConfig;
use super::recommended::Recommended;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::sys::file::{FileSource, ReadAt, exists, is_directory, read_all};
use crate::sys::stack::on_own_stack;
use crate::text::chat::Json;
use crate::text::limits::MAX_TEMPLATE_BYTES;
use std::path::Path;
use std::sync::Arc;

const TEMPLATE: &str = "chat_template.jinja";
const SETTINGS: &str = "tokenizer_config.json";
const GENERATION: &str = "generation_config.json";

/// Bytes of a file of settings: lists of added tokens make some of 2 MB.
const MAX_SETTINGS_BYTES: usize = 1 << 24;

/// What was found; nothing beside a GGUF file.
#[derive(Default)]
pub(super) struct Companions {
    /// The template of chats, and the one for chats with tools where it differs.
    pub(super) templates: Option<(String, Option<String>)>,
    /// Of `generation_config.json`.
    pub(super) recommended: Option<Recommended>,
}

/// True if the file called `name` is for this room alone.
pub(super) fn is_companion(name: &str) -> bool {
    [TEMPLATE, GENERATION].iter().any(|companion| name.ends_with(companion))
}

impl Companions {
    /// What lies in the directory that `config` names, or beside its `tokenizer.json`, or is among its sources.
    ///
    /// # Errors
    /// `Format` for a file that is no JSON or has values of other types; it names the file.
    pub(super) fn find(config: &LoadConfig) -> Result<Self> {
        let read = |name: &str| -> Result<Option<String>> {
            let Some(source) = open(config, name)? else { return Ok(None) };
            let most = if name == TEMPLATE { MAX_TEMPLATE_BYTES } else { MAX_SETTINGS_BYTES };
            let text = String::from_utf8(read_all(&*source, most)?);
            text.map(Some).map_err(|_| Error::new(ErrorKind::Format, format!("{name}: not UTF-8")))
        };
        let templates = match read(TEMPLATE)? {
            Some(template) => Some((template, None)),
            None => read(SETTINGS)?.map(|text| parsed(SETTINGS, &text, templates)).transpose()?.flatten(),
        };
        let recommended = read(GENERATION)?.map(|text| parsed(GENERATION, &text, Recommended::from_generation_config)).transpose()?;
        Ok(Self { templates, recommended })
    }
}

fn open(config: &LoadConfig, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
    let is_wanted = |source: &&Arc<dyn ReadAt>| source.name().is_some_and(|given| given.ends_with(name));
    if let Some(source) = config.sources.iter().find(is_wanted) {
        return Ok(Some(source.clone()));
    }
    let [path] = &config.paths[..] else { return Ok(None) };
    let directory = if is_directory(path) { Some(path.as_path()) } else { path.parent().filter(|_| path.ends_with("tokenizer.json")) };
    let open = |path: &Path| Ok(Arc::new(FileSource::open(path)?) as Arc<dyn ReadAt>);
    directory.map(|directory| directory.join(name)).filter(|path| exists(path)).map(|path| open(&path)).transpose()
}

fn parsed<T>(name: &str, text: &str, read: impl FnOnce(&Json) -> Result<T>) -> Result<T> {
    let wrong = |e: Error| Error::new(ErrorKind::Format, e.message().to_owned());
    let json = on_own_stack(|| Json::parse(name, text)).map_err(wrong)?;
    read(&json).map_err(|e| wrong(e).at(name))
}

/// `"chat_template"`: one text, or several with names.
fn templates(settings: &Json) -> Result<Option<(String, Option<String>)>> {
    match settings.get("chat_template") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(template)) => Ok(Some((template.clone(), None))),
        Some(Json::Array(list)) => {
            let named = |name: &str| {
                let found = list.iter().find(|entry| entry.get("name").and_then(Json::as_str) == Some(name));
                found.and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned)
            };
            let first = list.first().and_then(|entry| entry.get("template")?.as_str()).map(str::to_owned);
            Ok(named("default").or(first).map(|default| (default, named("tool_use"))))
        }
        Some(other) => fail!(Format, "\"chat_template\" is {}, expected a text or a list", other.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Stage;
    use crate::text::Token;

    /// What is found in a directory with these files.
    fn found(files: &[(&str, &str)]) -> Result<Companions> {
        let name = files.iter().map(|(name, text)| name.len() * 31 + text.len()).sum::<usize>();
        let directory = std::env::temp_dir().join(format!("inference-companions-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        files.iter().try_for_each(|(name, text)| std::fs::write(directory.join(name), text))?;
        let config = LoadConfig { paths: vec![directory.clone()], ..LoadConfig::default() };
        let companions = Companions::find(&config);
        std::fs::remove_dir_all(directory)?;
        companions
    }

    #[test]
    fn templates_come_from_their_file_or_from_the_settings() {
        let templates = |files: &[(&str, &str)]| found(files).unwrap().templates;
        let settings = (SETTINGS, r#"{"chat_template":"from settings"}"#);
        assert_eq!(templates(&[]), None);
        assert_eq!(templates(&[settings]), Some(("from settings".into(), None)));
        assert_eq!(templates(&[settings, (TEMPLATE, "from file")]), Some(("from file".into(), None)));
        let list = r#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}"#;
        assert_eq!(templates(&[(SETTINGS, list)]), Some(("d".into(), Some("t".into()))));
        for wrong in ["{", r#"{"chat_template":7}"#] {
            let error = found(&[(SETTINGS, wrong)]).err().unwrap();
            assert!(error.kind() == ErrorKind::Format && error.message().contains(SETTINGS), "{error}");
        }
    }

    #[test]
    fn recommended_sampling_is_read() {
        let text = r#"{"do_sample":true,"temperature":0.7,"top_p":0.8,"top_k":20,"repetition_penalty":1.05,"eos_token_id":[7,9],"bos_token_id":1}"#;
        let recommended = found(&[(GENERATION, text)]).unwrap().recommended.unwrap();
        assert_eq!(recommended.ends, [7, 9] as [Token; 2]);
        let stages = recommended.stages();
        assert!(stages.contains(&Stage::TopK(20)) && stages.contains(&Stage::TopP(0.8)) && stages.contains(&Stage::Temperature(0.7)));
        assert!(stages.iter().any(|stage| matches!(stage, Stage::Penalties { repeat, .. } if *repeat == 1.05)), "{stages:?}");
        let error = found(&[(GENERATION, r#"{"top_k":"many"}"#)]).err().unwrap();
        assert!(error.message().contains(GENERATION) && error.message().contains("\"top_k\""), "{error}");
    }
}
