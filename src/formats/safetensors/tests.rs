use super::*;
use crate::sys::file::MemorySource;

/// A file of this header, and `n` bytes of data that count up.
fn file(header: &str, n: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..n).map(|i| i as u8));
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Safetensors> {
    Safetensors::new(vec![Arc::new(MemorySource::new(bytes).named("model.safetensors".into()))])
}

const TWO: &str = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[16,22]},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;

fn refused(header: &str, n: usize) -> String {
    let error = open(file(header, n)).err().unwrap_or_else(|| panic!("{header} is taken"));
    assert!(matches!(error.kind(), ErrorKind::Format | ErrorKind::Unsupported), "{error}");
    error.message().to_owned()
}

#[test]
fn tensors_are_found_and_read() {
    let model = open(file(TWO, 22)).unwrap();
    let tensor = model.tensor("b").unwrap();
    assert_eq!((tensor.shape(), tensor.dtype(), tensor.n_bytes()), (&[3][..], Ok(DType::F16), 6));
    let mut bytes = [0; 4];
    model.read_range(tensor, 2, &mut bytes).unwrap();
    assert_eq!(bytes, [18, 19, 20, 21]);
    assert_eq!(model.read_range(tensor, 3, &mut bytes).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert!(model.tensor("c").is_none());
}

#[test]
fn shards_are_one_model_and_share_no_name() {
    let shard = |name: &str| {
        let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        Arc::new(MemorySource::new(file(&header, 4))) as Arc<dyn ReadAt>
    };
    let model = Safetensors::new(vec![shard("x"), shard("y")]).unwrap();
    assert_eq!(model.tensors().iter().map(TensorInfo::name).collect::<Vec<_>>(), ["x", "y"]);
    let error = Safetensors::new(vec![shard("x"), shard("x")]).err().unwrap();
    assert!(error.message().contains("\"x\" appears twice"), "{error}");
}

#[test]
fn what_is_wrong_is_named() {
    let one =
        |dtype: &str, shape: &str, offsets: &str| format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
    for (header, n, expected) in [
        (one("F32", "[2]", "[0,4]"), 4, "expected 8 bytes for F32 [2]"),
        (one("F32", "[2]", "[8,0]"), 8, "data_offsets [8, 0]"),
        (one("F32", "[2]", "[4,12]"), 12, "begins at byte 4 of the data, expected 0"),
        (one("F32", "[2]", "[0,8]"), 7, "ends at byte 8 of the data, of which the file has 7"),
        (one("F32", "[2]", "[0,8]"), 9, "the tensors end at byte 8 of the data, of which the file has 9"),
        (one("F4", "[2]", "[0,1]"), 1, "dtype \"F4\""),
        (one("F32", "[4294967296,4294967296]", "[0,0]"), 0, "out of range"),
        (one("F32", "[1,1,1,1,1]", "[0,4]"), 4, "at most 4 dimensions"),
        (one("F32", "[-1]", "[0,4]"), 4, "-1"),
        (one("F32", "[1]", "[0,4,4]"), 4, "\"w\""),
        (r#"{"w":{"dtype":"F32","shape":[1]}}"#.into(), 4, "data_offsets"),
        ("[]".into(), 0, "its header starts with \"[]\""),
        (r#"{"w":1}"#.into(), 0, "\"w\""),
        (TWO.replace("[16,22]", "[14,20]"), 20, "tensor \"b\": begins at byte 14 of the data, inside the one before it"),
    ] {
        let message = refused(&header, n);
        assert!(message.contains(expected) && message.contains("model.safetensors"), "{message:?}, expected {expected:?}");
    }
    let error = open(u64::MAX.to_le_bytes().to_vec()).err().unwrap();
    assert!(error.message().contains("not a safetensors file"), "{error}");
    assert!(open(file(&one("F8_E4M3", "[2]", "[0,2]"), 2)).unwrap().tensor("w").unwrap().dtype().is_err());
}

#[test]
fn a_file_that_is_cut_anywhere_is_an_error() {
    let whole = file(TWO, 22);
    for n in 0..whole.len() {
        assert!(open(whole[..n].to_vec()).is_err(), "{n} bytes");
    }
}

/// Whatever a changed byte makes of it: an error, or a file whose tensors can be read.
#[test]
fn a_file_with_any_byte_changed_is_an_error_or_whole() {
    let whole = file(TWO, 22);
    for at in 0..whole.len() {
        for value in [0, 1, b'0', b'9', b'"', b'}', b'[', 0x7f, 0x80, 0xff].into_iter().chain([whole[at] ^ 1, whole[at] ^ 0x20]) {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let Ok(model) = open(bytes) else { continue };
            for tensor in model.tensors() {
                model.read_range(tensor, 0, &mut vec![0; tensor.n_bytes()]).unwrap();
            }
        }
    }
}

#[test]
fn an_index_names_files_beside_it() {
    let index = |map: &str| shards(format!(r#"{{"metadata":{{"total_size":1}},"weight_map":{map}}}"#).as_bytes());
    let files = index(r#"{"a":"m-2.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}"#).unwrap();
    assert_eq!(files, ["m-1.safetensors", "m-2.safetensors"]);
    for bad in [r#"{"a":"../m.safetensors"}"#, r#"{"a":"/m.safetensors"}"#, r#"{"a":"m.bin"}"#, r#"{"a":1}"#, "{}", "[]"] {
        assert_eq!(index(bad).unwrap_err().kind(), ErrorKind::Format, "{bad}");
    }
    assert!(shards(b"{}").is_err() && shards(b"").is_err());
}
