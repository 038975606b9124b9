//! What a layer's attention is, beside its weights: constants, and which positions a token sees. Read by the stage `attend`.

/// Constants of a layer's attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Multiplies `q . k`.
    pub scale: f32,
    /// `cap * tanh(score / cap)`, if any.
    pub softcap: Option<f32>,
    /// Which positions a token sees.
    pub sight: Sight,
    /// Queries grow with their position, in layers that do not rotate (Llama 4).
    pub temperature: Option<Temperature>,
}

/// Which of the positions before it a token sees, itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All.
    All,
    /// So many.
    Window(u32),
    /// Those of its own chunk; chunks begin at multiples of this (Llama 4).
    Chunk(u32),
}

impl Sight {
    /// The first position that a token at `position` sees.
    pub fn oldest(self, position: usize) -> usize {
        match self {
            Self::All => 0,
            Self::Window(n) => (position + 1).saturating_sub(n.max(1) as usize),
            Self::Chunk(n) => position - position % n.max(1) as usize,
        }
    }
}

impl From<Option<u32>> for Sight {
    /// A window, or none.
    fn from(window: Option<u32>) -> Self {
        window.map_or(Self::All, Self::Window)
    }
}

/// Queries at position `p` are multiplied by `1 + scale * ln(1 + floor((p + 1) / length))`, as transformers has it. Source: Nakanishi 2025, arXiv 2501.19399.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// Positions between two steps.
    pub length: f32,
    /// Height of the steps.
    pub scale: f32,
}

impl Temperature {
    /// What a query at `position` is multiplied by.
    pub fn at(self, position: usize) -> f32 {
        ((position as f32 + 1.0) / self.length).floor().ln_1p() * self.scale + 1.0
    }
}

impl Attention {
    /// Nothing but a scale.
    pub const fn plain(scale: f32) -> Self {
        Self { scale, softcap: None, sight: Sight::All, temperature: None }
    }
}
