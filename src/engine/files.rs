//! The files that a model is made from: GGUF, a Hugging Face directory, or, for its tokenizer alone, `tokenizer.json` and what lies beside it.

use super::companions::is_companion;
use super::directory::{self, Directory, HfFiles, TOKENIZER_CONFIG, TOKENIZER_JSON};
use super::log::LogLevel;
use super::model::LoadConfig;
use super::runtime::Runtime;
use crate::error::{Error, Result};
use crate::fail;
use crate::formats::gguf::Gguf;
use crate::model::ModelFile;
use crate::sys::file::{FileSource, ReadAt, exists, is_directory, read_all};
use crate::sys::mapping::MappedFile;
use crate::sys::progress::{Progress, Watched};
use crate::text::Tokenizer;
use crate::text::limits::MAX_JSON_BYTES;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files that published models have beside their weights, by the ends of their names: told apart from a broken GGUF file.
const COMPANIONS: [&str; 5] = [".json", ".safetensors", ".jinja", ".model", ".txt"];

/// What was found.
pub(super) enum Opened {
    Gguf(Gguf),
    Hf(Box<HfFiles>),
    /// `tokenizer.json`, and `tokenizer_config.json`, if there is one.
    Json(Vec<u8>, Option<Vec<u8>>),
}

impl Opened {
    /// In slices.
    pub(super) async fn tokenizer(&self, config: &LoadConfig, progress: &Progress) -> Result<Tokenizer> {
        let instead = config.pre_tokenizer.as_deref();
        match self {
            Self::Gguf(gguf) => Tokenizer::from_gguf_with(gguf.metadata(), instead, progress).await,
            Self::Hf(files) => {
                let n_vocab = Some(files.model.spec().n_vocab);
                Tokenizer::from_json_for(&files.tokenizer, files.tokenizer_config.as_deref(), instead, n_vocab)
            }
            Self::Json(tokenizer, settings) => Tokenizer::from_json_with(tokenizer, settings.as_deref(), instead),
        }
    }

    pub(super) fn into_model(self) -> Option<ModelFile> {
        match self {
            Self::Gguf(gguf) => Some(ModelFile::Gguf(gguf)),
            Self::Hf(files) => Some(ModelFile::Hf(Box::new(files.model))),
            Self::Json(..) => None,
        }
    }
}

/// Opens what `config` names, in slices; what is read counts as progress.
pub(super) async fn open(runtime: &Arc<Runtime>, config: &LoadConfig, progress: &Arc<Progress>) -> Result<Opened> {
    let watched = |source: Arc<dyn ReadAt>| Arc::new(Watched::new(source, progress.clone())) as Arc<dyn ReadAt>;
    let file = |path: &Path| Ok(watched(if config.mmap { mapped(runtime, path)? } else { Arc::new(FileSource::open(path)?) }));
    if let Some(paths) = config.vocab_only.then(|| tokenizer_files(config)).flatten() {
        let sources = paths.iter().map(|path| file(path)).chain(config.sources.iter().map(|source| Ok(watched(source.clone()))));
        return open_json(sources.collect::<Result<_>>()?);
    }
    if let Some(directory) = hf_directory(config, &file, &watched)? {
        return Ok(Opened::Hf(Box::new(directory.open()?)));
    }
    source_names(config).try_for_each(|name| refuse_companion(&name))?;
    let gguf = match (&config.paths[..], &config.sources[..]) {
        ([], []) => fail!(InvalidArgument, "no model file was given"),
        ([path], []) => Gguf::open_with(path, &file).await?,
        (paths, sources) => {
            let files = paths.iter().map(|path| file(path));
            Gguf::from_sources(files.chain(sources.iter().map(|source| Ok(watched(source.clone())))).collect::<Result<_>>()?).await?
        }
    };
    Ok(Opened::Gguf(gguf))
}

