//! `${VAR}` and `${VAR:-default}` in values.
//!
//! In:    a tree, the process's environment.
//! Out:   the tree with every value filled in; `$${` stands for `${`. Keys are left alone.
//! Holds: what a variable holds is not searched again; a variable whose name says that it holds a
//!        secret is refused, since what is interpolated is shown by `config show`.

use super::node::{Fault, Node, Value, shown};
use std::collections::BTreeMap;

/// Fills in every value of `node`.
///
/// # Errors
/// A [`Fault`] that names the variable and its place: unset and without default, or refused.
pub fn interpolate(node: &mut Node, variables: &BTreeMap<String, String>) -> Result<(), Fault> {
    let mark = node.mark;
    match &mut node.value {
        Value::Scalar { text, .. } if text.contains("${") => {
            *text = filled(text, variables).map_err(|fault| fault.at(mark))?;
            Ok(())
        }
        Value::Scalar { .. } => Ok(()),
        Value::List(items) => items.iter_mut().try_for_each(|item| interpolate(item, variables)),
        Value::Map(entries) => entries.iter_mut().try_for_each(|(_, item)| interpolate(item, variables)),
    }
}

/// Writes `text` so that interpolation gives it back.
pub fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn filled(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        if let Some(escaped) = before.strip_suffix('$') {
            out += escaped;
            out += "${";
            rest = after;
            continue;
        }
        out += before;
        let end = after.find('}').ok_or_else(|| Fault::new("`${` has no `}`").hint(ESCAPE))?;
        out += &variable(&after[..end], variables)?;
        rest = &after[end + 1..];
    }
    Ok(out + rest)
}

const ESCAPE: &str = "Write `${NAME}` or `${NAME:-default}`; `$${` stands for `${` itself.";

fn variable(inside: &str, variables: &BTreeMap<String, String>) -> Result<String, Fault> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain {
        return Err(Fault::new("`${...}` holds no variable's name").hint(ESCAPE));
    }
    if names_a_secret(name) {
        return Err(Fault::new(format!("variable {} may hold a secret", shown(name)))
            .hint("Project files hold no secret: give it as a connection or a variable, or as a file."));
    }
    match (variables.get(name).filter(|value| !value.is_empty() || default.is_none()), default) {
        (Some(value), _) => Ok(value.clone()),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Fault::new(format!("variable {} is not set", shown(name)))
            .hint(format!("Set it, or write a default: `${{{name}:-default}}`."))),
    }
}

/// Whether a variable of this name usually holds a secret itself, not where one lies.
fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if name.starts_with("AIRFLOW_CONN_") || name.starts_with("AIRFLOW_VAR_") {
        return true;
    }
    let place = ["_FILE", "_PATH", "_DIR", "_NAME", "_MOUNT", "_ID"].iter().any(|end| name.ends_with(end));
    let secret = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "PRIVATE_KEY", "API_KEY", "APPLICATION_KEY"];
    !place && secret.iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str) -> Result<String, String> {
        let set = [("A", "one"), ("EMPTY", ""), ("NESTED", "${A}"), ("PGPASSWORD", "hunter2")];
        let variables = set.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        filled(text, &variables).map_err(|fault| fault.what)
    }

    #[test]
    fn variables_defaults_and_escapes() {
        for (text, out) in [
            ("${A}", "one"),
            ("x-${A}-${A}-y", "x-one-one-y"),
            ("${B:-two}", "two"),
            ("${B:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-two}", "two"),
            ("${A:-two}", "one"),
            ("$${A}", "${A}"),
            ("$$${A}", "$${A}"),
            ("$A $", "$A $"),
            ("${NESTED}", "${A}"),
            ("${TOKEN_FILE:-/x}", "/x"),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(out), "{text}");
        }
        assert_eq!(fill(&escape("a ${A} $${A}")).as_deref(), Ok("a ${A} $${A}"));
    }

    #[test]
    fn what_cannot_be_filled_in_is_named_and_never_empty() {
        assert_eq!(fill("${B}").unwrap_err(), "variable \"B\" is not set");
        for text in ["${A", "${}", "${A-b}", "${1A}", "${A b}", "a ${"] {
            assert!(fill(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_variable_that_holds_a_secret_is_refused_and_not_quoted() {
        for text in
            ["${PGPASSWORD}", "${AIRFLOW_CONN_HR_DB:-x}", "${VAULT_TOKEN}", "${AWS_SECRET_ACCESS_KEY}"]
        {
            let what = fill(text).unwrap_err();
            assert!(what.contains("may hold a secret") && !what.contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn keys_are_left_alone_and_every_value_is_filled() {
        let mut tree = super::super::yaml::parse(b"${A}: ['${A}', {k: '${A}'}]").unwrap();
        interpolate(&mut tree, &[("A".to_owned(), "one".to_owned())].into()).unwrap();
        let plain = super::super::compile::plain(&tree);
        assert_eq!(plain, serde_json::json!({"${A}": ["one", {"k": "one"}]}));
    }
}
