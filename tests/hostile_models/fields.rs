//! Where the integers of a valid header are: a walk over its bytes that decodes nothing else.

/// Bytes of a value by its type's number; 0 for strings and arrays.
const WIDTHS: [usize; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// f32, f64: not integers.
const FLOATS: [u32; 2] = [6, 12];

/// The integers of a header, as `(offset, width)`, and where it ends.
#[derive(Default)]
pub struct Fields {
    pub integers: Vec<(usize, usize)>,
    pub end: usize,
}

impl Fields {
    /// Of a valid file.
    pub fn of(bytes: &[u8]) -> Self {
        let mut walk = Walk { bytes, fields: Self { integers: Vec::new(), end: 4 } };
        walk.integer(4);
        let (n_tensors, n_entries) = (walk.integer(8), walk.integer(8));
        for _ in 0..n_entries {
            walk.string();
            let value_type = walk.integer(4) as u32;
            walk.value(value_type);
        }
        for _ in 0..n_tensors {
            walk.string();
            let n_dims = walk.integer(4);
            for width in (0..n_dims).map(|_| 8).chain([4, 8]) {
                walk.integer(width);
            }
        }
        walk.fields
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    fields: Fields,
}

impl Walk<'_> {
    fn integer(&mut self, width: usize) -> u64 {
        let at = self.fields.end;
        self.fields.integers.push((at, width));
        self.fields.end += width;
        self.bytes[at..at + width].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte))
    }

    fn string(&mut self) {
        self.fields.end += self.integer(8) as usize;
    }

    fn value(&mut self, value_type: u32) {
        match value_type {
            STRING => self.string(),
            ARRAY => {
                let (element_type, n) = (self.integer(4) as u32, self.integer(8));
                (0..n).for_each(|_| self.value(element_type));
            }
            float if FLOATS.contains(&float) => self.fields.end += WIDTHS[float as usize],
            integer => {
                self.integer(WIDTHS[integer as usize]);
            }
        }
    }
}
