//! JSON objects that tell when they were damaged: one line of content, one line with its digest.
//!
//! ```text
//! {"lsn":812,...}
//! {"ck":"9c2f..."}
//! ```

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checksum::Checksum;
use crate::error::{Error, Result};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    ck: Checksum,
}

/// Writes `content` with its digest.
pub(crate) fn seal(object: &str, content: &impl Serialize) -> Result<Vec<u8>> {
    let failed = |error: serde_json::Error| Error::corrupt(object, error.to_string());
    let mut bytes = serde_json::to_vec(content).map_err(failed)?;
    let seal = Seal { ck: Checksum::of(&bytes) };
    bytes.push(b'\n');
    serde_json::to_writer(&mut bytes, &seal).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads what [`seal`] wrote, or says how it was damaged.
pub(crate) fn unseal<T: DeserializeOwned>(object: &str, bytes: &[u8]) -> Result<T> {
    let failed = |error: serde_json::Error| Error::corrupt(object, error.to_string());
    // JSON of ours has no line breaks inside, so the first one ends the content.
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (Some(content), Some(seal), Some([]), None) =
        (lines.next(), lines.next(), lines.next(), lines.next())
    else {
        return Err(Error::corrupt(object, "it is not one line of content and one of digest"));
    };
    let seal: Seal = serde_json::from_slice(seal).map_err(failed)?;
    let actual = Checksum::of(content);
    if actual != seal.ck {
        return Err(Error::corrupt(object, format!("its digest is {actual}, not {}", seal.ck)));
    }
    serde_json::from_slice(content).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let sealed = seal("x", &vec!["some", "words"]).unwrap();
        assert_eq!(unseal::<Vec<String>>("x", &sealed).unwrap(), ["some", "words"]);
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(unseal::<Vec<String>>("x", &damaged).is_err(), "byte {at}");
        }
        assert!(unseal::<Vec<String>>("x", &sealed[..sealed.len() - 1]).is_err());
    }
}
