//! The keys of a project file, from its JSON Schema, as a table.
//!
//! In:    a schema as `schemars` makes it. Out: Markdown.
//! Holds: every key that the schema knows is a row; a part that contains itself is shown once.
//! Not here: where the schema comes from (`config::schema`).

use serde_json::{Map, Value};
use std::fmt::Write;

/// One key.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    path: String,
    kind: String,
    meaning: String,
}

/// The table of all keys of `schema`.
pub fn table(schema: &Value) -> String {
    let mut walk = Walk { schema, open: Vec::new(), rows: Vec::new() };
    walk.keys(schema, "");
    let mut table = String::from("| key | value | meaning |\n|---|---|---|\n");
    for Row { path, kind, meaning } in &walk.rows {
        let _ = writeln!(table, "| `{path}` | {} | {} |", cell(kind), cell(meaning));
    }
    table
}

/// `text` in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

struct Walk<'a> {
    schema: &'a Value,
    open: Vec<&'a str>,
    rows: Vec<Row>,
}

impl<'a> Walk<'a> {
    /// Adds the keys below `node`, whose own path is `path`.
    fn keys(&mut self, node: &'a Value, path: &str) {
        let reference = node["$ref"].as_str();
        if let Some(name) = reference {
            if self.open.contains(&name) {
                return;
            }
            self.open.push(name);
        }
        let node = self.resolved(node);
        let required: Vec<&str> = list(&node["required"]).filter_map(Value::as_str).collect();
        for (name, below) in object(&node["properties"]) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.add(below, path, required.contains(&name.as_str()));
        }
        self.keys_of_parts(node, path);
        if reference.is_some() {
            self.open.pop();
        }
    }

    /// The keys below the values of a map, the items of a list and the variants of a choice.
    fn keys_of_parts(&mut self, node: &'a Value, path: &str) {
        for (_, below) in object(&node["patternProperties"]) {
            self.keys(below, &format!("{path}.<name>"));
        }
        if node["additionalProperties"].is_object() {
            self.keys(&node["additionalProperties"], &format!("{path}.<name>"));
        }
        if node["items"].is_object() {
            self.keys(&node["items"], &format!("{path}[]"));
        }
        for variant in ["anyOf", "oneOf", "allOf"].into_iter().flat_map(|name| list(&node[name])) {
            self.keys(variant, path);
        }
    }

    fn add(&mut self, node: &'a Value, path: String, required: bool) {
        if self.rows.iter().any(|row| row.path == path) {
            return; // two variants of a choice share it
        }
        let target = self.resolved(node);
        let meaning = [node, target].into_iter().find_map(|node| node["description"].as_str());
        let mut kind = self.kind(node);
        if required {
            kind.push_str(", required");
        }
        match &node["default"] {
            Value::Null => (),
            Value::Object(_) | Value::Array(_) => (),
            Value::String(word) => _ = write!(kind, ", default `{word}`"),
            value => _ = write!(kind, ", default `{value}`"),
        }
        self.rows.push(Row { path: path.clone(), kind, meaning: meaning.unwrap_or_default().to_owned() });
        self.keys(node, &path);
    }

    /// What values `node` allows, in words.
    fn kind(&self, node: &'a Value) -> String {
        let node = self.resolved(node);
        if let Some(word) = node["const"].as_str() {
            return format!("`{word}`");
        }
        let words: Vec<String> = list(&node["enum"])
            .filter(|word| !word.is_null())
            .map(|word| format!("`{}`", plain(word)))
            .collect();
        if !words.is_empty() {
            return words.join(", ");
        }
        let variants = ["anyOf", "oneOf"].into_iter().flat_map(|name| list(&node[name]));
        let mut kinds: Vec<String> = Vec::new();
        for kind in variants.filter(|variant| variant["type"] != "null").map(|variant| self.kind(variant)) {
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        if !kinds.is_empty() {
            let words_only = kinds.iter().all(|kind| kind.starts_with('`'));
            return kinds.join(if words_only { ", " } else { " or " });
        }
        match types(node)[..] {
            ["array"] => format!("list of {}", self.kind(&node["items"])),
            ["object"] if node["properties"].is_object() => "keys below".into(),
            ["object"] => "map".into(),
            [] => "any value".into(),
            ref names => names.join(" or "),
        }
    }

    fn resolved(&self, node: &'a Value) -> &'a Value {
        let target = node["$ref"].as_str().and_then(|name| self.schema.pointer(name.strip_prefix('#')?));
        target.unwrap_or(node)
    }
}

/// The types of `node` but null.
fn types(node: &Value) -> Vec<&str> {
    let names = node["type"].as_str().into_iter().chain(list(&node["type"]).filter_map(Value::as_str));
    names.filter(|name| *name != "null").collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_key_of_maps_lists_choices_and_parts_that_contain_themselves_is_a_row() {
        let schema = json!({
            "type": "object",
            "required": ["source"],
            "properties": {
                "source": {"type": "string", "description": "A connection\nid."},
                "mode": {"$ref": "#/$defs/Mode", "default": "append"},
                "tables": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Table"}},
                "after": {"type": ["array", "null"], "items": {"type": "string"}},
                "tree": {"$ref": "#/$defs/Tree"}
            },
            "$defs": {
                "Mode": {"oneOf": [{"type": "string", "const": "append"}, {"type": "string", "const": "full_refresh"}]},
                "Table": {"type": "object", "properties": {"drop": {"type": "boolean", "description": "a|b"}}},
                "Tree": {"type": "object", "properties": {"below": {"$ref": "#/$defs/Tree"}}}
            }
        });
        let table = table(&schema);
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| `source` | string, required | A connection id. |",
                "| `mode` | `append`, `full_refresh`, default `append` | |",
                "| `tables` | map | |",
                "| `tables.<name>.drop` | boolean | a\\|b |",
                "| `after` | list of string | |",
                "| `tree` | keys below | |",
                "| `tree.below` | keys below | |",
            ]
            .map(|row| row.replace("| |", "|  |"))
        );
    }
}
