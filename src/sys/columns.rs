//! Disjoint column ranges of one row-major matrix, so that threads can each fill their own.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable view of columns `range` of a row-major `(n_rows, stride)` matrix.
///
/// Views of disjoint ranges may live on different threads at once: no two of them ever produce an overlapping slice.
pub struct ColumnsMut<'a, T> {
    base: *mut T,
    n_rows: usize,
    stride: usize,
    range: Range<usize>,
    matrix: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is an exclusive borrow of its elements, as `&mut [T]` is; sending it moves that borrow.
unsafe impl<T: Send> Send for ColumnsMut<'_, T> {}

// SAFETY: a shared view gives out sizes, and elements only through `split`, whose caller promises that they are disjoint.
unsafe impl<T: Send> Sync for ColumnsMut<'_, T> {}

impl<'a, T> ColumnsMut<'a, T> {
    /// The whole of `matrix`, which holds rows of `stride` elements.
    ///
    /// # Panics
    /// If `matrix` is not whole rows.
    pub fn new(matrix: &'a mut [T], stride: usize) -> Self {
        assert!(stride > 0 && matrix.len().is_multiple_of(stride), "a matrix is whole rows");
        Self { base: matrix.as_mut_ptr(), n_rows: matrix.len() / stride, stride, range: 0..stride, matrix: PhantomData }
    }

    /// Only the columns `part` (in columns of the matrix) of the view.
    ///
    /// # Panics
    /// If `part` is not inside `range()`.
    #[must_use]
    pub fn narrow(self, part: Range<usize>) -> Self {
        let Range { start, end } = self.range;
        assert!(start <= part.start && part.start <= part.end && part.end <= end, "{part:?} of {start}..{end}");
        Self { range: part, ..self }
    }

    /// Rows of the view.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// The columns of the matrix that this view covers.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The view's part of row `m`: element `i` is column `range().start + i`.
    ///
    /// # Panics
    /// If there is no row `m`.
    pub fn row(&mut self, m: usize) -> &mut [T] {
        assert!(m < self.n_rows, "row {m} of {}", self.n_rows);
        // SAFETY: `new` and `split` keep `range` inside `stride` and `m` is checked, so the slice lies inside the matrix;
        // `&mut self` makes it the only live slice of this view, and other views have disjoint ranges.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(m * self.stride + self.range.start), self.range.len()) }
    }

    /// A view of `part` (in columns of the matrix) that shares this one's lifetime.
    ///
    /// # Safety
    /// `part` lies inside `range()`, and no two live views (this one included) that are used overlap.
    pub unsafe fn split(&self, part: Range<usize>) -> ColumnsMut<'a, T> {
        debug_assert!(self.range.start <= part.start && part.end <= self.range.end);
        ColumnsMut { base: self.base, n_rows: self.n_rows, stride: self.stride, range: part, matrix: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_narrowed_view_are_its_columns() {
        let mut matrix: Vec<u32> = (0..12).collect();
        let mut view = ColumnsMut::new(&mut matrix, 4).narrow(1..3);
        assert_eq!((view.n_rows(), view.range()), (3, 1..3));
        assert_eq!(view.row(2), [9, 10]);
        view.row(1).fill(0);
        assert_eq!(matrix, [0, 1, 2, 3, 4, 0, 0, 7, 8, 9, 10, 11]);
    }

    #[test]
    #[should_panic(expected = "row 3 of 3")]
    fn a_row_outside_is_refused() {
        ColumnsMut::new(&mut [0u8; 12], 4).row(3);
    }

    #[test]
    #[should_panic(expected = "1..5 of 0..4")]
    fn columns_outside_are_refused() {
        let _ = ColumnsMut::new(&mut [0u8; 12], 4).narrow(1..5);
    }
}
