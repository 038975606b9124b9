//! A Hugging Face directory: which of its files a model is made of. `files` opens models with it.
//!
//! The same files may come one by one, from memory or readers: then their names tell them apart.

use crate::error::{Error, Result};
use crate::fail;
use crate::formats::config_json::{ConfigJson, Object};
use crate::formats::gguf::Value;
use crate::formats::limits::MAX_CONFIG_BYTES;
use crate::formats::safetensors::{Safetensors, shards};
use crate::model::HfModel;
use crate::sys::file::{ReadAt, exists, read_all};
use crate::text::limits::MAX_JSON_BYTES;
use crate::text::{HUGGINGFACE_CONFIG, HUGGINGFACE_JSON};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) const TOKENIZER_JSON: &str = "tokenizer.json";
pub(super) const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// What sentence-transformers puts beside a model: it embeds text and does not continue it.
const EMBEDDING_FILES: [&str; 3] = ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"];

/// Opens a path.
type OpenPath<'a> = &'a dyn Fn(&Path) -> Result<Arc<dyn ReadAt>>;

/// The files of a directory, by name.
pub(super) enum Directory<'a> {
    /// Files are opened as they are needed.
    Path(PathBuf, OpenPath<'a>),
    /// Files that the host has handed over.
    Sources(Vec<Arc<dyn ReadAt>>),
}

/// What a model is made of.
pub(super) struct HfFiles {
    pub(super) model: HfModel,
    /// `tokenizer.json`
    pub(super) tokenizer: Vec<u8>,
    /// `tokenizer_config.json`
    pub(super) tokenizer_config: Option<Vec<u8>>,
}

/// True if the file called `name` is the one that describes a Hugging Face model.
pub(super) fn is_config(name: &str) -> bool {
    last_part(name) == CONFIG
}

/// True if there is a model in the directory at `path`, or something that looks like one.
pub(super) fn is_model(path: &Path) -> bool {
    [CONFIG, WEIGHTS, INDEX].iter().chain(&EMBEDDING_FILES).any(|name| exists(&path.join(name)))
}

impl Directory<'_> {
    /// The file called `name`, if it is there.
    fn find(&self, name: &str) -> Result<Option<Arc<dyn ReadAt>>> {
        match self {
            Self::Path(path, open) => {
                let path = path.join(name);
                if exists(&path) { open(&path).map(Some) } else { Ok(None) }
            }
            Self::Sources(sources) => Ok(sources.iter().find(|source| file_name(&***source) == name).cloned()),
        }
    }

    /// The bytes of `name`, of which there may be `most`.
    fn bytes(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>> {
        self.find(name)?.map(|source| read_all(&*source, most)).transpose()
    }

    fn required(&self, name: &str, most: usize) -> Result<Vec<u8>> {
        match self.bytes(name, most)? {
            Some(bytes) => Ok(bytes),
            None => fail!(Unsupported, "{name} is missing: a Hugging Face model needs it"),
        }
    }

    /// Opens the model: reads everything but the weights.
    ///
    /// # Errors
    /// `Unsupported` for what is no text model of this build, `Format`, `Io`, `OutOfMemory`; they name file and key.
    pub(super) fn open(&self) -> Result<HfFiles> {
        for name in EMBEDDING_FILES {
            if self.find(name)?.is_some() {
                fail!(
                    Unsupported,
                    "{name}: this is a sentence-transformers model, which embeds text; this build runs models that generate it"
                );
            }
        }
        let config = ConfigJson::parse(&self.required(CONFIG, MAX_CONFIG_BYTES)?).map_err(|e| e.at(CONFIG))?;
        let mut model = HfModel::new(&config, self.weights()?)?;
        let tokenizer = self.required(TOKENIZER_JSON, MAX_JSON_BYTES)?;
        let tokenizer_config = self.bytes(TOKENIZER_CONFIG, MAX_JSON_BYTES)?;
        let mut metadata = self.chat_templates(tokenizer_config.as_deref())?;
        // The GGUF specification has a key for the one; the other is ours.
        metadata.push((HUGGINGFACE_JSON.to_owned(), Value::String(tokenizer.as_slice().into())));
        metadata.extend(tokenizer_config.as_deref().map(|config| (HUGGINGFACE_CONFIG.to_owned(), Value::String(config.into()))));
        model.add_metadata(metadata)?;
        Ok(HfFiles { model, tokenizer, tokenizer_config })
    }

    /// All shards.
    fn weights(&self) -> Result<Safetensors> {
        let names = match self.bytes(INDEX, MAX_CONFIG_BYTES)? {
            Some(index) => shards(&index).map_err(|e| e.at(INDEX))?,
            None => vec![WEIGHTS.to_owned()],
        };
        let find = |name: &String| match self.find(name)? {
            Some(source) => Ok(source),
            None => fail!(Unsupported, "{name} is missing: this build reads weights from safetensors and GGUF files"),
        };
        Safetensors::new(names.iter().map(find).collect::<Result<_>>()?)
    }

    /// The chat templates as GGUF has them.
    fn chat_templates(&self, tokenizer_config: Option<&[u8]>) -> Result<Vec<(String, Value)>> {
        const KEY: &str = "tokenizer.chat_template";
        if let Some(template) = self.bytes(CHAT_TEMPLATE, MAX_CONFIG_BYTES)? {
            return Ok(vec![(KEY.to_owned(), Value::String(template.into()))]);
        }
        let Some(config) = tokenizer_config else { return Ok(Vec::new()) };
        let in_file = |e: Error| e.at(TOKENIZER_CONFIG);
        let config = ConfigJson::parse(config).map_err(in_file)?;
        let (root, key) = (config.root(), "chat_template");
        let named = |name: &str| if name == "default" { KEY.to_owned() } else { format!("{KEY}.{name}") };
        match root.get(key) {
            None => Ok(Vec::new()),
            Some(serde_json::Value::Array(_)) => {
                let each = root.objects(key).map_err(in_file)?.into_iter();
                let entry = |object: Object<'_>| {
                    let (name, template) = (object.text("name")?, object.text("template")?);
                    match (name, template) {
                        (Some(name), Some(template)) => Ok((named(name), Value::from(template))),
                        _ => Err(root.wrong(key, "a list of names and templates")),
                    }
                };
                each.map(entry).collect::<Result<_>>().map_err(in_file)
            }
            Some(_) => Ok(root.text(key).map_err(in_file)?.map(|template| (KEY.to_owned(), Value::from(template))).into_iter().collect()),
        }
    }
}

/// The last part of what `source` is called.
fn file_name(source: &dyn ReadAt) -> &str {
    last_part(source.name().unwrap_or_default())
}

fn last_part(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}
