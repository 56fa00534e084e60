//! `environments:`: one of them, merged onto the file.
//!
//! In:    the tree of `sankofa.yaml`, the name given as `--env`.
//! Out:   the tree as it holds in that environment, without `environments:`.
//! Holds: mappings are merged key by key; words and lists are replaced; a store that becomes another
//!        kind (`b2` -> `directory`) is replaced whole; places stay those of what was written.

use super::node::{Fault, Node, Value, shown, suggest};

/// The tree as it holds in environment `name`.
///
/// # Errors
/// A [`Fault`] when there is no such environment, or it names environments itself.
pub fn apply(mut root: Node, name: Option<&str>) -> Result<Node, Fault> {
    let place = root.place(&["environments"]);
    let environments = root.remove("environments");
    let Some(name) = name else { return Ok(root) };
    let known: Vec<&str> =
        environments.iter().flat_map(Node::entries).map(|(key, _)| key.text.as_str()).collect();
    let Some(overlay) = environments.as_ref().and_then(|all| all.find(name)) else {
        let what = format!("there is no environment {}", shown(name));
        return Err(Fault::new(what).at(place).hint(suggest(name, &known)));
    };
    if !matches!(overlay.value, Value::Map(_)) {
        return Err(Fault::new("expected keys and values").at(overlay.mark));
    }
    if overlay.find("environments").is_some() {
        let mark = overlay.place(&["environments"]);
        return Err(Fault::new("an environment cannot hold environments").at(mark));
    }
    merge(&mut root, overlay.clone(), 0);
    Ok(root)
}

/// Names of the environments of a file.
pub fn names(root: &Node) -> Vec<String> {
    let environments = root.find("environments");
    environments.iter().flat_map(|all| all.entries()).map(|(key, _)| key.text.clone()).collect()
}

fn merge(under: &mut Node, over: Node, depth: usize) {
    let Value::Map(entries) = over.value else {
        *under = over;
        return;
    };
    if !matches!(under.value, Value::Map(_)) {
        *under = Node { mark: over.mark, value: Value::Map(entries) };
        return;
    }
    for (key, node) in entries {
        match under.find_mut(&key.text) {
            Some(old) if depth == 0 && key.text == "stores" => merge_stores(old, node),
            Some(old) => merge(old, node, depth + 1),
            None => push(under, key, node),
        }
    }
}

fn merge_stores(under: &mut Node, over: Node) {
    let Value::Map(entries) = over.value else {
        *under = over;
        return;
    };
    for (key, node) in entries {
        let kind = |node: &Node| node.entries().first().map(|(key, _)| key.text.clone());
        match under.find_mut(&key.text) {
            Some(old) if kind(old) != kind(&node) => *old = node,
            Some(old) => merge(old, node, 2),
            None => push(under, key, node),
        }
    }
}

fn push(map: &mut Node, key: super::node::Key, node: Node) {
    if let Value::Map(entries) = &mut map.value {
        entries.push((key, node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    /// The tree as JSON, so that places do not matter.
    fn plain(node: &Node) -> serde_json::Value {
        crate::config::compile::plain(node)
    }

    fn applied(text: &str, name: Option<&str>) -> serde_json::Value {
        plain(&apply(parse(text.as_bytes()).unwrap(), name).unwrap())
    }

    const FILE: &str = "a: {b: 1, c: [1, 2]}
stores: {off: {b2: {connection: x, bucket: y}}, st: {directory: /a}}
environments:
  dev: {a: {c: [3]}, d: 4, stores: {off: {directory: ./dev}}}
  big: {stores: {off: {b2: {bucket: z}}}}
";

    #[test]
    fn mappings_merge_and_lists_and_words_are_replaced() {
        let dev = applied(FILE, Some("dev"));
        assert_eq!(dev["a"], serde_json::json!({"b": 1, "c": [3]}));
        assert_eq!(dev["d"], 4);
        assert_eq!(applied(FILE, None)["a"]["c"], serde_json::json!([1, 2]));
        assert!(applied(FILE, None).get("environments").is_none());
    }

    #[test]
    fn a_store_of_another_kind_is_replaced_and_one_of_the_same_kind_merged() {
        let stores = &applied(FILE, Some("dev"))["stores"];
        assert_eq!(*stores, serde_json::json!({"off": {"directory": "./dev"}, "st": {"directory": "/a"}}));
        let stores = &applied(FILE, Some("big"))["stores"];
        assert_eq!(stores["off"], serde_json::json!({"b2": {"connection": "x", "bucket": "z"}}));
    }

    #[test]
    fn an_unknown_environment_names_the_nearest() {
        let fault = apply(parse(FILE.as_bytes()).unwrap(), Some("dve")).unwrap_err();
        assert_eq!(fault.what, "there is no environment \"dve\"");
        assert_eq!(fault.hint.as_deref(), Some("Did you mean `dev`?"));
        assert!(apply(parse(b"a: 1").unwrap(), Some("dev")).is_err());
    }

    #[test]
    fn a_value_from_an_environment_keeps_its_place() {
        let root = apply(parse(FILE.as_bytes()).unwrap(), Some("dev")).unwrap();
        assert_eq!(root.place(&["d"]).line, 4);
        assert_eq!(root.place(&["a", "b"]).line, 1);
    }
}
