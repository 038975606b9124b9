//! Which device computes which layers: what the host asks for, what its rules say, and what fits.

use super::device::DeviceInfo;
use super::log::LogLevel;
use super::model::{BackendKind, LoadConfig, default_n_ctx, kv_type};
use super::runtime::Runtime;
use super::session::DEFAULT_CHUNK;
use crate::backend::BLOCK_TOKENS;
use crate::backend::plugin::Remote;
use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::gguf::TensorInfo;
use crate::model::{Checkpoint, ModelSpec, Needs, Placement, needs};
use crate::sys::budget::{Budget, Charge};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a device that a plan leaves free: scratch of the vendor's libraries, and what fragments cannot be used.
const DEVICE_SLACK: u64 = 256 << 20;

/// Something that layers can be computed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Our kernels.
    Cpu,
    /// candle on the CPU.
    Candle,
    /// A GPU.
    Cuda(u32),
}

impl Place {
    fn id(self) -> String {
        match self {
            Self::Cpu => "cpu".into(),
            Self::Candle => "candle".into(),
            Self::Cuda(i) => format!("cuda:{i}"),
        }
    }
}

/// The parts of a model, and where they are.
pub(super) struct Placed {
    /// For the loader.
    pub(super) placement: Placement,
    /// As the loader has them, in order.
    pub(super) parts: Vec<(Range<usize>, Place)>,
    /// What they need, by part.
    pub(super) needs: Vec<Needs>,
}

impl Placed {
    /// The device that most of the layers are on: `"cuda:0"`; candle computes on the CPU.
    pub(super) fn device(&self) -> String {
        let n_layers = |place: Place| self.parts.iter().filter(|part| part.1 == place).map(|part| part.0.len()).sum::<usize>();
        let most = self.parts.iter().map(|part| part.1).max_by_key(|place| (n_layers(*place), *place != Place::Cpu));
        most.filter(|place| *place != Place::Candle).unwrap_or(Place::Cpu).id()
    }

    /// What is needed on a GPU, or on the host for `None`: weights, KV block and the largest pass.
    pub(super) fn needs_on(&self, gpu: Option<u32>) -> Needs {
        let is_there = |place: Place| match place {
            Place::Cpu | Place::Candle => gpu.is_none(),
            Place::Cuda(i) => gpu == Some(i),
        };
        let here = self.parts.iter().zip(&self.needs).filter(|(part, _)| is_there(part.1)).map(|(_, needs)| needs);
        here.fold(Needs::default(), Needs::with)
    }

    /// Charges for the weights: first of the host's memory, then of each GPU's.
    ///
    /// # Errors
    /// `Budget`.
    pub(super) fn charges(&self, runtime: &Runtime) -> Result<Vec<Charge>> {
        self.memories().map(|gpu| runtime.account(gpu).charge(self.needs_on(gpu).weights)).collect()
    }

    /// The accounts that pay for a KV block, each with its bytes: first the host's.
    pub(super) fn accounts(&self, runtime: &Runtime) -> Vec<(Arc<Budget>, u64)> {
        self.memories().map(|gpu| (runtime.account(gpu), self.needs_on(gpu).kv_block)).collect()
    }

    /// Those of the host, for which there is no number, and of the GPUs.
    fn memories(&self) -> impl Iterator<Item = Option<u32>> {
        std::iter::once(None).chain(self.gpus().into_iter().map(Some))
    }

    /// The GPUs, each once.
    pub(super) fn gpus(&self) -> Vec<u32> {
        let mut gpus: Vec<u32> = self.parts.iter().filter_map(|part| if let Place::Cuda(i) = part.1 { Some(i) } else { None }).collect();
        gpus.sort_unstable();
        gpus.dedup();
        gpus
    }

    /// Layers that are on a GPU.
    pub(super) fn n_layers_on_gpus(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part.1, Place::Cuda(_))).map(|part| part.0.len()).sum()
    }
}

/// Chooses the places of a model's layers.
struct Planner<'a> {
    runtime: &'a Runtime,
    config: &'a LoadConfig,
    file: &'a dyn Checkpoint,
    spec: &'a ModelSpec,
    /// GPUs that were opened for this plan: each once.
    opened: RefCell<BTreeMap<u32, Remote>>,
}

/// That the device which the host asks for is there, before anything is read.
///
/// # Errors
/// As [`place`].
pub(super) fn check_device(runtime: &Runtime, config: &LoadConfig) -> Result<()> {
    wanted(runtime, config).map(|_| ())
}

