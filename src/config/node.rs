//! A document as a tree of words, lists and mappings, each with its place in the file.
//!
//! In:    what `yaml` read.
//! Out:   [`Node`]s that can be merged, interpolated and searched before they get types, and
//!        [`Fault`]s that know line and column.
//! Holds: a fault never carries a value of the file, only names of keys.
//! Not here: how a node becomes a typed value (`de`).

use crate::error::Failure;

/// A place in a file; both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where it starts.
    pub mark: Mark,
    /// What it is.
    pub value: Value,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word, number or nothing; `plain` when it stands without quotes.
    Scalar {
        /// Its text.
        text: String,
        /// Whether it stands without quotes, so that `null` means nothing and `1` a number.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in the order of the file, each key once.
    Map(Vec<(Key, Node)>),
}

/// The key of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it starts.
    pub mark: Mark,
    /// Its text.
    pub text: String,
}

impl Node {
    /// Whether nothing stands here: `null`, `~` or no text at all, without quotes.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The value under `key`.
    pub fn find(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// The value under `key`, to be changed.
    pub fn find_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|(k, _)| k.text == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Takes the value under `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        match &mut self.value {
            Value::Map(entries) => {
                let at = entries.iter().position(|(k, _)| k.text == key)?;
                Some(entries.remove(at).1)
            }
            _ => None,
        }
    }

    /// The place of what lies at `path` (keys, and indices of lists in decimal), or of the nearest
    /// thing above it that is there. A word is pointed at itself, anything larger at its key.
    pub fn place(&self, path: &[&str]) -> Mark {
        let (mut node, mut mark) = (self, self.mark);
        for step in path {
            match &node.value {
                Value::Map(entries) => {
                    let Some((key, next)) = entries.iter().find(|(key, _)| key.text == *step) else { break };
                    let word = matches!(next.value, Value::Scalar { .. });
                    (node, mark) = (next, if word { next.mark } else { key.mark });
                }
                Value::List(items) => {
                    let Some(next) = step.parse().ok().and_then(|i: usize| items.get(i)) else { break };
                    (node, mark) = (next, next.mark);
                }
                Value::Scalar { .. } => break,
            }
        }
        mark
    }

    /// A fault at `path`.
    pub fn fault(&self, path: &[&str], what: impl Into<String>) -> Fault {
        Fault::new(what).at(self.place(path))
    }
}

/// Something wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, once it is known.
    pub mark: Option<Mark>,
    /// What; never a value of the file.
    pub what: String,
    /// What to write instead; a sentence.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault whose place is not known yet.
    pub fn new(what: impl Into<String>) -> Self {
        Fault { mark: None, what: what.into(), hint: None }
    }

    /// Says where, unless something nearer has said so.
    #[must_use]
    pub fn at(mut self, mark: Mark) -> Self {
        self.mark.get_or_insert(mark);
        self
    }

    /// Adds what to write instead.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The failure (78) a person reads; `label` is the file's name.
    pub fn into_failure(self, label: &str) -> Failure {
        let place = self.mark.map_or(label.to_owned(), |m| format!("{label}:{}:{}", m.line, m.column));
        let failure = Failure::config(format!("cannot read {place}: {}", self.what));
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

/// The candidate that `word` most likely meant, if one is near enough.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint that names the nearest of `candidates`, or all of them.
pub fn suggest(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("Did you mean `{candidate}`?"),
        None if candidates.is_empty() => "Nothing may stand here.".to_owned(),
        None => format!("Known here: {}.", candidates.join(", ")),
    }
}

/// A name from a file as an error may show it: quoted, on one line, cut after 64 characters.
pub fn shown(name: &str) -> String {
    let cut: String = name.chars().take(64).collect();
    let more = if cut.len() < name.len() { "..." } else { "" };
    format!("\"{}{more}\"", cut.escape_debug())
}
