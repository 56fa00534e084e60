//! Texts of a parsed document, overwritten when they are done with.
//!
//! In:    a JSON value that holds secrets. Out: the same, wiped when it is dropped.
//! Not here: what was taken out of it.

use serde_json::{Map, Value};
use zeroize::Zeroize;

/// A value whose texts are overwritten when it is dropped. It has no `Debug`.
pub(super) struct Wiped(pub Value);

impl Wiped {
    /// Its entries, when it is an object.
    pub fn entries(&mut self) -> Option<&mut Map<String, Value>> {
        self.0.as_object_mut()
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        _ => {}
    }
}
