//! The house rules that a compiler does not hold: which way imports point, and how long things get.
//!
//! In:    the text of `src`, formatted by rustfmt.
//! Holds: each broken rule is told with file and line; code under `#[cfg(test)]` is left out.

use std::fs;
use std::path::Path;

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;

/// Modules that only speak: no file, no socket, no runtime.
const VOCABULARY: [&str; 4] = ["error", "table", "report", "progress"];
const IO_PATHS: [&str; 3] = ["tokio", "std::fs", "std::net"];
/// Each does half of the work and does not know of the other.
const STRANGERS: [(&str, &str); 2] = [("etl", "backup"), ("backup", "etl")];

/// A source file without its tests.
struct Source {
    /// Relative to the checkout, such as `src/pg/copy.rs`.
    path: String,
    /// Line number from 1, and text.
    lines: Vec<(usize, String)>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), lines: without_tests(text) }
    }

    /// The top-level module it belongs to; "" for main.rs and lib.rs.
    fn module(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let first = inside.split('/').next().unwrap_or_default();
        match first.strip_suffix(".rs").unwrap_or(first) {
            "main" | "lib" => "",
            module => module,
        }
    }

    /// Its lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.lines.iter().filter(|(_, line)| !is_comment(line));
        lines.map(|(number, line)| (*number, line.split(" // ").next().unwrap_or(line)))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The lines of `text` that are outside `#[cfg(test)]` items, numbered from 1.
fn without_tests(text: &str) -> Vec<(usize, String)> {
    let mut kept = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            kept.push((number, line.to_owned()));
            continue;
        }
        let margin = indent(line);
        for (line, _) in lines.by_ref() {
            let is_last = line.ends_with(';') || line.ends_with('}');
            if is_last && indent(line) == margin {
                break;
            }
        }
    }
    kept
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// Whether a file or folder holds tests only: `tests`, `tests.rs`, `x_test.rs`.
fn is_tests(path: &Path) -> bool {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .is_some_and(|stem| stem == "tests" || stem.ends_with("_test"))
}

