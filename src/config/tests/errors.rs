//! Every mistake is 78 and says file, line, column and what to write.

use super::*;

/// (pipeline text, place, part of what is told, part of the hint)
fn refused(text: &str, place: &str, what: &str, hint: &str) {
    let (told_what, told_hint) = told(load(text));
    let start = format!("cannot read pipelines/p.yaml:{place}: ");
    assert!(told_what.starts_with(&start), "{told_what}\nexpected {start}\n{text}");
    assert!(told_what.contains(what), "{told_what}\nexpected {what}\n{text}");
    assert!(told_hint.contains(hint), "{told_hint:?}\nexpected {hint}\n{text}");
}

/// As [`refused`], for the keys of one table that stands in line 4.
fn refused_table(keys: &str, column: usize, what: &str, hint: &str) {
    let text = format!("source: s\nschema: w\ntables:\n  public.t: {keys}\n");
    refused(&text, &format!("4:{column}"), what, hint);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    refused("source: s\nshcema: w\n", "2:1", "unknown key \"shcema\"", "Did you mean `schema`?");
    refused_table(
        "{replicaton_key: x}",
        14,
        "unknown key \"replicaton_key\"",
        "Did you mean `replication_key`?",
    );
    refused_table("{checks: {rows: {mim: 1}}}", 30, "unknown key \"mim\"", "Did you mean `min`?");
    refused_table("{zzz: 1}", 14, "unknown key \"zzz\"", "Known here: target, mode, key");
    refused_table("{checks: {null_rate: {a: {at_moost: 0}}}}", 39, "unknown key", "`at_most`");
}

#[test]
fn an_unknown_word_names_the_nearest_and_is_not_quoted() {
    refused_table("{mode: incremntal}", 20, "one of incremental, append, full_refresh", "`incremental`");
    refused_table("{mask: {a: redakt}}", 24, "one of hmac, redact, nullify", "Did you mean `redact`?");
    let (what, hint) = told(one("", "{mask: {a: hunter2}}"));
    assert!(!what.contains("hunter2") && !hint.contains("hunter2"));
}

#[test]
fn nothing_where_a_word_belongs_is_never_no_mask() {
    for null in ["", "~", "null", "Null", "NULL"] {
        refused_table(&format!("{{mask: {{a: {null}}}}}"), 21, ", found nothing", "");
    }
    refused(
        "source: s\nschema: w\ntables:\n  public.t:\n    mask:\n      a:\n",
        "6:7",
        "expected one of hmac",
        "",
    );
    refused(
        "source: s\nschema: w\ntables:\n  public.t:\n    mask:\n",
        "5:5",
        "expected keys and values, found nothing",
        "",
    );
    for keys in [
        "{mode: }",
        "{replication_key: ~}",
        "{filter: null}",
        "{drop: }",
        "{columns: {exclude: }}",
        "{key: }",
        "{lookback: }",
    ] {
        let (what, _) = told(one("", keys));
        assert!(what.contains(", found nothing"), "{keys}: {what}");
    }
    refused("source:\nschema: w\ntables: {public.t: }\n", "1:1", "expected a word", "");
    assert!(told(one("", "{mask: {a: 'null'}}")).0.contains("one of hmac"));
}

#[test]
fn a_table_alone_has_every_default() {
    let table = one("", "").unwrap();
    assert_eq!(
        (table.mode, table.deletes.mode, table.deletes.at_most),
        (Mode::FullRefresh, DeleteMode::Hard, 0.2)
    );
    assert_eq!(one("", "~").unwrap().name, TableName::new("public", "t"));
    refused("source: s\nschema: w\ntables: {}\n", "3:1", "at least one table", "");
    refused("source: s\nschema: w\n", "1:1", "key \"tables\" is missing", "");
}

#[test]
fn the_same_key_table_or_target_twice_is_refused() {
    refused("source: s\nsource: t\n", "2:1", "key \"source\" stands here twice", "line 1");
    let tables = |more: &str| format!("source: s\nschema: w\ntables:\n  public.t:\n  {more}\n");
    refused(&tables("public.t:"), "5:3", "twice", "line 4");
    refused(&tables("Public.T:"), "5:3", "table public.t stands here twice", "");
    refused(&tables("other.t:"), "5:3", "tables public.t and other.t share the target \"t\"", "`target:`");
    refused(&tables("other.u: {target: t}"), "5:21", "share the target \"t\"", "");
    assert!(load(&tables("other.t: {target: u}")).is_ok());
}

