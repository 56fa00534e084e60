//! A pipeline that a launcher passes in the environment.
//!
//! In:    the text of `SANKOFA_PIPELINE`: YAML, JSON, or gzip and base64 of either.
//! Out:   the bytes of the document.
//! Holds: what is unpacked is at most `yaml::MAX_BYTES` long, whatever the packed text claims.

use super::node::Fault;
use super::yaml;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{Read, Write};

/// The start of every gzip member, in base64.
const PACKED: &str = "H4sI";

/// Unpacks `text` if it is packed.
///
/// # Errors
/// A fault when it is packed badly or too long.
pub fn document(text: &str) -> Result<Vec<u8>, Fault> {
    let text = text.trim();
    if !text.starts_with(PACKED) || text.contains(':') {
        return Ok(text.as_bytes().to_vec());
    }
    let words: String = text.split_ascii_whitespace().collect();
    let packed = STANDARD.decode(words).map_err(|_| Fault::new("it is not base64"))?;
    let mut document = Vec::new();
    let limit = yaml::MAX_BYTES as u64 + 1;
    flate2::read::MultiGzDecoder::new(packed.as_slice())
        .take(limit)
        .read_to_end(&mut document)
        .map_err(|_| Fault::new("it is not gzip, or not all of it"))?;
    Ok(document)
}

/// Packs a document for [`document`]; the same bytes each time.
///
/// # Errors
/// None in practice: it is written to memory.
pub fn pack(document: &str) -> std::io::Result<String> {
    let mut gzip = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    gzip.write_all(document.as_bytes())?;
    Ok(STANDARD.encode(gzip.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_document_is_unpacked_and_a_plain_one_left_alone() {
        let packed = pack("source: hr_db\n").unwrap();
        assert_eq!(document(&packed).unwrap(), b"source: hr_db\n");
        assert_eq!(document(&format!(" {}\n{}\n", &packed[..8], &packed[8..])).unwrap(), b"source: hr_db\n");
        assert_eq!(document("source: x").unwrap(), b"source: x");
        assert_eq!(document("{\"source\": \"x\"}").unwrap(), b"{\"source\": \"x\"}");
    }

    #[test]
    fn a_gzip_bomb_is_cut_and_a_torn_one_refused() {
        let bomb = pack(&"x".repeat(50 << 20)).unwrap();
        assert_eq!(document(&bomb).unwrap().len(), yaml::MAX_BYTES + 1);
        let torn = pack("source: hr_db").unwrap();
        assert!(document(&torn[..torn.len() - 8]).is_err());
        assert!(document("H4sI!!!!").is_err());
    }
}
