//! What a pipeline's keys come to.

use super::*;

#[test]
fn the_mode_follows_from_the_replication_key() {
    for (defaults, keys, mode, key) in [
        ("", "", Mode::FullRefresh, None),
        ("", "{replication_key: u}", Mode::Incremental, Some("u")),
        ("defaults: {replication_key: u}", "", Mode::Incremental, Some("u")),
        ("defaults: {replication_key: u}", "{replication_key: xmin}", Mode::Incremental, Some("xmin")),
        ("defaults: {replication_key: u}", "{mode: append}", Mode::Append, Some("u")),
        ("defaults: {replication_key: u}", "{mode: full_refresh}", Mode::FullRefresh, None),
        ("defaults: {mode: append, replication_key: u}", "", Mode::Append, Some("u")),
        ("defaults: {mode: full_refresh}", "{replication_key: u}", Mode::Incremental, Some("u")),
        ("defaults: {mode: append}", "{replication_key: u}", Mode::Append, Some("u")),
        ("defaults: {mode: full_refresh, replication_key: u}", "", Mode::FullRefresh, None),
    ] {
        let table = one(defaults, keys).unwrap();
        assert_eq!((table.mode, table.replication_key.as_deref()), (mode, key), "{defaults} {keys}");
    }
}

#[test]
fn a_lookback_keeps_its_unit_and_whether_it_is_inherited() {
    let lookback = |defaults, keys| one(defaults, keys).unwrap().lookback.map(|l| (l.span, l.inherited));
    let inherited = "defaults: {replication_key: u, lookback: 10m}";
    let minutes = Span::Time(Duration::from_secs(600));
    assert_eq!(lookback(inherited, ""), Some((minutes, true)));
    assert_eq!(lookback(inherited, "{lookback: 500}"), Some((Span::Count(500), false)));
    assert_eq!(lookback(inherited, "{lookback: 0}"), None);
    assert_eq!(lookback("", "{replication_key: u, lookback: 10m}"), Some((minutes, false)));
    assert_eq!(lookback("", "{replication_key: u}"), None);
}

#[test]
fn deletes_follow_the_mode_unless_said_otherwise() {
    let deletes = |defaults: &str, keys| {
        let d = one(defaults, keys).unwrap().deletes;
        (d.mode, d.every.as_secs() / 3600, (d.at_most * 100.0).round() as u32)
    };
    let key = "defaults: {replication_key: u}";
    assert_eq!(deletes(key, ""), (DeleteMode::Soft, 24, 20));
    assert_eq!(deletes(key, "{mode: append}"), (DeleteMode::Ignore, 24, 20));
    assert_eq!(deletes(key, "{mode: full_refresh}"), (DeleteMode::Hard, 0, 20));
    let hard = "defaults: {replication_key: u, deletes: {mode: hard, every: 2d, at_most: 5%}}";
    assert_eq!(deletes(hard, ""), (DeleteMode::Hard, 48, 5));
    assert_eq!(deletes(hard, "{deletes: {every: 1h}}"), (DeleteMode::Hard, 1, 5));
    assert_eq!(deletes(hard, "{mode: append}"), (DeleteMode::Ignore, 24, 20));
    assert_eq!(deletes(hard, "{mode: append, deletes: {mode: soft}}"), (DeleteMode::Soft, 24, 20));
    let soft = "defaults: {deletes: {mode: soft, every: 1d}}";
    assert_eq!(deletes(soft, ""), (DeleteMode::Soft, 0, 20));
}