#[test]
fn names_that_postgresql_would_cut_are_refused_by_name() {
    let long = "é".repeat(32);
    assert_eq!(long.len(), 64);
    refused_table(
        &format!("{{mask: {{{long}: hmac}}}}"),
        21 + 34,
        &format!("name \"{long}\" has 64 bytes"),
        "63 bytes",
    );
    for keys in [
        format!("{{replication_key: {long}}}"),
        format!("{{target: {long}}}"),
        format!("{{columns: {{exclude: [{long}]}}}}"),
        format!("{{key: [{long}]}}"),
        format!("{{checks: {{unique: [{long}]}}}}"),
        format!("{{checks: {{freshness: {{{long}: 1d}}}}}}"),
    ] {
        assert!(told(one("", &keys)).0.contains("has 64 bytes"), "{keys}");
    }
    assert!(
        told(load(&format!("source: s\nschema: w\ntables: {{'public.\"{long}\"': }}")))
            .0
            .contains("has 64 bytes")
    );
    assert!(
        told(load(&format!("source: s\nschema: {long}\ntables: {{a.b: }}")))
            .0
            .contains("pipelines/p.yaml:2:9")
    );
    assert!(one("", &format!("{{target: {}}}", "x".repeat(63))).is_ok());
}

#[test]
fn a_mode_that_needs_a_replication_key_says_so() {
    refused_table("{mode: incremental}", 20, "mode incremental needs a replication_key", "updated_at");
    refused_table("{mode: append}", 20, "mode append needs a replication_key", "xmin");
    let (what, _) = told(one("defaults: {mode: incremental}", ""));
    assert!(what.contains("pipelines/p.yaml:5:3: mode incremental needs"), "{what}");
}

#[test]
fn what_cannot_apply_to_a_full_refresh_is_refused_on_the_table_and_ignored_when_inherited() {
    refused_table("{mode: full_refresh, lookback: 10m}", 44, "full_refresh has no lookback", "");
    refused_table("{lookback: 10m}", 24, "full_refresh has no lookback", "");
    refused_table("{deletes: {every: 1d}}", 31, "no `every`", "");
    let table =
        one("defaults: {replication_key: u, lookback: 10m, deletes: {every: 2d}}", "{mode: full_refresh}")
            .unwrap();
    assert_eq!((table.lookback, table.replication_key, table.deletes.every), (None, None, Duration::ZERO));
}

#[test]
fn a_key_cannot_lose_its_values_to_a_mask() {
    for mask in ["nullify", "redact"] {
        let (what, _) = told(one("", &format!("{{key: id, mask: {{id: {mask}}}}}")));
        assert!(what.contains("column \"id\" is a key column"), "{what}");
        let (what, _) = told(one("defaults: {replication_key: u}", &format!("{{mask: {{u: {mask}}}}}")));
        assert!(what.contains("column \"u\" is the replication key"), "{what}");
    }
    assert!(one("", "{key: [id, x], mask: {id: hmac, y: nullify}}").is_ok());
    assert!(one("defaults: {replication_key: u}", "{mode: full_refresh, mask: {u: nullify}}").is_ok());
    refused_table("{key: id, columns: {exclude: [a, id]}}", 46, "key column", "");
    refused_table("{key: id, columns: {include: [a]}}", 33, "key column \"id\" is not among them", "");
}

#[test]
fn what_is_written_badly_is_refused_where_it_stands() {
    for (keys, what) in [
        ("{lookback: 10, replication_key: u, checks: {freshness: {a: 36}}}", "a duration such as"),
        ("{checks: {null_rate: {a: 5}}}", "a share such as"),
        ("{checks: {rows: {min: -1}}}", "a whole number"),
        ("{checks: {rows: {min: '1'}}}", "a whole number"),
        ("{checks: {rows: {min: 2, max: 1}}}", "smaller than `min`"),
        ("{checks: {rows: {}}}", "one of min, max, max_change"),
        ("{checks: {unique: [a, [b]]}}", "a column stands among lists"),
        ("{checks: {unique: a}}", "a value of this form"),
        ("{checks: {accepted: {a: []}}}", "at least one value"),
        ("{checks: {references: {a: b.c}}}", "schema.table.column"),
        ("{checks: {references: [{columns: [a, b], table: w.x, to: [c]}]}}", "as many columns"),
        ("{checks: {sql: {x: delete from t}}}", "the query is refused"),
        ("{filter: 'a = 1; drop table t'}", "the filter is refused: it holds a `;`"),
        ("{filter: 'a = 1 -- x'}", "the filter is refused: it holds a comment"),
        ("{filter: 'a = 1) or (1 = 1'}", "closes nothing"),
        ("{drop: yes}", "expected true or false"),
        ("{key: []}", "at least one name"),
        ("{key: [a, a]}", "\"a\" stands here twice"),
        ("[a]", "expected keys and values, found a list"),
        ("word", "expected keys and values, found a word"),
    ] {
        let (told_what, _) = told(one("", keys));
        assert!(told_what.contains(what), "{keys}\n{told_what}");
        assert!(told_what.starts_with("cannot read pipelines/p.yaml:5:"), "{keys}\n{told_what}");
    }
    let tables = "\ntables: {a.b: }";
    for (head, what) in [
        ("source: s\nschema: w\nconnections: 0", "1 to 64"),
        ("source: s\nschema: w\nconnections: two", "a whole number"),
        ("source: s\nschema: w\nmax_row_bytes: 1MB", "a size such as"),
        ("source: s\nschema: w\nstatement_timeout: 0s", "above 0s"),
        ("source: s\nschema: w\nstatement_timeout: 25d", "up to 24d"),
        ("source: s\nschema: w\nmax_snapshot_age: 0s", "above 0s"),
        ("source: s\nschema: w\nmax_row_bytes: 0", "1KiB or more"),
        ("source: s\nschema: w\nencoding: \"'\"", "an encoding such as"),
        ("source: s\nschema: w\ndefaults: {timezone: 'a b'}", "a time zone"),
        ("source: s\nschema: sankofa", "not for pipelines"),
        ("source: s\nschema: pg_temp", "not for pipelines"),
        ("source: 'a b'\nschema: w", "an id without white space"),
        ("source: {singer: tap}\nschema: w", "expected a word, found keys and values"),
        ("source: s\nschema: w\nschedule: {cron: never}", "five fields"),
        ("source: s\nschema: w\nschedule: {cron: '@daily', timezone: 'a b'}", "a time zone"),
        ("source: s\nschema: w\nname: q", "it is pipeline \"q\", not \"p\""),
    ] {
        let (told_what, _) = told(load(&format!("{head}{tables}")));
        assert!(
            told_what.contains(what) && told_what.starts_with("cannot read pipelines/p.yaml:"),
            "{told_what}"
        );
    }
    for name in ["employee", "a.b.c", "a.\"b"] {
        let text = format!("source: s\nschema: w\ntables: {{'{name}': }}");
        assert!(told(load(&text)).0.contains("is not schema.table"), "{name}");
    }
}

