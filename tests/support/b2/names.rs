//! What may be called what: files, info, buckets; how names travel in headers.

use serde_json::{Map, Value};

use super::answer::{Outcome, Refusal};

const FILE_NAME_BYTES: usize = 1024;
const SEGMENT_BYTES: usize = 250;
const INFO_KEY_BYTES: usize = 50;
const HEADER_BYTES: usize = 7000;
const HEADER_BYTES_LOCKED: usize = 2048;
/// Info of our own that begins with the reserved `b2-`.
const RESERVED_INFO: [&str; 5] = [
    "b2-content-disposition",
    "b2-content-language",
    "b2-expires",
    "b2-cache-control",
    "b2-content-encoding",
];

fn bad_name(why: &str) -> Refusal {
    Refusal::new(400, "invalid_file_name", format!("File names must {why}"))
}

/// Refuses what cannot be a file's name.
pub fn check_file_name(name: &str) -> Outcome<()> {
    let why = if name.is_empty() || name.len() > FILE_NAME_BYTES {
        "be 1 to 1024 bytes long"
    } else if name.chars().any(|c| c < ' ' || c == '\u{7f}') {
        "not contain control characters"
    } else if name.starts_with('/') || name.ends_with('/') {
        "not start or end with /"
    } else if name.contains("//") {
        "not contain //"
    } else if name == "." || name == ".." {
        "not be . or .."
    } else if name.split('/').any(|segment| segment.len() > SEGMENT_BYTES) {
        "have segments of at most 250 bytes"
    } else {
        return Ok(());
    };
    Err(bad_name(why))
}

/// What a percent-encoded header holds: `+` is a space, bad escapes and bare bytes are refused.
pub fn decode_header(text: &str) -> Outcome<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => decoded.push(b' '),
            b'%' => {
                let digits =
                    text.get(at + 1..at + 3).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
                let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
                decoded.push(byte.ok_or_else(|| Refusal::bad_request("Bad percent-encoding in header"))?);
                at += 2;
            }
            byte if byte.is_ascii_graphic() => decoded.push(byte),
            _ => return Err(Refusal::bad_request("Header must be percent-encoded UTF-8")),
        }
        at += 1;
    }
    String::from_utf8(decoded).map_err(|_| Refusal::bad_request("Header is not UTF-8"))
}

/// What need not be encoded, beside letters and digits.
const PLAIN: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How a name travels in a header or a path.
pub fn encode(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, PLAIN).to_string()
}

/// File info with its keys in lower case; refuses bad keys, and too much of it.
pub fn check_info(
    name: &str,
    info: &Map<String, Value>,
    is_locked_bucket: bool,
) -> Outcome<Map<String, Value>> {
    let bad = |why: String| Refusal::new(400, "invalid_file_info", why);
    let mut checked = Map::new();
    let mut total = encode(name).len();
    for (key, value) in info {
        let key = key.to_lowercase();
        let Value::String(text) = value else { return Err(bad(format!("info {key} must be a string"))) };
        let is_token = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
        if key.is_empty() || key.len() > INFO_KEY_BYTES || !is_token {
            return Err(bad(format!("bad info name {key}")));
        }
        if key.starts_with("b2-") && !RESERVED_INFO.contains(&key.as_str()) {
            return Err(bad(format!("info names that begin with b2- are reserved: {key}")));
        }
        total += key.len() + encode(text).len();
        if checked.insert(key.clone(), value.clone()).is_some() {
            return Err(bad(format!("info {key} is given twice")));
        }
    }
    let most = if is_locked_bucket { HEADER_BYTES_LOCKED } else { HEADER_BYTES };
    if total > most {
        return Err(bad(format!("name and info are {total} bytes, at most {most}")));
    }
    Ok(checked)
}

/// Refuses what cannot be a SHA-1 in hexadecimal.
pub fn check_sha1(text: &str) -> Outcome<String> {
    let is_sha1 = text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    is_sha1.then(|| text.to_lowercase()).ok_or_else(|| Refusal::bad_request("Invalid SHA-1"))
}

/// Refuses what cannot be a bucket's name.
pub fn check_bucket_name(name: &str) -> Outcome<()> {
    let is_good = (6..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with("b2-");
    is_good
        .then_some(())
        .ok_or_else(|| Refusal::new(400, "bad_bucket_name", format!("Invalid bucket name: {name}")))
}