#[test]
fn checks_have_short_forms_and_full_ones() {
    let checks = |text: &str| one("", &format!("{{checks: {text}}}")).unwrap().checks;
    let is = |text: &str, rule: Rule, scope, severity| {
        assert_eq!(checks(text), [Check { rule, scope, severity }], "{text}");
    };
    let null_rate = |share| Rule::NullRate { column: "a".into(), at_most: share };
    is("{null_rate: {a: 5%}}", null_rate(0.05), Scope::Batch, Severity::Fail);
    is(
        "{null_rate: {a: {at_most: 0, severity: warn, scope: table}}}",
        null_rate(0.0),
        Scope::Table,
        Severity::Warn,
    );
    is("{rows: {max: 9, severity: warn, scope: batch}}", Rule::MaxRows(9), Scope::Batch, Severity::Warn);
    is("{unique: [a, b]}", Rule::Unique(vec!["a".into(), "b".into()]), Scope::Table, Severity::Fail);
    is(
        "{unique: {columns: [a], scope: batch}}",
        Rule::Unique(vec!["a".into()]),
        Scope::Batch,
        Severity::Fail,
    );
    let two = checks("{unique: [[a], {columns: [b, c], severity: warn}]}");
    assert_eq!(two[0].rule, Rule::Unique(vec!["a".into()]));
    assert_eq!(
        (&two[1].rule, two[1].severity),
        (&Rule::Unique(vec!["b".into(), "c".into()]), Severity::Warn)
    );
    let accepted = |values: &[&str]| Rule::Accepted {
        column: "a".into(),
        values: values.iter().map(|v| (*v).to_owned()).collect(),
    };
    is("{accepted: {a: [M, F]}}", accepted(&["M", "F"]), Scope::Batch, Severity::Fail);
    is("{accepted: {a: [1, NO, '', 1.0]}}", accepted(&["1", "NO", "", "1.0"]), Scope::Batch, Severity::Fail);
    is("{accepted: {a: {values: [x], severity: warn}}}", accepted(&["x"]), Scope::Batch, Severity::Warn);
    let hour = Rule::Freshness { column: "a".into(), at_most: Duration::from_secs(3600) };
    is("{freshness: {a: {at_most: 1h, severity: warn}}}", hour, Scope::Table, Severity::Warn);
    let references = Rule::References {
        columns: vec!["a".into()],
        table: TableName::new("hr", "Odd"),
        to: vec!["id".into()],
    };
    is("{references: {a: 'hr.\"Odd\".id'}}", references.clone(), Scope::Batch, Severity::Fail);
    is(
        "{references: {a: {to: 'hr.\"Odd\".id', scope: table}}}",
        references.clone(),
        Scope::Table,
        Severity::Fail,
    );
    is(
        "{references: [{columns: [a], table: 'hr.\"Odd\"', to: [id]}]}",
        references,
        Scope::Batch,
        Severity::Fail,
    );
    let sql = Rule::Sql { name: "x".into(), query: "select 1 from {table}".into() };
    is("{sql: {x: 'select 1 from {table}'}}", sql.clone(), Scope::Table, Severity::Fail);
    is("{sql: {x: {query: 'select 1 from {table}', severity: warn}}}", sql, Scope::Table, Severity::Warn);
    assert!(one("", "{checks: {accepted: {a: [null]}}}").is_err());
}

#[test]
fn a_table_has_its_own_policy_and_target() {
    let table = one("on_schema_change: evolve", "{target: T2, on_schema_change: fail, drop: true}").unwrap();
    assert_eq!((table.target.as_str(), table.drop), ("T2", true));
    assert_eq!(table.on_schema_change, model::SchemaPolicy::Fail);
    assert_eq!(one("on_schema_change: evolve", "").unwrap().on_schema_change, model::SchemaPolicy::Evolve);
}

#[test]
fn tables_that_only_quoting_can_name_are_named() {
    let text = "source: s\nschema: w\ntables:\n  'public.\"\"\"; DROP TABLE x; --\"':\n  'public.\"a.b\"':\n";
    let names: Vec<String> = load(text).unwrap().tables.into_iter().map(|t| t.target).collect();
    assert_eq!(names, ["\"; DROP TABLE x; --", "a.b"]);
}

