//! YAML of a secrets file -> JSON, as Airflow's PyYAML reads it where that can be meant.
//!
//! In:    the text of one document.
//! Out:   its value; a [`Fault`] with the line otherwise, which quotes nothing.
//! Holds: at most [`MAX_NODES`] values after aliases are expanded, 64 levels.
//! Not here: what the entries mean (`files`), JSON and `.env`.
//!
//! A word without quotes becomes a number only if that number is written in just this way: PyYAML makes
//! 83 of `0123` and 62 of `1:02`, which is nobody's password. The last of two equal keys wins.

use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, StrInput};
use std::collections::HashMap;

/// The most values of a document, aliases expanded.
const MAX_NODES: usize = 100_000;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;

/// What is wrong, and in which line.
#[derive(Debug)]
pub(super) struct Fault {
    pub what: &'static str,
    pub line: usize,
}

/// Reads one document.
///
/// # Errors
/// A [`Fault`] at the first thing that cannot be read.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    let options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
    };
    let events = Parser::new_from_str_with_options(text, options);
    Builder { events, anchors: HashMap::new(), nodes: 0, depth: 0 }.document()
}

struct Builder<'a> {
    events: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Value>,
    nodes: usize,
    depth: usize,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Fault> {
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.line())),
            // The parser's own words may quote the text.
            Some(Err(error)) => Err(Fault { what: "it is not YAML", line: error.marker().line() }),
            None => Err(Fault { what: "it ends too early", line: 0 }),
        }
    }

    fn document(&mut self) -> Result<Value, Fault> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), line) if root.is_some() => {
                    return Err(Fault { what: "a second document begins", line });
                }
                (Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, _) => return Ok(root.unwrap_or(Value::Null)),
                (event, line) => root = Some(self.value(event, line)?),
            }
        }
    }

    fn value(&mut self, event: Event<'a>, line: usize) -> Result<Value, Fault> {
        self.nodes += 1;
        if self.nodes > MAX_NODES || self.depth > MAX_DEPTH {
            return Err(Fault { what: "it holds too many values", line });
        }
        let anchor = event.anchor_id();
        let is_text = match event.tag() {
            None => false,
            Some(tag) if tag.is_yaml_core_schema_tag("str") => true,
            Some(_) => return Err(Fault { what: "a tag stands there, which is not read", line }),
        };
        let value = match event {
            Event::Scalar(text, ScalarStyle::Plain, ..) if !is_text => plain(&text),
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            Event::Alias(id) => return self.alias(id, line),
            _ => return Err(Fault { what: "it is not YAML", line }),
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, value.clone());
        }
        Ok(value)
    }

    fn alias(&mut self, id: usize, line: usize) -> Result<Value, Fault> {
        let Some(value) = self.anchors.get(&id) else {
            return Err(Fault { what: "an alias stands inside what it names", line });
        };
        self.nodes += size(value);
        if self.nodes > MAX_NODES {
            return Err(Fault { what: "it holds too many values", line });
        }
        Ok(value.clone())
    }

    fn list(&mut self) -> Result<Value, Fault> {
        self.depth += 1;
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, line) => items.push(self.value(event, line)?),
            }
        }
        self.depth -= 1;
        Ok(Value::Array(items))
    }

    fn map(&mut self) -> Result<Value, Fault> {
        self.depth += 1;
        let mut entries = Map::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), line) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        return Err(Fault {
                            what: "a merge key (`<<`) stands there, which is not read",
                            line,
                        });
                    }
                    (text.into_owned(), line)
                }
                (_, line) => return Err(Fault { what: "a key is not a word", line }),
            };
            let (event, _) = self.next()?;
            let value = self.value(event, line)?;
            entries.insert(key, value);
        }
        self.depth -= 1;
        Ok(Value::Object(entries))
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

/// What a word without quotes is; YAML 1.1, as PyYAML reads it.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    match text.parse::<Number>() {
        Ok(number) if number.to_string() == text => Value::Number(number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_become_numbers_only_where_nothing_is_lost() {
        let read =
            parse("a: 5432\nb: 0123\nc: 1e5\nd: '5'\ne: yes\nf: 1.5\ng: ~\nh: 1_000\ni: 1:02\nj: !!str 5\n");
        let expected = json!({"a": 5432, "b": "0123", "c": "1e5", "d": "5", "e": true, "f": 1.5, "g": null,
            "h": "1_000", "i": "1:02", "j": "5"});
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn the_last_of_two_equal_keys_wins_and_an_alias_is_what_it_names() {
        let read = parse("a: &x {k: [1, two]}\nb: *x\na: 2\n").unwrap();
        assert_eq!(read, json!({"a": 2, "b": {"k": [1, "two"]}}));
    }

    #[test]
    fn what_is_not_read_is_told_by_its_line_and_not_quoted() {
        for (text, line) in [("a: 1\nb: [MARK\n", 3), ("a: 1\n---\nb: MARK\n", 2), ("a: !MARK x\n", 1)] {
            let fault = parse(text).unwrap_err();
            assert!(fault.line <= line && !fault.what.contains("MARK"), "{text}: {fault:?}");
        }
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..9 {
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", "));
        }
        assert_eq!(parse(&bomb).unwrap_err().what, "it holds too many values");
    }
}