/// Where the layers of a model of `config` will be.
///
/// # Errors
/// `NoDevice`: a device that is asked for is not there, and why; `OutOfMemory` if it has too little memory; `Unsupported`.
pub(super) fn place(runtime: &Runtime, config: &LoadConfig, file: &dyn Checkpoint, spec: &ModelSpec) -> Result<Placed> {
    let planner = Planner { runtime, config, file, spec, opened: RefCell::default() };
    let names: Vec<&str> = file.tensors().iter().map(TensorInfo::name).collect();
    let ruled = (0..spec.layers.len()).map(|layer| {
        let prefix = format!("blk.{layer}.");
        let name = config.devices.for_layer(layer, names.iter().copied().filter(|name| name.starts_with(&prefix)));
        name.map(|name| named(runtime, name)).transpose()
    });
    let ruled: Vec<Option<Place>> = ruled.collect::<Result<_>>()?;
    match ruled.iter().all(Option::is_none) {
        true => planner.choose(),
        false => {
            let rest = wanted(runtime, config)?.unwrap_or(Place::Cpu);
            planner.placed(&ruled.iter().map(|place| place.unwrap_or(rest)).collect::<Vec<_>>())
        }
    }
}

/// The place that the host calls `name`.
fn named(runtime: &Runtime, name: &str) -> Result<Place> {
    match name {
        "cpu" => Ok(Place::Cpu),
        "candle" => candle(runtime),
        gpu => {
            let gpu = runtime.gpus().find(gpu)?;
            match gpu.unusable {
                None => Ok(Place::Cuda(gpu.index)),
                Some(why) => fail!(NoDevice, "device {:?}: {why}", gpu.id),
            }
        }
    }
}

fn candle(runtime: &Runtime) -> Result<Place> {
    if runtime.is_host_driven() {
        fail!(Unsupported, "candle starts threads of its own, which a host-driven runtime must not");
    }
    Ok(Place::Candle)
}

/// The place that the host asks for; `None` = it lets us choose.
fn wanted(runtime: &Runtime, config: &LoadConfig) -> Result<Option<Place>> {
    let place = match config.device.as_str() {
        "" | "auto" => None,
        name => Some(named(runtime, name)?),
    };
    match (config.backend, place) {
        (BackendKind::Candle, None | Some(Place::Cpu | Place::Candle)) => candle(runtime).map(Some),
        (BackendKind::Candle, Some(gpu)) => fail!(InvalidArgument, "backend \"candle\" computes on the CPU, not on {:?}", gpu.id()),
        (BackendKind::Cpu, place) => Ok(place),
    }
}