/// The file at `path`, to be mapped when a part of it is to stay there.
fn mapped(runtime: &Arc<Runtime>, path: &Path) -> Result<Arc<dyn ReadAt>> {
    let runtime = runtime.clone();
    let refused = move |e: &Error| runtime.log().line(LogLevel::Warning, || format!("{e}: not mapped, but read and packed as ever"));
    Ok(Arc::new(MappedFile::new(FileSource::open(path)?, refused)))
}

/// The paths of `tokenizer.json` and what is beside it, if that is what `config` names: by its directory, itself, or as sources.
fn tokenizer_files(config: &LoadConfig) -> Option<Vec<PathBuf>> {
    match (&config.paths[..], &config.sources[..]) {
        ([path], []) => {
            let tokenizer = if is_directory(path) { path.join(TOKENIZER_JSON) } else { path.clone() };
            let settings = tokenizer.with_file_name(TOKENIZER_CONFIG);
            let is_json = tokenizer.file_name()? == TOKENIZER_JSON;
            is_json.then(|| if exists(&settings) { vec![tokenizer, settings] } else { vec![tokenizer] })
        }
        ([], [_, ..]) => source_names(config).all(|name| name.ends_with(".json") || is_companion(&name)).then(Vec::new),
        _ => None,
    }
}

/// The sources are told apart by their names.
fn open_json(sources: Vec<Arc<dyn ReadAt>>) -> Result<Opened> {
    let is_settings = |source: &Arc<dyn ReadAt>| source.name().is_some_and(|name| name.ends_with(TOKENIZER_CONFIG));
    let of_tokenizer = sources.into_iter().filter(|source| !source.name().is_some_and(is_companion));
    let (settings, tokenizer): (Vec<_>, Vec<_>) = of_tokenizer.partition(is_settings);
    let ([tokenizer], [] | [_]) = (&tokenizer[..], &settings[..]) else {
        fail!(InvalidArgument, "expected one {TOKENIZER_JSON}, and one {TOKENIZER_CONFIG} at most");
    };
    let settings = settings.first().map(|source| read_all(&**source, MAX_JSON_BYTES)).transpose()?;
    Ok(Opened::Json(read_all(&**tokenizer, MAX_JSON_BYTES)?, settings))
}

fn source_names(config: &LoadConfig) -> impl Iterator<Item = String> {
    let paths = config.paths.iter().map(|path| path.display().to_string());
    paths.chain(config.sources.iter().map(|source| source.name().unwrap_or("memory").to_owned()))
}

/// The Hugging Face directory that `config` names, by its path or by the files of one.
fn hf_directory<'a>(
    config: &LoadConfig,
    file: &'a dyn Fn(&Path) -> Result<Arc<dyn ReadAt>>,
    watched: &dyn Fn(Arc<dyn ReadAt>) -> Arc<dyn ReadAt>,
) -> Result<Option<Directory<'a>>> {
    if let ([path], []) = (&config.paths[..], &config.sources[..])
        && is_directory(path)
    {
        return Ok(directory::is_model(path).then(|| Directory::Path(path.clone(), file)));
    }
    if config.paths.len() + config.sources.len() < 2 || !source_names(config).any(|name| directory::is_config(&name)) {
        return Ok(None);
    }
    let paths = config.paths.iter().map(|path| file(path));
    let sources = paths.chain(config.sources.iter().map(|source| Ok(watched(source.clone()))));
    Ok(Some(Directory::Sources(sources.collect::<Result<_>>()?)))
}

fn refuse_companion(name: &str) -> Result<()> {
    let lower = name.to_ascii_lowercase();
    if COMPANIONS.iter().any(|end| lower.ends_with(end)) {
        fail!(
            Unsupported,
            "{name}: this is one file of several: this build loads models from GGUF files and Hugging Face directories, and with vocab_only a \
             {TOKENIZER_JSON}"
        );
    }
    Ok(())
}

/// An error that says which model it is about: by its first file, where the error does not name a file already.
pub(super) fn named(e: Error, config: &LoadConfig) -> Error {
    match source_names(config).next() {
        Some(name) if !source_names(config).any(|name| e.message().contains(&name)) => e.at(name),
        _ => e,
    }
}
