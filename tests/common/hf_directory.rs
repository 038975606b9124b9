//! Golden models as Hugging Face directories: `NAME.hf.json` says how each tensor follows from one of `NAME.gguf`.

use inference::dtype::DType;
use inference::formats::config_json::ConfigJson;
use inference::formats::gguf::Gguf;
use inference::formats::safetensors::Safetensors;
use inference::model::HfModel;
use inference::sys::file::MemorySource;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model in the form of `transformers`.
#[derive(Clone)]
pub struct HfDirectory {
    /// config.json
    pub config: Value,
    /// Name, shape, values.
    pub tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

impl HfDirectory {
    /// The golden model whose GGUF file is at `gguf`.
    pub fn golden(gguf: &Path) -> Self {
        let description = PathBuf::from(gguf.to_str().unwrap().replace(".gguf", ".hf.json"));
        let description: Value = serde_json::from_slice(&std::fs::read(description).unwrap()).unwrap();
        let gguf = Gguf::open(gguf).unwrap();
        let tensor = |(name, entry): (&String, &Value)| {
            let shape: Vec<usize> = entry["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            let (n, mut values) = (shape.iter().product(), unconverted(&gguf, entry));
            if let Some(part) = entry["part"].as_u64() {
                values = values[part as usize * n..][..n].to_vec();
            }
            (name.clone(), shape, values)
        };
        Self { config: description["config"].clone(), tensors: description["tensors"].as_object().unwrap().iter().map(tensor).collect() }
    }

    /// The weights as one file, stored as `dtype`: F32 or BF16.
    pub fn safetensors(&self, dtype: DType) -> Vec<u8> {
        safetensors(&self.tensors.iter().collect::<Vec<_>>(), dtype)
    }

    /// The model, opened.
    pub fn open(&self, dtype: DType) -> inference::error::Result<HfModel> {
        let weights = Safetensors::new(vec![Arc::new(MemorySource::new(self.safetensors(dtype)))]).unwrap();
        HfModel::new(&ConfigJson::parse(self.config.to_string().as_bytes())?, weights)
    }

    /// Writes it to an empty folder, in `n_shards` files, with a tokenizer of bytes.
    pub fn write(&self, folder: &Path, dtype: DType, n_shards: usize) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(folder.join("tokenizer.json"), tokenizer_json().to_string()).unwrap();
        if n_shards == 1 {
            std::fs::write(folder.join("model.safetensors"), self.safetensors(dtype)).unwrap();
            return;
        }
        let mut map = Map::new();
        for i in 0..n_shards {
            let file = format!("model-{:05}-of-{n_shards:05}.safetensors", i + 1);
            let own: Vec<_> = self.tensors.iter().skip(i).step_by(n_shards).collect();
            map.extend(own.iter().map(|(name, ..)| (name.clone(), json!(file))));
            std::fs::write(folder.join(file), safetensors(&own, dtype)).unwrap();
        }
        let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
        std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }
}

/// The values of a tensor before llama.cpp's converter changed them: see `tools/golden/directory.py`.
fn unconverted(gguf: &Gguf, entry: &Value) -> Vec<f32> {
    if let Some(parts) = entry["parts"].as_array() {
        let parts: Vec<Part> = parts.iter().map(|name| Part::read(gguf, name.as_str().unwrap())).collect();
        return together(&parts, entry);
    }
    let name = entry["gguf"].as_str().unwrap();
    let tensor = gguf.tensor(name).unwrap();
    let added = entry["added"].as_f64().unwrap_or(0.0) as f32;
    let values: Vec<f32> = floats(gguf, name).into_iter().map(|x| x - added).collect();
    if let (Some(expert), Some(n_experts)) = (entry["expert"].as_u64(), entry["n_experts"].as_u64()) {
        return values.chunks(values.len() / n_experts as usize).nth(expert as usize).unwrap().to_vec();
    }
    let Some(head_dim) = entry["head_dim"].as_u64().map(|n| n as usize) else { return values };
    let n_cols = if tensor.shape().len() == 1 { 1 } else { tensor.shape()[0] };
    let mut moved = vec![0.0; values.len()];
    for (row, values) in values.chunks(n_cols).enumerate() {
        let (head, pair, half) = (row / head_dim, row % head_dim / 2, row % 2);
        let to = head * head_dim + half * (head_dim / 2) + pair;
        moved[to * n_cols..][..n_cols].copy_from_slice(values);
    }
    moved
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    let bytes = gguf.load(gguf.tensor(name).unwrap()).unwrap();
    bytes.as_slice().as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

/// A tensor that was a part of another one: of each expert (or head) its rows.
struct Part {
    /// `(n, rows, columns)`
    values: Vec<f32>,
    rows: usize,
    columns: usize,
}

impl Part {
    fn read(gguf: &Gguf, name: &str) -> Self {
        let shape = gguf.tensor(name).unwrap().shape();
        let (columns, rows) = if name.ends_with(".bias") { (1, shape[0]) } else { (shape[0], shape[1]) };
        Self { values: floats(gguf, name), rows, columns }
    }

    /// Element `(row, column)` of expert `n`.
    fn at(&self, n: usize, row: usize, column: usize) -> f32 {
        self.values[(n * self.rows + row) * self.columns + column]
    }
}

/// The tensor that `parts` were.
fn together(parts: &[Part], entry: &Value) -> Vec<f32> {
    let is = |key: &str| entry[key].as_bool().unwrap_or(false);
    let n = parts[0].values.len() / (parts[0].rows * parts[0].columns);
    if entry["latents"].is_u64() {
        let [keys, values] = parts else { panic!("two parts") };
        // The keys' rows are the columns of the first part.
        let head = |n| {
            let of_keys = (0..keys.columns).flat_map(move |row| (0..keys.rows).map(move |column| keys.at(n, column, row)));
            of_keys.chain((0..values.rows).flat_map(move |row| (0..values.columns).map(move |column| values.at(n, row, column))))
        };
        return (0..n).flat_map(head).collect();
    }
    let mut all = Vec::new();
    for n in 0..n {
        let rows: Vec<(&Part, usize)> = match is("takes_turns") {
            true => (0..parts[0].rows).flat_map(|row| parts.iter().map(move |part| (part, row))).collect(),
            false => parts.iter().flat_map(|part| (0..part.rows).map(move |row| (part, row))).collect(),
        };
        let columns = 0..parts[0].columns;
        match is("turned") {
            true => all.extend(columns.flat_map(|column| rows.iter().map(move |(part, row)| part.at(n, *row, column)))),
            false => all.extend(rows.iter().flat_map(|(part, row)| columns.clone().map(move |column| part.at(n, *row, column)))),
        }
    }
    all
}

fn safetensors(tensors: &[&(String, Vec<usize>, Vec<f32>)], dtype: DType) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        match dtype {
            DType::F32 => data.extend(values.iter().flat_map(|x| x.to_le_bytes())),
            DType::F16 => data.extend(values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes())),
            _ => data.extend(values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes())),
        }
        header.insert(name.clone(), json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A tokenizer whose tokens are bytes, in the order of GPT-2's letters.
pub fn tokenizer_json() -> Value {
    let printable = |b: u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut hidden = 256..;
    let letter = |b: u32| char::from_u32(if printable(b) { b } else { hidden.next().unwrap() }).unwrap().to_string();
    let vocab: Map<String, Value> = (0..256).map(letter).enumerate().map(|(id, text)| (text, json!(id))).collect();
    json!({
        "added_tokens": [],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
        "decoder": { "type": "ByteLevel" },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    })
}