impl Planner<'_> {
    fn open(&self, i: u32) -> Result<Remote> {
        if let Some(gpu) = self.opened.borrow().get(&i) {
            return Ok(gpu.clone());
        }
        let gpu = self.runtime.gpus().open(i)?;
        self.opened.borrow_mut().insert(i, gpu.clone());
        Ok(gpu)
    }

    fn choose(&self) -> Result<Placed> {
        match wanted(self.runtime, self.config)? {
            Some(Place::Cuda(i)) => self.on_gpu(i),
            Some(place) => self.all_on(place),
            None => self.automatic(),
        }
    }

    /// The first GPU that has room, or with `fit` the one with the most; else the CPU, and a line in the log that says why.
    fn automatic(&self) -> Result<Placed> {
        let gpus = self.runtime.gpus().list();
        let mut usable: Vec<&DeviceInfo> = gpus.iter().filter(|gpu| gpu.unusable.is_none()).collect();
        usable.sort_by_key(|gpu| std::cmp::Reverse(gpu.memory_free));
        let why = match usable.first() {
            None => gpus.first().and_then(|gpu| gpu.unusable.clone()).unwrap_or_else(|| "there is no GPU".into()),
            Some(gpu) => match self.on_gpu(gpu.index) {
                Ok(placed) => return Ok(placed),
                Err(e) => e.message().to_owned(),
            },
        };
        self.runtime.log().line(LogLevel::Info, || format!("device: cpu ({why})"));
        self.all_on(Place::Cpu)
    }

    /// All layers on a GPU, or as many as fit if the host asks for that.
    fn on_gpu(&self, i: u32) -> Result<Placed> {
        let all = self.all_on(Place::Cuda(i))?;
        let (wanted, room) = (self.bytes(&all.needs), self.room(i)?);
        if wanted <= room {
            return Ok(all);
        }
        if !self.config.fit {
            let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let message = format!("cuda:{i}: the model needs {wanted} bytes, {room} are free");
            return Err(Error::new(ErrorKind::OutOfMemory, message).with_detail([number(wanted), number(room)]));
        }
        let n_layers = self.spec.layers.len();
        let n_fit = self.n_fit(i, room)?;
        self.runtime.log().line(LogLevel::Info, || format!("device: cuda:{i}, {n_fit} of {n_layers} layers fit into {room} bytes"));
        let mut places = vec![Place::Cpu; n_layers - n_fit];
        places.resize(n_layers, Place::Cuda(i));
        self.placed(&places)
    }

    /// How many of the last layers fit into `room`: none of a model that does as a whole or not at all.
    fn n_fit(&self, i: u32, room: u64) -> Result<usize> {
        if !self.spec.is_divisible() {
            return Ok(0);
        }
        let alone = self.split((0..self.spec.layers.len()).map(|layer| (layer..layer + 1, Place::Cuda(i))).collect())?;
        Ok(layers_that_fit(&alone.needs, self.n_blocks(), room))
    }

    /// Bytes of a GPU that the model may take.
    fn room(&self, i: u32) -> Result<u64> {
        let free = self.runtime.gpus().list().get(i as usize).map_or(0, |gpu| gpu.memory_free);
        let kept = self.config.reserve_device_bytes.saturating_add(DEVICE_SLACK);
        Ok(free.saturating_sub(kept).min(self.runtime.device_memory(i).left()))
    }

    /// Blocks of a session that fills its context.
    fn n_blocks(&self) -> u64 {
        default_n_ctx(self.config, self.spec.n_ctx_max).div_ceil(BLOCK_TOKENS) as u64
    }

    fn bytes(&self, needs: &[Needs]) -> u64 {
        let of = |needs: &Needs| needs.weights.saturating_add(needs.kv_block.saturating_mul(self.n_blocks())).saturating_add(needs.pass);
        needs.iter().map(of).fold(0, u64::saturating_add)
    }

    fn all_on(&self, place: Place) -> Result<Placed> {
        self.split(vec![(0..self.spec.layers.len(), place)])
    }

    /// Layers, each at its place; neighbours at the same one are a part.
    fn placed(&self, places: &[Place]) -> Result<Placed> {
        let mut parts: Vec<(Range<usize>, Place)> = Vec::new();
        for (layer, place) in places.iter().enumerate() {
            match parts.last_mut() {
                Some((layers, last)) if last == place => layers.end += 1,
                _ => parts.push((layer..layer + 1, *place)),
            }
        }
        self.split(parts)
    }

    fn split(&self, parts: Vec<(Range<usize>, Place)>) -> Result<Placed> {
        let mut spans = Vec::with_capacity(parts.len());
        for (layers, place) in &parts {
            spans.push((layers.clone(), self.at(*place)?));
        }
        let whole = if spans.len() == 1 { spans.pop() } else { None };
        let placement = whole.map_or_else(|| Placement::Split(spans), |(_, place)| place);
        // No pass has more rows than a context.
        let n_rows = DEFAULT_CHUNK.min(default_n_ctx(self.config, self.spec.n_ctx_max));
        let needs = needs(self.file, self.spec, &placement, kv_type(self.config), n_rows)?;
        Ok(Placed { placement, parts, needs })
    }

    fn at(&self, place: Place) -> Result<Placement> {
        Ok(match place {
            Place::Cpu => Placement::Cpu { pool: self.runtime.pool().clone(), kernels: self.runtime.kernels() },
            Place::Candle => Placement::Candle,
            Place::Cuda(i) => Placement::Remote(self.open(i)?),
        })
    }
}

/// How many layers, counted from the last, which has the head with it, fit into `room` with `n_blocks` blocks of keys and values.
fn layers_that_fit(layers: &[Needs], n_blocks: u64, room: u64) -> usize {
    let pass = layers.iter().map(|needs| needs.pass).max().unwrap_or(0);
    let sums = layers.iter().rev().scan(pass, |sum, needs| {
        *sum = sum.saturating_add(needs.weights).saturating_add(needs.kv_block.saturating_mul(n_blocks));
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= room).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_layers_as_fit_from_the_last_on() {
        let layer = |weights| Needs { weights, mapped: 0, kv_block: 2, pass: 10 };
        let layers = [layer(1000), layer(100), layer(100), layer(300)]; // embedding, two layers, head
        let fit = |room| layers_that_fit(&layers, 5, room);
        assert_eq!([0, 319, 320, 429, 430, 540, 1549, 1550].map(fit), [0, 0, 1, 1, 2, 3, 3, 4]);
        assert_eq!(layers_that_fit(&layers, u64::MAX, u64::MAX - 1), 0, "no overflow");
    }
}