#[test]
fn a_file_that_is_no_yaml_says_where() {
    refused("source: [s\nschema: w\n", "2:7", "it is not YAML", "");
    refused("source: s\n  schema: w\n", "2:9", "it is not YAML", "");
    refused("", "1:1", "it is empty", "");
    refused("- a\n", "1:1", "expected keys and values, found a list", "");
    let d = dir(&[("sankofa.yaml", PROJECT.as_bytes()), ("pipelines/p.yaml", b"source: s\nschema: \xff\n")]);
    let (what, _) = told(load_pipeline(&d.files, &load_project(&d.files).unwrap(), "p"));
    assert_eq!(what, "cannot read pipelines/p.yaml:2:9: it is not UTF-8");
}

#[test]
fn a_bomb_ends_quickly() {
    let mut bomb = String::from("source: s\nschema: w\nx0: &x0 [a, a, a, a, a, a, a, a, a]\n");
    for i in 1..30 {
        bomb += &format!("x{i}: &x{i} [{}]\n", vec![format!("*x{}", i - 1); 9].join(", "));
    }
    let start = std::time::Instant::now();
    assert!(told(load(&bomb)).0.contains("more than"));
    assert!(told(load(&"x: [".repeat(200_000))).0.contains("cannot read pipelines/p.yaml:1:"));
    assert!(told(load(&"é".repeat(600_000))).0.contains("longer than"));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_not_there_is_named_with_the_nearest() {
    let d = dir(&[("pipelines/hr.yaml", b"source: s")]);
    let (what, hint) = told(load_project(&d.files));
    assert!(what.contains("sankofa.yaml: there is no such file") && hint.contains("sankofa init"), "{what}");
    let project = project_of(PROJECT).unwrap();
    let (what, hint) = told(load_pipeline(&d.files, &project, "hrr"));
    assert_eq!(what, "cannot read pipelines/hrr.yaml: there is no such pipeline");
    assert_eq!(hint, "Did you mean `hr`?");
    for name in ["../hr", "", "a/b", ".hidden", "a b", &"x".repeat(64)] {
        assert!(told(load_pipeline(&d.files, &project, name)).0.contains("no name of a pipeline"), "{name}");
    }
    let (what, _) = told(pipeline_names(&dir(&[]).files));
    assert!(what.contains("cannot list pipelines"));
    assert!(told(pipeline_names(&dir(&[("pipelines/a.yml", b"")]).files)).0.contains("end in .yaml"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, ..Default::default() })]

    /// A file torn or scribbled on anywhere is read, or refused with its place; nothing panics.
    #[test]
    fn whatever_is_wrong_names_file_line_and_column(
        operator in proptest::bool::ANY,
        at in 0usize..2000,
        cut in 0usize..12,
        put in "[a-z0-9:,~&*!|>%@`'\"{}\\[\\]#?\\$\n\t -]{0,4}",
    ) {
        let file = if operator { "sankofa.yaml" } else { "pipelines/hr.yaml" };
        let mut text = std::fs::read_to_string(design().project_dir.join(file)).unwrap();
        let start = at % text.len();
        let end = (start + cut).min(text.len());
        text.replace_range(start..end, &put);
        let (accepted, told) = secrets::everything_told(file, &text);
        if !accepted {
            let place = told.split(&format!("cannot read {file}:")).nth(1).unwrap_or_default();
            let mut numbers = place.split(':').map(str::parse::<usize>);
            let (line, column) = (numbers.next(), numbers.next());
            proptest::prop_assert!(matches!((line, column), (Some(Ok(1..)), Some(Ok(1..)))), "{}", told);
        }
    }
}
