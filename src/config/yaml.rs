//! YAML (and JSON, which is YAML) text -> a tree with places. The only module that knows the parser.
//!
//! In:    bytes of one document.
//! Out:   its [`Node`]; or its text again, for `config show`.
//! Holds: at most 1 MiB of text, 64 levels, and [`MAX_NODES`] values after aliases are expanded; no key
//!        twice in a mapping; no tag but `!!str`.
//! Not here: what the keys mean (`raw`).

use super::node::{Fault, Key, Mark, Node, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span, Tag};
use std::collections::HashMap;

/// The longest document that is read, bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The most values of a document, aliases expanded.
const MAX_NODES: usize = 200_000;
/// The most text of a document, aliases expanded, bytes.
const MAX_TEXT: usize = 4 * MAX_BYTES;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// Reads one document.
///
/// # Errors
/// A [`Fault`] with the place of the first thing that cannot be read.
pub fn parse(bytes: &[u8]) -> Result<Node, Fault> {
    if bytes.len() > MAX_BYTES {
        return Err(
            Fault::new(format!("it is longer than {MAX_BYTES} bytes")).at(Mark { line: 1, column: 1 })
        );
    }
    let text = utf8(bytes)?;
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    let mut builder = Builder {
        events: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        nodes: 0,
        text: 0,
        depth: 0,
    };
    builder.document()
}

/// Writes `value` as YAML.
///
/// # Errors
/// The writer's own, which no value of ours leads to.
pub fn write(value: &serde_json::Value) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(value)?)
}

fn utf8(bytes: &[u8]) -> Result<&str, Fault> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = valid.matches('\n').count() + 1;
        let column = valid.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Fault::new("it is not UTF-8").at(Mark { line, column }).hint("Save the file as UTF-8.")
    })
}

struct Builder<'a> {
    events: Parser<'a, granit_parser::StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    text: usize,
    depth: usize,
}

fn mark_of(span: &Span) -> Mark {
    Mark { line: span.start.line(), column: span.start.col() + 1 }
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Mark), Fault> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, mark_of(&span))),
            Some(Err(error)) => {
                let mark = Mark { line: error.marker().line(), column: error.marker().col() + 1 };
                Err(Fault::new(format!("it is not YAML: {}", error.info())).at(mark))
            }
            None => Err(Fault::new("it is not YAML: it ends too early")),
        }
    }

    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            let (event, mark) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(Fault::new("a second document begins")
                        .at(mark)
                        .hint("One file, one document."));
                }
                Event::DocumentStart(..) => {}
                Event::StreamEnd => break,
                event => root = Some(self.node(event, mark)?),
            }
        }
        root.ok_or_else(|| Fault::new("it is empty").at(Mark { line: 1, column: 1 }))
    }

    fn node(&mut self, event: Event<'a>, mark: Mark) -> Result<Node, Fault> {
        let anchor = event.anchor_id();
        let string = is_string(event.tag()).map_err(|fault| fault.at(mark))?;
        let value = match event {
            Event::Scalar(text, style, ..) => {
                Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain && !string }
            }
            Event::SequenceStart(..) => self.deeper(Self::list)?,
            Event::MappingStart(..) => self.deeper(Self::map)?,
            Event::Alias(id) => return self.alias(id, mark),
            _ => return Err(Fault::new("it is not YAML: expected a value").at(mark)),
        };
        let node = Node { mark, value };
        self.count(&node, mark)?;
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn deeper(&mut self, read: fn(&mut Self) -> Result<Value, Fault>) -> Result<Value, Fault> {
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn alias(&mut self, id: usize, mark: Mark) -> Result<Node, Fault> {
        let node = self.anchors.get(&id).cloned();
        let node = node.ok_or_else(|| Fault::new("an alias stands inside what it names").at(mark))?;
        self.count_all(&node, mark, self.depth)?;
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, mark) => items.push(self.node(event, mark)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (event, mark) => key_of(self.node(event, mark)?)?,
            };
            if let Some(line) = seen.insert(key.text.clone(), key.mark.line) {
                let what = format!("key {} stands here twice", super::node::shown(&key.text));
                return Err(Fault::new(what)
                    .at(key.mark)
                    .hint(format!("It was first given in line {line}.")));
            }
            let (event, mark) = self.next()?;
            let mut node = self.node(event, mark)?;
            if node.is_null() {
                node.mark = key.mark; // nothing has no place of its own
            }
            entries.push((key, node));
        }
    }

    fn count_all(&mut self, node: &Node, mark: Mark, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new("it is nested too deeply").at(mark));
        }
        self.count(node, mark)?;
        match &node.value {
            Value::Scalar { .. } => Ok(()),
            Value::List(items) => items.iter().try_for_each(|item| self.count_all(item, mark, depth + 1)),
            Value::Map(entries) => {
                entries.iter().try_for_each(|(_, item)| self.count_all(item, mark, depth + 1))
            }
        }
    }

    fn count(&mut self, node: &Node, mark: Mark) -> Result<(), Fault> {
        self.nodes += 1;
        self.text += match &node.value {
            Value::Scalar { text, .. } => text.len(),
            Value::Map(entries) => entries.iter().map(|(key, _)| key.text.len()).sum(),
            Value::List(_) => 0,
        };
        if self.nodes > MAX_NODES || self.text > MAX_TEXT {
            return Err(Fault::new(format!("it holds more than {MAX_NODES} values")).at(mark));
        }
        Ok(())
    }
}

