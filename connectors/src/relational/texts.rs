//! A column of text as bytes that arrive. Whether they are UTF-8 is asked once for all of them, when they are taken: values
//! are short, and one after the other that takes longer than to store them.

use std::sync::Arc;

use arrow::array::builder::NullBufferBuilder;
use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};

/// Text, growing.
#[derive(Debug)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each value begins, and the next one.
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl Default for Texts {
    fn default() -> Self {
        Self::with_room_for(0, 0)
    }
}

impl Texts {
    fn with_room_for(n_values: usize, n_bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(n_values + 1);
        offsets.push(0);
        let (bytes, nulls) = (Vec::with_capacity(n_bytes), NullBufferBuilder::new(n_values));
        Self { bytes, offsets, nulls }
    }

    /// Appends a value; returns false, and appends nothing, where a batch ends.
    #[inline]
    #[must_use]
    pub fn append(&mut self, text: &[u8]) -> bool {
        let Ok(end) = i32::try_from(self.bytes.len() + text.len()) else { return false };
        self.bytes.extend_from_slice(text);
        self.offsets.push(end);
        self.nulls.append_non_null();
        true
    }

    /// Appends NULL.
    #[inline]
    pub fn append_null(&mut self) {
        self.offsets.push(self.offsets.last().copied().unwrap_or_default());
        self.nulls.append_null();
    }

    /// Takes what was appended and begins anew with as much room: most batches are as long as the one before. Returns `None`
    /// if a value is not UTF-8.
    pub fn take(&mut self) -> Option<ArrayRef> {
        let (n_values, n_bytes) = (self.offsets.len() - 1, self.bytes.len());
        let next = Self::with_room_for(n_values, n_bytes + n_bytes / 8);
        let Self { bytes, offsets, mut nulls } = std::mem::replace(self, next);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let texts = StringArray::try_new(offsets, Buffer::from_vec(bytes), nulls.finish());
        Some(Arc::new(texts.ok()?))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;

    #[test]
    fn what_is_appended_is_taken() {
        let mut texts = Texts::default();
        for _batch in 0..2 {
            assert!(texts.append("añ".as_bytes()));
            texts.append_null();
            assert!(texts.append(b""));
            let taken = texts.take().unwrap();
            let taken = taken.as_string::<i32>();
            assert_eq!((taken.value(0), taken.is_null(1), taken.value(2)), ("añ", true, ""));
            assert_eq!(taken.len(), 3);
        }
    }

    #[test]
    fn a_character_that_two_values_share_is_no_text() {
        let halves = "ñ".as_bytes();
        for values in [vec![&halves[..1], &halves[1..]], vec![&b"\xFF"[..]], vec![&b"a\xC3"[..]]] {
            let mut texts = Texts::default();
            assert!(values.iter().all(|value| texts.append(value)));
            assert!(texts.take().is_none());
            assert!(texts.append(b"next"));
            assert_eq!(texts.take().unwrap().len(), 1);
        }
    }
}
