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
    let mut walk = Walk { schema, open: Vec::new(), in_choice: false, rows: Vec::new() };
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
    in_choice: bool,
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
            let is_tag = self.in_choice && object(&node["properties"]).count() == 1; // it says which variant is meant
            let row = Row {
                kind: self.kind(below, required.contains(&name.as_str()) && !is_tag),
                meaning: self.meaning(below, if is_tag { node } else { below }),
                path: path.clone(),
            };
            if !self.rows.iter().any(|known| known.path == path) {
                self.rows.push(row); // else another variant has it, too
                let outer = std::mem::take(&mut self.in_choice);
                self.keys(below, &path);
                self.in_choice = outer;
            }
        }
        self.keys_of_parts(node, path);
        if reference.is_some() {
            self.open.pop();
        }
    }

    /// The keys below the values of a map, the items of a list and the variants of a choice.
    fn keys_of_parts(&mut self, node: &'a Value, path: &str) {
        let outer = std::mem::take(&mut self.in_choice);
        for (_, below) in object(&node["patternProperties"]) {
            self.keys(below, &format!("{path}.<name>"));
        }
        if node["additionalProperties"].is_object() {
            self.keys(&node["additionalProperties"], &format!("{path}.<name>"));
        }
        if node["items"].is_object() {
            self.keys(&node["items"], &format!("{path}[]"));
        }
        for choice in ["anyOf", "oneOf", "allOf"] {
            let variants: Vec<&Value> = list(&node[choice]).filter(|one| one["type"] != "null").collect();
            self.in_choice = variants.len() > 1;
            variants.into_iter().for_each(|variant| self.keys(variant, path));
        }
        self.in_choice = outer;
    }

    fn meaning(&self, node: &'a Value, variant: &'a Value) -> String {
        let places = [node, self.resolved(node), variant];
        places.into_iter().find_map(|place| place["description"].as_str()).unwrap_or_default().to_owned()
    }

    /// What a key may hold, in words.
    fn kind(&self, node: &'a Value, required: bool) -> String {
        let mut text = joined(&self.kinds(node));
        if required {
            text.push_str(", required");
        }
        if let Value::String(_) | Value::Number(_) | Value::Bool(_) = node["default"] {
            let _ = write!(text, ", default `{}`", plain(&node["default"]));
        }
        text
    }

    /// What values `node` allows, each kind once.
    fn kinds(&self, node: &'a Value) -> Vec<String> {
        let node = self.resolved(node);
        let words = list(&node["enum"]).chain(node.get("const")).filter(|word| !word.is_null());
        let mut kinds: Vec<String> = words.map(|word| format!("`{}`", plain(word))).collect();
        for variant in ["anyOf", "oneOf"].into_iter().flat_map(|name| list(&node[name])) {
            kinds.extend(self.kinds(variant));
        }
        if kinds.is_empty() {
            let names = types(node).into_iter().map(|name| match name {
                "array" => format!("list of {}", joined(&self.kinds(&node["items"]))),
                "object" if node["properties"].is_object() => "keys below".into(),
                "object" => "map".into(),
                name => name.into(),
            });
            kinds.extend(names);
        }
        let mut seen: Vec<String> = Vec::new();
        kinds.retain(|kind| {
            !seen.contains(kind) && {
                seen.push(kind.clone());
                true
            }
        });
        kinds
    }

    fn resolved(&self, node: &'a Value) -> &'a Value {
        let target = node["$ref"].as_str().and_then(|name| self.schema.pointer(name.strip_prefix('#')?));
        target.unwrap_or(node)
    }
}

/// Words with commas between, other kinds with `or`.
fn joined(kinds: &[String]) -> String {
    let is_words = kinds.iter().all(|kind| kind.starts_with('`'));
    kinds.join(if is_words { ", " } else { " or " })
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
                "tree": {"$ref": "#/$defs/Tree"},
                "store": {"oneOf": [
                    {"description": "A bucket.", "required": ["s3"], "properties": {"s3": {"$ref": "#/$defs/S3"}}, "type": "object"},
                    {"type": "string", "const": "memory"}
                ]}
            },
            "$defs": {
                "Mode": {"oneOf": [{"type": "string", "const": "append"}, {"type": "string", "const": "full_refresh"}]},
                "Table": {"type": "object", "properties": {"drop": {"type": "boolean", "description": "a|b"}}},
                "S3": {"type": "object", "required": ["bucket"], "properties": {"bucket": {"type": "string"}}},
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
                "| `store` | keys below or `memory` | |",
                "| `store.s3` | keys below | A bucket. |",
                "| `store.s3.bucket` | string, required | |",
            ]
            .map(|row| row.replace("| |", "|  |"))
        );
    }
}
