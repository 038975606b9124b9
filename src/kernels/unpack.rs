//! Tiles back into the rows of a file, to save a model as it is held. Packing moves bits and changes none, so it is undone without a second
//! description of each format: numbers are packed once, and where their bits come out says where every bit came from.

use super::contract::Kernels;
use crate::dtype::DType;
use crate::error::Result;
use crate::sys::memory::{try_vec, try_with_capacity};

/// Some bits of a byte of a tile that are some bits of a byte of the rows.
struct Move {
    tile_byte: u32,
    /// Of the rows, each one block long.
    row_byte: u32,
    /// By how much they are shifted down from their place in the tile.
    down: u8,
    /// By how much up to their place in the row.
    up: u8,
    mask: u8,
}

/// What undoes [`Kernels::pack`] for one kernel set and storage type.
pub struct Unpacker {
    moves: Vec<Move>,
    tile_rows: usize,
    block_bytes: usize,
}

impl Unpacker {
    /// For tiles of `kernels`.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn new(kernels: &dyn Kernels, dtype: DType) -> Result<Self> {
        let (tile_rows, block_bytes) = (kernels.tile_rows(), dtype.block_bytes());
        let n_bits = tile_rows * block_bytes * 8;
        let mut origins = try_vec::<u32>(n_bits)?;
        let (mut rows, mut tile) = (try_vec::<u8>(n_bits / 8)?, try_vec::<u8>(n_bits / 8)?);
        for k in 0..n_bits.next_power_of_two().trailing_zeros() {
            // Bit `k` of the number of each bit.
            for (byte, to) in rows.iter_mut().enumerate() {
                *to = (0..8).fold(0, |bits, bit| bits | ((((8 * byte + bit) >> k) & 1) as u8) << bit);
            }
            kernels.pack(dtype, &rows, &mut tile);
            for (bit, origin) in origins.iter_mut().enumerate() {
                *origin |= u32::from((tile[bit / 8] >> (bit % 8)) & 1) << k;
            }
        }
        Ok(Self { moves: moves(&origins)?, tile_rows, block_bytes })
    }

    /// Writes the rows that `tile` was made of into `rows`, of as many bytes.
    ///
    /// # Panics
    /// If they are not whole blocks of as many rows as a tile has.
    pub fn unpack(&self, tile: &[u8], rows: &mut [u8]) {
        let tile_block = self.tile_rows * self.block_bytes;
        assert!(tile.len() == rows.len() && tile.len().is_multiple_of(tile_block), "tiles of {} rows", self.tile_rows);
        rows.fill(0);
        let row_bytes = rows.len() / self.tile_rows;
        for (b, block) in tile.chunks_exact(tile_block).enumerate() {
            for m in &self.moves {
                let (row, byte) = (m.row_byte as usize / self.block_bytes, m.row_byte as usize % self.block_bytes);
                rows[row * row_bytes + b * self.block_bytes + byte] |= ((block[m.tile_byte as usize] >> m.down) & m.mask) << m.up;
            }
        }
    }
}

/// Neighbours that stay neighbours move together.
fn moves(origins: &[u32]) -> Result<Vec<Move>> {
    let mut moves = try_with_capacity::<Move>(origins.len())?;
    for (bit, &origin) in origins.iter().enumerate() {
        let (tile_byte, row_byte, down, up) = ((bit / 8) as u32, origin / 8, (bit % 8) as u8, (origin % 8) as u8);
        match moves.last_mut() {
            Some(last) if last.tile_byte == tile_byte && last.row_byte == row_byte && continues(last, down, up) => {
                last.mask = last.mask << 1 | 1;
            }
            _ => moves.push(Move { tile_byte, row_byte, down, up, mask: 1 }),
        }
    }
    moves.shrink_to_fit();
    Ok(moves)
}

/// True if the bit that moves from `down` to `up` is the one behind those of `run`.
fn continues(run: &Move, down: u8, up: u8) -> bool {
    let n = run.mask.count_ones() as u8;
    down == run.down + n && up == run.up + n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{available, select};

    #[test]
    fn every_type_comes_back_from_the_tiles_of_every_set() {
        for name in available() {
            let kernels = select(Some(name)).unwrap();
            for dtype in DType::ALL {
                let n_bytes = 3 * kernels.tile_rows() * dtype.block_bytes();
                let rows: Vec<u8> = (0..n_bytes).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
                let (mut tile, mut back) = (vec![0; n_bytes], vec![0; n_bytes]);
                kernels.pack(dtype, &rows, &mut tile);
                Unpacker::new(kernels, dtype).unwrap().unpack(&tile, &mut back);
                assert!(back == rows, "{name} {dtype:?}");
            }
        }
    }
}
