//! Reads metadata values. What a value claims to hold is checked against the bytes left before memory is taken for it.

use crate::error::{Error, ErrorKind, Result};
use crate::fail;
use crate::formats::cursor::{Cursor, at_most};
use crate::formats::gguf::strings::Strings;
use crate::formats::gguf::value::{Array, Value, ValueType, bool_from_byte};
use crate::formats::limits::{MAX_ARRAY_DEPTH, MAX_NESTED_ARRAYS};
use crate::formats::size::ByteSize;
use crate::sys::job;
use crate::sys::memory::try_with_capacity;

/// In the file, a string is at least its length (u64).
const MIN_STRING_BYTES: u64 = 8;
/// In the file, an array is at least the type of its elements (u32) and their number (u64).
const MIN_ARRAY_BYTES: u64 = 12;

/// Elements of an array that are read in a slice of a load: a tenth of a millisecond.
const ELEMENTS_PER_SLICE: u64 = 2048;

/// Ends a slice before some of the elements `i` of an array.
async fn pause(i: u64) {
    if i % ELEMENTS_PER_SLICE == ELEMENTS_PER_SLICE - 1 {
        job::pause().await;
    }
}

/// Reads values from `cursor`, and counts what only an absolute cap bounds.
pub(crate) struct ValueReader<'c, 'a> {
    pub(crate) cursor: &'c mut Cursor<'a>,
    /// Arrays inside arrays so far, in the whole file.
    pub(crate) n_nested: u64,
}

impl ValueReader<'_, '_> {
    /// The next value, with its type in front.
    pub(crate) async fn value(&mut self) -> Result<Value> {
        let value_type = self.value_type()?;
        Ok(match value_type {
            ValueType::U8 => Value::U8(self.scalar()?),
            ValueType::I8 => Value::I8(self.scalar()?),
            ValueType::U16 => Value::U16(self.scalar()?),
            ValueType::I16 => Value::I16(self.scalar()?),
            ValueType::U32 => Value::U32(self.scalar()?),
            ValueType::I32 => Value::I32(self.scalar()?),
            ValueType::F32 => Value::F32(self.scalar()?),
            ValueType::Bool => Value::Bool(self.scalar()?),
            ValueType::String => Value::String(self.string()?),
            ValueType::Array => Value::Array(self.array(0).await?),
            ValueType::U64 => Value::U64(self.scalar()?),
            ValueType::I64 => Value::I64(self.scalar()?),
            ValueType::F64 => Value::F64(self.scalar()?),
        })
    }

    /// A type, as its number (u32).
    fn value_type(&mut self) -> Result<ValueType> {
        let id = self.cursor.u32()?;
        let unknown = || Error::new(ErrorKind::Format, format!("value type {id} is unknown, expected 0 to 12"));
        ValueType::from_id(id).ok_or_else(unknown)
    }

    /// The next array, its element type and length in front, `depth` levels below the value.
    async fn array(&mut self, depth: usize) -> Result<Array> {
        let element_type = self.value_type()?;
        let n = self.cursor.u64()?;
        Ok(match element_type {
            ValueType::U8 => Array::U8(self.scalars(n).await?),
            ValueType::I8 => Array::I8(self.scalars(n).await?),
            ValueType::U16 => Array::U16(self.scalars(n).await?),
            ValueType::I16 => Array::I16(self.scalars(n).await?),
            ValueType::U32 => Array::U32(self.scalars(n).await?),
            ValueType::I32 => Array::I32(self.scalars(n).await?),
            ValueType::F32 => Array::F32(self.scalars(n).await?),
            ValueType::Bool => Array::Bool(self.scalars(n).await?),
            ValueType::String => Array::String(self.strings(n).await?),
            ValueType::Array => Array::Array(self.arrays(n, depth)?),
            ValueType::U64 => Array::U64(self.scalars(n).await?),
            ValueType::I64 => Array::I64(self.scalars(n).await?),
            ValueType::F64 => Array::F64(self.scalars(n).await?),
        })
    }

    fn scalar<T: Scalar>(&mut self) -> Result<T> {
        T::read(self.cursor)
    }

    /// `n` values of fixed size, in as many bytes as they have in the file.
    async fn scalars<T: Scalar>(&mut self, n: u64) -> Result<Vec<T>> {
        let mut scalars = self.reserved(n, T::BYTES)?;
        for i in 0..n {
            pause(i).await;
            scalars.push(T::read(self.cursor)?);
        }
        Ok(scalars)
    }

    /// A length (u64) and that many bytes, which need not be UTF-8.
    fn string(&mut self) -> Result<Box<[u8]>> {
        let n = self.cursor.u64()?;
        self.cursor.bytes(n).map(Vec::into_boxed_slice)
    }

    /// `n` strings. Their total length is known only at the end, so the buffer grows, to at most twice what it holds.
    async fn strings(&mut self, n: u64) -> Result<Strings> {
        self.cursor.expect_items(n, MIN_STRING_BYTES)?;
        let mut strings = Strings::with_capacity(ByteSize::new(n).to_usize()?)?;
        for i in 0..n {
            pause(i).await;
            let n_bytes = self.cursor.u64()?;
            self.cursor.expect_bytes(n_bytes)?;
            strings.push_with(ByteSize::new(n_bytes).to_usize()?, |dst| self.cursor.fill(dst))?;
        }
        strings.shrink();
        Ok(strings)
    }

    /// `n` arrays that are the elements of an array at `depth`.
    fn arrays(&mut self, n: u64, depth: usize) -> Result<Vec<Array>> {
        if depth >= MAX_ARRAY_DEPTH {
            fail!(Format, "arrays are nested more than {MAX_ARRAY_DEPTH} deep");
        }
        self.n_nested = self.n_nested.saturating_add(n);
        at_most(MAX_NESTED_ARRAYS, self.n_nested, "arrays inside arrays")?;
        let mut arrays = self.reserved(n, MIN_ARRAY_BYTES)?;
        for _ in 0..n {
            // Its own slices are not those of the whole: there is no end to the kinds of nesting, and caps bound it.
            arrays.push(job::run(self.array(depth.saturating_add(1)))?);
        }
        Ok(arrays)
    }

    /// An empty vector with room for `n` elements that take at least `min_bytes` bytes each in the file.
    fn reserved<T>(&self, n: u64, min_bytes: u64) -> Result<Vec<T>> {
        self.cursor.expect_items(n, min_bytes)?;
        try_with_capacity(ByteSize::new(n).to_usize()?)
    }
}

/// A value of fixed size.
trait Scalar: Sized {
    /// Bytes in the file.
    const BYTES: u64;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self>;
}

macro_rules! scalars {
    ($($type:ty: $bytes:literal),*) => {$(
        impl Scalar for $type {
            const BYTES: u64 = $bytes;

            fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
                cursor.array::<$bytes>().map(Self::from_le_bytes)
            }
        }
    )*};
}

scalars!(u8: 1, i8: 1, u16: 2, i16: 2, u32: 4, i32: 4, f32: 4, u64: 8, i64: 8, f64: 8);

impl Scalar for bool {
    const BYTES: u64 = 1;

    fn read(cursor: &mut Cursor<'_>) -> Result<Self> {
        u8::read(cursor).and_then(bool_from_byte)
    }
}
