//! An answer of Vault, overwritten when it is dropped.

use serde_json::{Map, Value};
use std::fmt;
use std::ops::Deref;
use std::time::Duration;
use zeroize::Zeroize;

/// The body of an answer; may hold secrets, so it has no `Debug` that shows it.
#[derive(Default)]
pub struct Json(Value);

impl Json {
    /// Reads `text`; `None` where it is no JSON. An empty text is null.
    pub fn read(text: &[u8]) -> Option<Json> {
        if text.is_empty() {
            return Some(Json(Value::Null));
        }
        serde_json::from_slice(text).ok().map(Json)
    }

    /// The text at `pointer`, if there is one.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer).and_then(Value::as_str)
    }

    /// The seconds at `pointer`, as a duration; zero where there are none.
    pub fn seconds(&self, pointer: &str) -> Duration {
        Duration::from_secs(self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Whether `true` stands at `pointer`.
    pub fn is(&self, pointer: &str) -> bool {
        self.0.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Takes the object at `pointer` out of the answer; the taker overwrites it.
    pub fn take_object(&mut self, pointer: &str) -> Option<Map<String, Value>> {
        match self.0.pointer_mut(pointer)?.take() {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The texts of the list at `pointer`, such as Vault's `errors`; each at most 300 characters and without control characters.
    pub fn list(&self, pointer: &str) -> Option<Vec<String>> {
        let clean = |text: &str| -> String {
            // Vault's list of one: "1 error occurred:\n\t* permission denied\n\n".
            let text = text
                .strip_prefix("1 error occurred:")
                .map_or(text, |one| one.trim().trim_start_matches("* "));
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
        };
        let list = self.0.pointer(pointer)?.as_array()?;
        Some(
            list.iter().filter_map(Value::as_str).map(|text| clean(text).trim().to_owned()).take(5).collect(),
        )
    }
}

impl Deref for Json {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

impl Drop for Json {
    fn drop(&mut self) {
        overwrite(&mut self.0);
    }
}

/// Overwrites every text in `value`.
pub fn overwrite(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(overwrite),
        Value::Object(map) => map.values_mut().for_each(overwrite),
        _ => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cannot_be_printed_and_its_errors_stay_on_one_line() {
        let answer =
            Json::read(br#"{"errors": ["1 error occurred:\n\t* permission denied\n\n", 7]}"#).unwrap();
        assert_eq!(answer.list("/errors").unwrap(), ["permission denied"]);
        assert_eq!(format!("{answer:?}"), "[REDACTED]");
        assert!(Json::read(b"<html>").is_none());
    }
}
