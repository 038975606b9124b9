//! candle's own quantised models under measurement: the second peer of `tools/bench`, which starts it and talks to it as `harness.c` says.
//!
//! `RAYON_NUM_THREADS` is its number of threads. Commands: `open PATH ..`, `prefill N`, `fill N`, `decode N`; one number of seconds per line.
#![expect(clippy::print_stdout, reason = "answers are its output")]

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor, bail};
use candle_transformers::models::{quantized_llama, quantized_qwen2};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::Instant;

/// A vocabulary is at least as large in every file of the benchmark.
const N_TOKENS: u32 = 100_000;

/// A model with its own cache.
enum Model {
    Qwen2(quantized_qwen2::ModelWeights),
    Llama(quantized_llama::ModelWeights),
}

impl Model {
    fn open(path: &str) -> Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let content = Content::read(&mut file)?;
        let architecture = content.metadata.get("general.architecture").map(|name| name.to_string()).transpose()?.cloned();
        match architecture.as_deref() {
            Some("qwen2") => Ok(Self::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?)),
            Some("llama") => Ok(Self::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?)),
            other => bail!("{path}: {other:?} is no model of this benchmark"),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Qwen2(model) => model.clear_kv_cache(),
            Self::Llama(model) => model.clear_kv_cache(),
        }
    }

    /// The logits of the last of `n` tokens behind `start` others.
    fn eval(&mut self, n: usize, start: usize) -> Result<Tensor> {
        let tokens: Vec<u32> = (start as u32..).take(n).map(|i| i.wrapping_mul(2_654_435_761) % N_TOKENS).collect();
        let tokens = Tensor::new(&tokens[..], &Device::Cpu)?.unsqueeze(0)?;
        match self {
            Self::Qwen2(model) => model.forward(&tokens, start),
            Self::Llama(model) => model.forward(&tokens, start),
        }
    }
}

/// What the commands work on.
#[derive(Default)]
struct Bench {
    model: Option<Model>,
    /// Tokens that `decode` starts behind.
    n_held: usize,
}

impl Bench {
    /// Seconds that `command` took.
    fn run(&mut self, command: &str, argument: &str) -> Result<f64> {
        let start = Instant::now();
        if command == "open" {
            self.model = Some(Model::open(argument)?);
            return Ok(start.elapsed().as_secs_f64());
        }
        let (Some(model), Ok(n)) = (&mut self.model, argument.parse::<usize>()) else { bail!("{command} {argument}: open a model first") };
        model.clear();
        match command {
            "prefill" | "fill" => {
                model.eval(n, 0)?;
                self.n_held = n;
                Ok(start.elapsed().as_secs_f64())
            }
            "decode" => {
                // Its cache cannot be cut back to what was held.
                model.eval(self.n_held, 0)?;
                let start = Instant::now();
                (0..n).try_for_each(|i| model.eval(1, self.n_held + i).map(drop))?;
                Ok(start.elapsed().as_secs_f64())
            }
            _ => bail!("unknown command {command}"),
        }
    }
}

fn main() -> Result<()> {
    let mut bench = Bench::default();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let mut words = line.split_whitespace();
        let (Some(command), Some(argument)) = (words.next(), words.next()) else { continue };
        println!("{:.9}", bench.run(command, argument)?);
    }
    Ok(())
}