fn is_string(tag: Option<&Tag>) -> Result<bool, Fault> {
    match tag {
        None => Ok(false),
        Some(tag) if tag.is_yaml_core_schema_tag("str") => Ok(true),
        Some(_) => Err(Fault::new("a tag stands here").hint("Tags (`!name`) are not read; remove it.")),
    }
}

fn key_of(node: Node) -> Result<Key, Fault> {
    if node.is_null() {
        return Err(Fault::new("a key is empty").at(node.mark));
    }
    match node.value {
        Value::Scalar { text, plain: true } if text == "<<" => {
            Err(Fault::new("merge keys (`<<`) are not read").at(node.mark).hint("Use `defaults:`."))
        }
        Value::Scalar { text, .. } => Ok(Key { mark: node.mark, text }),
        _ => Err(Fault::new("a key is not a word").at(node.mark)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> (String, usize, usize) {
        let fault = parse(text.as_bytes()).unwrap_err();
        let mark = fault.mark.unwrap();
        (fault.what, mark.line, mark.column)
    }

    #[test]
    fn every_value_knows_its_line_and_column() {
        let root = parse(b"a: 1\nb:\n  - x\n  - {c: 'y'}\n").unwrap();
        assert_eq!(root.place(&["b", "1", "c"]), Mark { line: 4, column: 9 });
        assert_eq!(root.place(&["b"]), Mark { line: 2, column: 1 });
        assert_eq!(root.place(&["a"]), Mark { line: 1, column: 4 });
        assert_eq!(root.place(&["b", "7"]), Mark { line: 2, column: 1 });
    }

    #[test]
    fn json_is_read_as_it_is() {
        let root = parse(br#"{"a": {"b": ["\u00e9\ud83c\udfb5", null, true]}}"#).unwrap();
        let Value::List(items) = &root.find("a").unwrap().find("b").unwrap().value else { panic!() };
        assert_eq!(items[0].value, Value::Scalar { text: "é🎵".into(), plain: false });
        assert!(items[1].is_null());
    }

    #[test]
    fn a_bomb_of_aliases_is_cut() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let items = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{items}]\n");
        }
        assert!(fault(&bomb).0.contains("more than 200000 values"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1000].join(", "));
        assert!(fault(&long).0.contains("more than"));
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
        assert!(parse("- ".repeat(100_000).as_bytes()).is_err());
        let mut deep = String::from("a0: &a0 x\n");
        for i in 1..100 {
            deep += &format!("a{i}: &a{i} {}*a{}{}\n", "[".repeat(20), i - 1, "]".repeat(20));
        }
        assert_eq!(fault(&deep).0, "it is nested too deeply");
        assert!(fault("a: &a [*a]").0.contains("inside what it names"));
    }

    #[test]
    fn an_ordinary_alias_is_the_value_it_names() {
        let root = parse(b"a: &x {k: v}\nb: *x\n").unwrap();
        assert_eq!(root.find("a"), root.find("b"));
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused_with_its_place() {
        assert_eq!(fault("a: 1\na: 2\n"), ("key \"a\" stands here twice".into(), 2, 1));
        assert_eq!(fault("a: 1\n---\nb: 2\n"), ("a second document begins".into(), 2, 1));
        assert_eq!(fault("x: 1\nb: !secret 2\n").1, 2);
        assert_eq!(fault("x: 1\n~: 2\n"), ("a key is empty".into(), 2, 1));
        assert_eq!(fault("x: 1\n<<: {y: 1}\n").1, 2);
        assert_eq!(fault("").0, "it is empty");
        assert_eq!(fault("a:\n\tb: 1\n").1, 2);
        assert_eq!(fault(&"x".repeat(MAX_BYTES + 1)).0, "it is longer than 1048576 bytes");
    }

    #[test]
    fn what_is_not_utf8_is_refused_with_its_place() {
        let fault = parse(b"a: 1\nb: caf\xe9\n").unwrap_err();
        assert_eq!((fault.what.as_str(), fault.mark), ("it is not UTF-8", Some(Mark { line: 2, column: 7 })));
        assert!(parse(b"\xff\xfea\x00:\x00").is_err());
        assert!(parse(b"\xef\xbb\xbfa: 1").is_ok());
    }
}