#[test]
fn variables_are_filled_in_and_a_number_stays_one() {
    let text = "source: ${SRC}\nschema: ${SCHEMA:-w}\nconnections: ${N:-4}\ntables: {a.b: }\n";
    let mut d = dir(&[("sankofa.yaml", PROJECT.as_bytes()), ("pipelines/p.yaml", text.as_bytes())]);
    let project = load_project(&d.files).unwrap();
    let (what, hint) = told(load_pipeline(&d.files, &project, "p"));
    assert_eq!(what, "cannot read pipelines/p.yaml:1:9: variable \"SRC\" is not set");
    assert!(hint.contains("${SRC:-default}"));
    d.files.variables.insert("SRC".into(), "hr_db".into());
    let pipeline = load_pipeline(&d.files, &project, "p").unwrap();
    assert_eq!((pipeline.source.as_str(), pipeline.schema.as_str(), pipeline.connections), ("hr_db", "w", 4));
}

#[test]
fn after_reads_files_of_the_project_only_and_refuses_control() {
    let load_after = |path: &str, sql: &str| {
        let text = format!("source: s\nschema: w\ntables: {{a.b: }}\nafter: [{path}]\n");
        let d = dir(&[
            ("project/sankofa.yaml", PROJECT.as_bytes()),
            ("project/pipelines/p.yaml", text.as_bytes()),
            ("project/sql/x.sql", sql.as_bytes()),
            ("outside.sql", b"select 1"),
        ]);
        let home = d.directory.path().join("project");
        std::os::unix::fs::symlink("../../outside.sql", home.join("sql/link.sql")).unwrap();
        let files = Files { project_dir: home, ..Files::default() };
        load_pipeline(&files, &load_project(&files)?, "p")
    };
    assert_eq!(load_after("sql/x.sql", "select 1;").unwrap().after[0].1, "select 1;");
    for path in [
        "../outside.sql",
        "sql/link.sql",
        "/etc/passwd",
        "sql/../../outside.sql",
        "sql/none.sql",
        "''",
        "sql",
    ] {
        let (what, _) = told(load_after(path, "select 1"));
        assert!(what.starts_with("cannot read pipelines/p.yaml:4:9: "), "{path}: {what}");
    }
    for sql in ["commit", "set role boss", "select 'x", "select 1; reset role"] {
        assert!(told(load_after("sql/x.sql", sql)).0.contains("\"sql/x.sql\": "), "{sql}");
    }
    let (what, _) = told(load_after("sql/x.sql", "select 1;\nselect 'postgresql://ama:hunter2@db/hr'"));
    assert!(
        what.contains("looks like a URI with a password (line 2)") && !what.contains("hunter2"),
        "{what}"
    );
}

#[test]
fn the_guard_says_which_schemas_a_source_may_fill() {
    let project = format!("{PROJECT}guard: {{sources: {{hr_db: [hr, hr_test]}}}}\n");
    let load = |source: &str, schema: &str| {
        let text = format!("source: {source}\nschema: {schema}\ntables: {{a.b: }}\n");
        let d = dir(&[("sankofa.yaml", project.as_bytes()), ("pipelines/p.yaml", text.as_bytes())]);
        load_pipeline(&d.files, &load_project(&d.files)?, "p")
    };
    assert!(load("hr_db", "hr_test").is_ok());
    assert!(load("records_db", "anything").is_ok());
    let (what, hint) = told(load("hr_db", "finance"));
    assert_eq!(what, "cannot read pipelines/p.yaml:2:9: source \"hr_db\" may not fill schema \"finance\"");
    assert!(hint.contains("hr, hr_test"));
}

#[test]
fn yaml_anchors_serve_as_in_any_yaml() {
    let text = "source: s\nschema: w\ntables:\n  a.b: {checks: &c {rows: {min: 1}}}\n  a.c: {checks: *c}\n";
    let tables = load(text).unwrap().tables;
    assert_eq!(tables[0].checks, tables[1].checks);
}
