//! Regions over slices and matrices: every task gets its own part, so callers need no `unsafe`.

use super::{Pool, Task};
use crate::error::Result;
use crate::sys::columns::ColumnsMut;
use std::ops::Range;

impl Pool {
    /// Splits the columns of `matrices` into parts of at most `step` columns and calls `f(which matrix, its part)` for each part, in parallel.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn for_columns(
        &self,
        matrices: &mut [ColumnsMut<'_, f32>],
        step: usize,
        f: &(dyn Fn(usize, ColumnsMut<'_, f32>, Task) + Sync),
    ) -> Result<()> {
        let n_tasks = matrices.iter().map(|matrix| n_parts(matrix, step)).sum();
        let matrices = &*matrices;
        self.run(n_tasks, &|task| {
            let mut part = task.index;
            for (which, matrix) in matrices.iter().enumerate() {
                let n = n_parts(matrix, step);
                if part < n {
                    // SAFETY: `part_range` lies inside the matrix and differs for every task; `matrices` is borrowed mutably for the
                    // whole call, so nobody else has a view of it.
                    return f(which, unsafe { matrix.split(part_range(matrix, step, part)) }, task);
                }
                part -= n;
            }
        })
    }

    /// Splits the columns of two matrices of equal width alike and calls `f(part of a, part of b)` for each pair, in parallel.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// If the matrices cover different columns.
    pub fn for_column_pairs(
        &self,
        a: ColumnsMut<'_, f32>,
        b: ColumnsMut<'_, f32>,
        step: usize,
        f: &(dyn Fn(ColumnsMut<'_, f32>, ColumnsMut<'_, f32>) + Sync),
    ) -> Result<()> {
        assert_eq!(a.range(), b.range(), "the matrices of a pair cover the same columns");
        self.run(n_parts(&a, step), &|task| {
            let range = part_range(&a, step, task.index);
            // SAFETY: `range` lies inside both matrices and differs for every task; the views `a` and `b` are ours and not used otherwise.
            let (a, b) = unsafe { (a.split(range.clone()), b.split(range)) };
            f(a, b);
        })
    }

    /// Splits `data` into chunks of `len` and calls `f(chunk index, chunk)` for each, in parallel.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn for_chunks<T: Send>(&self, data: &mut [T], len: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let n_columns = data.len();
        let row = ColumnsMut::new(data, n_columns);
        self.run(n_parts(&row, len), &|task| {
            // SAFETY: `part_range` lies inside the row and differs for every task; `row` is ours and not used otherwise.
            let mut chunk = unsafe { row.split(part_range(&row, len, task.index)) };
            f(task.index, chunk.row(0));
        })
    }

    /// As [`Self::for_chunks`], with one element of `scratch` for each thread: `f(chunk index, chunk, scratch of the thread)`.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// If `scratch` has fewer elements than the pool has threads.
    pub fn for_chunks_with<T: Send, S: Send>(
        &self,
        data: &mut [T],
        len: usize,
        scratch: &mut [S],
        f: &(dyn Fn(usize, &mut [T], &mut S) + Sync),
    ) -> Result<()> {
        assert!(scratch.len() >= self.n_threads(), "scratch for each thread");
        if data.is_empty() {
            return Ok(());
        }
        let (n_columns, n_scratch) = (data.len(), scratch.len());
        let (row, scratch) = (ColumnsMut::new(data, n_columns), ColumnsMut::new(scratch, n_scratch));
        self.run(n_parts(&row, len), &|task| {
            // SAFETY: `part_range` lies inside the row and differs for every task; `row` is ours and not used otherwise.
            let mut chunk = unsafe { row.split(part_range(&row, len, task.index)) };
            // SAFETY: a worker's index is below `n_threads`, checked above, and tasks with one worker never overlap.
            let mut own = unsafe { scratch.split(task.worker..task.worker + 1) };
            f(task.index, chunk.row(0), &mut own.row(0)[0]);
        })
    }
}

/// Parts of at most `step` columns (at least 1).
fn n_parts<T>(matrix: &ColumnsMut<'_, T>, step: usize) -> usize {
    matrix.range().len().div_ceil(step.max(1))
}

/// The columns of part `i`, of which there are `n_parts`.
fn part_range<T>(matrix: &ColumnsMut<'_, T>, step: usize, i: usize) -> Range<usize> {
    let (all, step) = (matrix.range(), step.max(1));
    let start = all.start + i * step;
    start..all.end.min(start + step)
}
