//! What a stage must refuse, and that it says what was wrong.

use super::*;
use crate::backend::SequenceRows;
use crate::backend::naive::noise;

#[test]
fn a_missing_slot_is_named() {
    let (batch, mut ws) = begun(3);
    let error = backend().embed(&mut ws, &begun(4).0, &linear(&noise(40, 1), 40, None).weight, 1.0).unwrap_err();
    assert!(error.message().contains("4 rows in a pass that began with 3"), "{error}");
    let output = linear(&noise(40 * Q_WIDTH, 1), Q_WIDTH, None);
    ws.put(Slot::Query, rows(&noise(3 * Q_WIDTH, 1), Q_WIDTH));
    ws.set_residual(rows(&noise(3 * 40, 1), 40));
    backend().project_add(&mut ws, &output, &Join::default()).unwrap();
    let error = backend().project_add(&mut ws, &output, &Join::default()).unwrap_err(); // the first one has used it up
    assert_eq!((error.kind(), error.message()), (ErrorKind::Internal, "candle, project_add: slot Query is empty"));
    ws.put(Slot::Gate, rows(&noise(3 * SHAPE.n_ff, 1), SHAPE.n_ff));
    let error =
        backend().glu(&mut ws, FeedForwardFn::Gated(GateFn::Silu), &linear(&noise(40 * 100, 1), 100, None), &Join::default()).unwrap_err();
    assert_eq!(error.message(), "candle, glu: slot Up is empty");
    let weight = linear(&noise(40 * 50, 1), 40, None).weight;
    backend().begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]).unwrap(); // forgets the residual
    let error = backend().head(&mut ws, &batch, &norm(&noise(40, 1), 0.1), &weight, 0..50).unwrap_err();
    assert!(error.message().contains("no residual"), "{error}");
}

#[test]
fn a_batch_that_lies_is_refused() {
    type Lie = fn(&mut Batch);
    let lies: [(&str, Lie); 10] = [
        ("no rows", |b| b.clear()),
        ("rows without positions", |b| b.positions.truncate(2)),
        ("more rows than the workspace", |b| b.push(&[1; 126], 0, &[0, 1, 2, 3], false)),
        ("rows of no sequence", |b| b.sequences.clear()),
        ("rows of two sequences", |b| b.sequences.push(SequenceRows { rows: 1..3, start: 0, blocks: 0..1 })),
        ("rows past the end", |b| b.sequences[0].rows = 0..9),
        ("other positions", |b| b.positions[1] = 9),
        ("too few blocks", |b| b.sequences[0].blocks = 0..0),
        ("blocks past the end", |b| b.sequences[0].blocks = 0..2),
        ("outputs past the end", |b| b.outputs = vec![3]),
    ];
    for (what, lie) in lies {
        let (mut batch, mut ws) = begun(3);
        lie(&mut batch);
        let result = backend().begin(&mut ws, &batch, &[rope(RopeStyle::Halves, 12)]);
        assert_eq!(result.map_err(|e| e.kind()), Err(ErrorKind::Internal), "{what}");
    }
}