/// Every file of `src` but the files of tests.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if is_tests(&path) {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                found.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The modules in the order of lib.rs: each may use those above it.
fn order(lib: &str) -> Vec<String> {
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// Every module `x` of a path `crate::x`, with the line where it is named.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let lines: Vec<_> = source.code().collect();
    for (at, (number, line)) in lines.iter().enumerate() {
        for (start, _) in line.match_indices("crate::") {
            let rest = &line[start + "crate::".len()..];
            if !rest.starts_with('{') {
                found.push((*number, first_word(rest)));
                continue;
            }
            let tail: Vec<&str> = lines[at + 1..].iter().map(|(_, line)| *line).collect();
            let group = format!("{rest}\n{}", tail.join("\n"));
            found.extend(group_items(&group).into_iter().map(|item| (*number, first_word(&item))));
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The items of `{a, b::{c, d}}`, as written, at the outer level.
fn group_items(text: &str) -> Vec<String> {
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => items.push(String::new()),
            _ if depth == 1 => items.last_mut().unwrap().push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    items.into_iter().filter(|item| !item.trim().is_empty()).collect()
}

/// Imports that point up the page, or that name a module lib.rs does not list.
fn wrong_arrows(source: &Source, order: &[String]) -> Vec<String> {
    let place = |module: &str| order.iter().position(|listed| listed == module);
    let Some(here) = place(source.module()) else { return Vec::new() };
    let mut told = Vec::new();
    for (number, used) in imports(source) {
        // A name that is no module is an item of lib.rs itself, such as a macro.
        let Some(there) = place(&used) else { continue };
        let are_strangers = STRANGERS.contains(&(source.module(), used.as_str()));
        if there > here || are_strangers {
            told.push(format!("{}:{number}: {} may not use crate::{used}", source.path, source.module()));
        }
    }
    told
}

/// `super::` in a file at the top level is `crate::`, unseen by [`wrong_arrows`].
fn hidden_arrows(source: &Source) -> Vec<String> {
    let depth = source.path.matches('/').count();
    let is_top = depth == 1 || (depth == 2 && source.path.ends_with("/mod.rs"));
    let is_hidden = |(_, line): &(usize, &str)| is_top && line.trim_start().starts_with("use super::");
    let tell = |(number, _)| format!("{}:{number}: write crate:: for super::", source.path);
    source.code().filter(is_hidden).map(tell).collect()
}

fn is_speaking_only(source: &Source) -> Vec<String> {
    if !VOCABULARY.contains(&source.module()) {
        return Vec::new();
    }
    let names = |line: &str| IO_PATHS.iter().find(|path| line.contains(&format!("{path}::"))).copied();
    let tell = |(number, line)| Some(format!("{}:{number}: vocabulary uses {}", source.path, names(line)?));
    source.code().filter_map(tell).collect()
}

/// (line, name, length) of every function with a body.
fn functions(source: &Source) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (at, (number, line)) in source.lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let body = &source.lines[at..];
        let end = format!("{}}}", indent(line));
        // rustfmt puts the closing brace under the `fn`; one line says it all, or it has no body.
        let is_end =
            |(_, text): &(usize, String)| text == &end || text.ends_with(';') && indent(text) == indent(line);
        let is_short = line.ends_with('}') || line.ends_with(';');
        let length =
            if is_short { 1 } else { body.iter().position(is_end).map_or(body.len(), |end| end + 1) };
        found.push((*number, name, length));
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    if is_comment(line) {
        return None;
    }
    let (before, after) = line.split_once("fn ")?;
    let is_modifier = |word: &str| {
        word.starts_with("pub")
            || ["async", "const", "unsafe", "extern", "\"C\"", "crate)", "super)"].contains(&word)
    };
    before.split_whitespace().all(is_modifier).then(|| first_word(after)).filter(|name| !name.is_empty())
}

fn check(what: &str, rule: impl Fn(&Source) -> Vec<String>) {
    let told: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(told.is_empty(), "{what}:\n{}", told.join("\n"));
}

#[test]
fn a_module_uses_only_modules_above_it_in_lib_rs_and_etl_and_backup_never_meet() {
    let order = order(include_str!("../src/lib.rs"));
    check("arrows point down lib.rs only", |source| wrong_arrows(source, &order));
    check("arrows are written out", hidden_arrows);
}

#[test]
fn every_file_of_src_is_in_a_module_that_lib_rs_lists() {
    let order = order(include_str!("../src/lib.rs"));
    check("modules are listed in lib.rs", |source| {
        let is_listed = source.module().is_empty() || order.iter().any(|listed| listed == source.module());
        if is_listed { Vec::new() } else { vec![format!("{}: not listed", source.path)] }
    });
}

#[test]
fn the_vocabulary_does_no_input_or_output() {
    check("error, table, report and progress only speak", is_speaking_only);
}

#[test]
fn no_file_is_longer_than_400_lines() {
    check("split what it does, not the file", |source| {
        let length = source.lines.len();
        let last = source.lines.last().map_or(0, |(number, _)| *number);
        let tell = format!("{}:{last}: {length} lines without tests", source.path);
        if length > LONGEST_FILE { vec![tell] } else { Vec::new() }
    });
}

#[test]
fn no_function_is_longer_than_60_lines() {
    check("name its parts", |source| {
        let long = functions(source).into_iter().filter(|(_, _, length)| *length > LONGEST_FUNCTION);
        long.map(|(number, name, length)| format!("{}:{number}: fn {name} has {length} lines", source.path))
            .collect()
    });
}

#[test]
fn only_main_exits() {
    check("return the failure instead", |source| {
        let exits =
            |(_, line): &(usize, &str)| line.contains("process::exit") || line.contains("process::abort");
        let tell = |(number, _)| format!("{}:{number}: exits", source.path);
        if source.path == "src/main.rs" {
            Vec::new()
        } else {
            source.code().filter(exits).map(tell).collect()
        }
    });
}

#[test]
fn only_pg_tool_starts_programs() {
    check("go through pg::tool", |source| {
        let starts = |(_, line): &(usize, &str)| {
            line.contains("process::Command") || line.contains("process::{") && line.contains("Command")
        };
        let tell = |(number, _)| format!("{}:{number}: starts programs", source.path);
        if source.path == "src/pg/tool.rs" {
            Vec::new()
        } else {
            source.code().filter(starts).map(tell).collect()
        }
    });
}

#[test]
fn every_file_opens_with_a_banner() {
    check("say what goes in, what comes out, what holds", |source| {
        let has_banner = source.lines.first().is_some_and(|(_, line)| line.starts_with("//! "));
        if has_banner { Vec::new() } else { vec![format!("{}:1: no //! banner", source.path)] }
    });
}

mod the_rules_themselves {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    #[test]
    fn an_arrow_up_the_page_is_found_in_a_path_and_in_a_group_over_lines() {
        let order = order("pub mod error;\npub mod pg;\npub mod etl;\npub mod backup;\n");
        let up = source("src/pg/copy.rs", "use crate::{\n    error::Failure,\n    etl::{merge, plan},\n};\n");
        assert_eq!(wrong_arrows(&up, &order), ["src/pg/copy.rs:1: pg may not use crate::etl"]);
        let path = source("src/error.rs", "//! x\nfn f() { crate::pg::connect() }\n");
        assert_eq!(wrong_arrows(&path, &order), ["src/error.rs:2: error may not use crate::pg"]);
        let down =
            source("src/etl/load.rs", "use crate::pg::copy; // crate::backup\nuse crate::etl::merge;\n");
        assert!(wrong_arrows(&down, &order).is_empty());
    }

    #[test]
    fn etl_and_backup_are_strangers_in_either_order() {
        let order = order("pub mod etl;\npub mod backup;\n");
        let backup = source("src/backup/dump.rs", "use crate::etl::stage;\n");
        assert_eq!(wrong_arrows(&backup, &order).len(), 1);
        let etl = source("src/etl/mod.rs", "use super::backup;\n");
        assert_eq!(hidden_arrows(&etl), ["src/etl/mod.rs:1: write crate:: for super::"]);
    }

    #[test]
    fn tests_are_left_out_and_lines_keep_their_numbers() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    use crate::cmd;\n}\n#[cfg(test)]\nmod more;\nfn b() {}\n";
        let kept = without_tests(text);
        assert_eq!(kept, [(1, "fn a() {}".to_owned()), (8, "fn b() {}".to_owned())]);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "impl X {\n    pub(crate) async fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n\n    fn short() {}\n\n    fn none(&self);\n}\n";
        let found = functions(&source("src/x.rs", text));
        let expected = [(2, "long", 5), (8, "short", 1), (10, "none", 1)];
        assert_eq!(found, expected.map(|(line, name, length)| (line, name.to_owned(), length)));
    }

    #[test]
    fn a_comment_about_io_is_no_io() {
        let text = "//! Not tokio::fs.\nuse std::fmt;\n// std::net::TcpStream\n";
        assert!(is_speaking_only(&source("src/error.rs", text)).is_empty());
        assert_eq!(is_speaking_only(&source("src/report.rs", "use std::fs::File;\n")).len(), 1);
    }
}
