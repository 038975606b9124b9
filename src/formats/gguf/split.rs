//! Models in several files: `name-00001-of-00003.gguf` and so on, each a GGUF file with its share of the tensors.
//!
//! Source: llama.cpp's `gguf-split`. The first part has the metadata of the model; all have the three `split.*` keys.

use crate::error::Result;
use crate::fail;
use crate::formats::cursor::at_most;
use crate::formats::gguf::metadata::Metadata;
use crate::formats::limits::MAX_SPLITS;
use std::path::{Path, PathBuf};

/// What a part says about its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    /// Which part this is, from 0.
    pub(crate) no: usize,
    /// How many parts there are; 2 or more.
    pub(crate) count: usize,
    /// Tensors of all parts together.
    pub(crate) n_tensors: usize,
}

impl Split {
    /// What `metadata` says; `None` if the file is a model of its own.
    ///
    /// # Errors
    /// `Format`, if keys are missing or contradict each other.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        // Merging a set leaves the key behind, as 0.
        let count = metadata.u64_or("split.count", 0)?;
        if count <= 1 {
            return Ok(None);
        }
        at_most(MAX_SPLITS, count, "parts of a split set")?;
        let (no, count) = (metadata.usize("split.no")?, metadata.usize("split.count")?);
        if no >= count {
            fail!(Format, "split.no is {no}, expected less than split.count, {count}");
        }
        Ok(Some(Self { no, count, n_tensors: metadata.usize("split.tensors.count")? }))
    }

    /// The paths of all parts, of which this one is `path`.
    ///
    /// # Errors
    /// `Format` if the file is not named by the rule that finds the others.
    pub(crate) fn paths(self, path: &Path) -> Result<Vec<PathBuf>> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(prefix) = name.strip_suffix(&self.suffix(self.no)) else {
            fail!(Format, "it is part {} of {}, so its name must end in {:?}", self.number(), self.count, self.suffix(self.no));
        };
        Ok((0..self.count).map(|no| path.with_file_name(format!("{prefix}{}", self.suffix(no)))).collect())
    }

    /// Which part this is, as a person counts.
    pub(crate) fn number(self) -> usize {
        self.no.saturating_add(1)
    }

    fn suffix(self, no: usize) -> String {
        format!("-{:05}-of-{:05}.gguf", no.saturating_add(1), self.count)
    }
}

/// Fails unless `parts`, in order, are one whole set that together has `n_tensors` tensors.
///
/// # Errors
/// `InvalidArgument` if a part is missing or given twice, `Format` if the parts contradict each other.
pub(crate) fn check_set(parts: &[Option<Split>], n_tensors: usize) -> Result<()> {
    for (i, part) in parts.iter().enumerate() {
        let Some(split) = part else {
            match parts.len() {
                1 => return Ok(()),
                n => fail!(InvalidArgument, "{n} files are given, but one is not part of a split set"),
            }
        };
        if split.count != parts.len() {
            fail!(InvalidArgument, "a split set of {} parts, of which {} are given", split.count, parts.len());
        }
        if split.no != i {
            fail!(InvalidArgument, "part {} of {} is missing", i.saturating_add(1), split.count);
        }
        if split.n_tensors != n_tensors {
            fail!(Format, "the parts have {n_tensors} tensors, but split.tensors.count of part {} is {}", split.number(), split.n_tensors);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: Split = Split { no: 1, count: 3, n_tensors: 9 };

    #[test]
    fn the_paths_of_all_parts_follow_from_one() {
        let paths = SECOND.paths(Path::new("models/a-00002-of-00003.gguf")).unwrap();
        let expected = ["models/a-00001-of-00003.gguf", "models/a-00002-of-00003.gguf", "models/a-00003-of-00003.gguf"];
        assert!(paths.iter().map(PathBuf::as_path).eq(expected.map(Path::new)));
        let error = SECOND.paths(Path::new("a.gguf")).unwrap_err();
        assert!(error.message().contains("-00002-of-00003.gguf"), "{error}");
    }

    #[test]
    fn a_set_is_whole_or_refused() {
        let part = |no| Some(Split { no, ..SECOND });
        assert!(check_set(&[None], 4).is_ok());
        assert!(check_set(&[part(0), part(1), part(2)], 9).is_ok());
        let refused = [
            (check_set(&[part(0), part(1), part(2)], 8), ErrorKind::Format),
            (check_set(&[part(0), part(2)], 9), ErrorKind::InvalidArgument),
            (check_set(&[part(0), part(2), part(2)], 9), ErrorKind::InvalidArgument),
            (check_set(&[part(0)], 9), ErrorKind::InvalidArgument),
            (check_set(&[None, None], 9), ErrorKind::InvalidArgument),
        ];
        for (i, (result, kind)) in refused.into_iter().enumerate() {
            assert_eq!(result.unwrap_err().kind(), kind, "case {i}");
        }
    }
}
