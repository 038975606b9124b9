//! The alphabet of byte-level BPE: one printable character per byte, so that a vocabulary can be written as text.
//!
//! For `vocabulary`. The mapping is GPT-2's: printable Latin-1 stands for itself, the other 68 bytes follow from U+0100 on.

/// True if `byte` is written as the character with its own number.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// Both directions of the mapping.
pub(super) struct ByteAlphabet {
    chars: [char; 256],
    /// The byte of each character up to the last one in use, U+0143.
    bytes: [Option<u8>; 0x144],
}

impl ByteAlphabet {
    pub(super) fn new() -> Self {
        let mut alphabet = Self { chars: ['\0'; 256], bytes: [None; 0x144] };
        let mut unprintable = '\u{100}'..;
        for byte in 0..=u8::MAX {
            let c = if is_printable(byte) { char::from(byte) } else { unprintable.next().unwrap_or_default() };
            alphabet.chars[usize::from(byte)] = c;
            if let Some(slot) = alphabet.bytes.get_mut(c as usize) {
                *slot = Some(byte);
            }
        }
        alphabet
    }

    /// The character that stands for `byte`.
    pub(super) fn char(&self, byte: u8) -> char {
        self.chars[usize::from(byte)]
    }

    /// Appends the bytes that `text` stands for; false, with `bytes` unchanged, if it holds a character outside the alphabet.
    pub(super) fn decode(&self, text: &[u8], bytes: &mut Vec<u8>) -> bool {
        let start = bytes.len();
        let Ok(text) = std::str::from_utf8(text) else { return false };
        for c in text.chars() {
            let Some(&Some(byte)) = self.bytes.get(c as usize) else {
                bytes.truncate(start);
                return false;
            };
            bytes.push(byte);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_character_and_back() {
        let alphabet = ByteAlphabet::new();
        let text: String = (0..=255).map(|b| alphabet.char(b)).collect();
        let mut bytes = Vec::new();
        assert!(alphabet.decode(text.as_bytes(), &mut bytes));
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!((alphabet.char(b' '), alphabet.char(b'\n'), alphabet.char(0xad)), ('Ġ', 'Ċ', '\u{143}'));
    }

    #[test]
    fn characters_outside_the_alphabet_are_refused() {
        let mut bytes = b"kept".to_vec();
        for text in ["a b", "ab▁", "\u{144}", "中"] {
            assert!(!ByteAlphabet::new().decode(text.as_bytes(), &mut bytes), "{text}");
        }
        assert!(!ByteAlphabet::new().decode(b"a\xff", &mut bytes));
        assert_eq!(bytes, b"kept");
    }
}
