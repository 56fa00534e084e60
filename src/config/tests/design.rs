//! The examples of DESIGN.md section 2 mean what it says they mean.

use super::*;

#[test]
fn the_project_of_the_design_is_read_whole() {
    let project = load_project(&design()).unwrap();
    assert_eq!(project.environment, "default");
    assert_eq!(project.warehouse.as_ref().unwrap().connection, "warehouse");
    assert_eq!(project.warehouse.as_ref().unwrap().reader_role.as_deref(), Some("metabase"));
    let stage = project.stage.unwrap();
    assert_eq!(stage.directory, PathBuf::from("/var/lib/sankofa/stage"));
    assert_eq!(stage.identity.as_deref(), Some("stage_identity"));
    assert_eq!(stage.encrypt_to.len(), 1);
    assert_eq!(project.secrets.len(), 4);
    assert_eq!(project.secrets[3], model::SecretPlace::Environment);
    let never: Vec<&str> = project.guard.never.iter().map(|p| p.text.as_str()).collect();
    assert_eq!(never, ["*.*.*.national_id", "hr.public.payroll"]);
    assert_eq!(project.guard.mask[1].1, Mask::Nullify);
    assert_eq!(project.guard.sources["hr_db"], ["hr"]);
}

#[test]
fn the_environment_of_the_design_replaces_its_store() {
    let files = Files { environment: Some("dev".into()), ..design() };
    assert_eq!(load_project(&files).unwrap().environment, "dev");
}

#[test]
fn the_pipeline_of_the_design_is_read_whole() {
    let files = design();
    let pipeline = load_pipeline(&files, &load_project(&files).unwrap(), "hr").unwrap();
    assert_eq!((pipeline.source.as_str(), pipeline.schema.as_str()), ("hr_db", "hr"));
    assert_eq!(pipeline.schedule.cron.as_deref(), Some("0 3 * * *"));
    assert_eq!(pipeline.schedule.timeout, Some(Duration::from_secs(7200)));
    assert_eq!((pipeline.connections, pipeline.max_row_bytes), (2, 256 << 20));
    let names: Vec<String> = pipeline.tables.iter().map(|t| t.name.to_string()).collect();
    assert_eq!(
        names,
        ["public.employee", "public.salary", "public.department", "public.audit", "public.\"Course\""]
    );

    let employee = &pipeline.tables[0];
    assert_eq!(employee.mode, Mode::Incremental);
    assert_eq!(employee.replication_key.as_deref(), Some("updated_at"));
    let lookback = employee.lookback.unwrap();
    assert_eq!((lookback.span, lookback.inherited), (Span::Time(Duration::from_secs(600)), true));
    assert_eq!(employee.exclude, ["birth_date"]);
    assert_eq!(employee.mask["last_name"], Mask::Hmac);
    assert_eq!(employee.deletes.mode, DeleteMode::Soft);
    let check = |rule, scope| Check { rule, scope, severity: Severity::Fail };
    assert_eq!(
        employee.checks,
        [
            check(Rule::MinRows(1), Scope::Table),
            check(Rule::MaxChange(0.3), Scope::Table),
            check(Rule::NullRate { column: "hire_date".into(), at_most: 0.0 }, Scope::Batch),
            check(Rule::Unique(vec!["emp_no".into()]), Scope::Table),
        ]
    );

    let freshness = Rule::Freshness { column: "updated_at".into(), at_most: Duration::from_secs(36 * 3600) };
    assert_eq!(pipeline.tables[1].checks, [check(freshness, Scope::Table)]);
    let department = &pipeline.tables[2];
    assert_eq!((department.mode, &department.replication_key), (Mode::FullRefresh, &None));
    assert_eq!((department.lookback, department.deletes.mode), (None, DeleteMode::Soft));
    let audit = &pipeline.tables[3];
    assert_eq!((audit.mode, audit.deletes.mode), (Mode::Append, DeleteMode::Ignore));
    assert_eq!(audit.replication_key.as_deref(), Some("audit_id"));
    assert_eq!(pipeline.tables[4].target, "Course");
    assert_eq!(pipeline.after[0].0, "sql/hr_marts.sql");
    assert_eq!(sql_text::statements(&pipeline.after[0].1).unwrap().len(), 2);
    assert_eq!(pipeline_names(&files).unwrap(), ["hr"]);
}

#[test]
fn what_is_compiled_can_be_passed_inline_and_resolves_to_the_same() {
    let files = design();
    let project = load_project(&files).unwrap();
    let from_file = load_pipeline(&files, &project, "hr").unwrap();
    let lock = compile(&files, "hr").unwrap();
    assert_eq!(lock["schema"], 1);
    let lock = &lock["environments"]["default"];
    assert_eq!(lock["schedule"]["timezone"], "Africa/Accra");
    assert_eq!((lock["retries"].as_u64(), lock["timeout_seconds"].as_u64()), (Some(2), Some(7200)));
    assert_eq!(lock["owner"], "data-office");
    assert_eq!(lock["tables"][3]["mode"], "append");
    assert_eq!(lock["config_hash"], from_file.config_hash.as_str());
    let document = lock["pipeline"].to_string();
    let empty = dir(&[]);
    for text in [document.clone(), inline::pack(&document).unwrap()] {
        let mut inline = Files { project_dir: empty.directory.path().to_owned(), ..files.clone() };
        inline.variables.insert("SANKOFA_PIPELINE".into(), text);
        let passed = load_pipeline(&inline, &project, "hr").unwrap();
        assert_eq!(passed.config_hash, from_file.config_hash);
        assert_eq!(format!("{passed:?}"), format!("{from_file:?}"));
        assert_eq!(pipeline_names(&inline).unwrap(), ["hr"]);
        let (what, _) = told(load_pipeline(&inline, &project, "records"));
        assert!(
            what.starts_with("cannot read SANKOFA_PIPELINE:1:") && what.contains("pipeline \"hr\""),
            "{what}"
        );
    }
}

#[test]
fn the_hash_follows_what_moves_rows_and_not_the_schedule() {
    let base = "source: s\nschema: w\ntables: {public.t: }\n";
    let hash = |text: &str| load(text).unwrap().config_hash;
    assert_eq!(hash(base), hash(&format!("{base}schedule: {{cron: '@daily'}}\nretries: 3\nowner: x\n")));
    assert_ne!(hash(base), hash(&format!("{base}publish: each\n")));
    assert_ne!(hash(base), hash("source: s\nschema: w\ntables: {public.t: {mask: {a: hmac}}}\n"));
    assert_eq!(hash(base).len(), 64);
}

#[test]
fn what_is_shown_is_yaml_and_names_what_holds() {
    let files = design();
    let project = load_project(&files).unwrap();
    let pipeline = load_pipeline(&files, &project, "hr").unwrap();
    let text = show(&project, &[pipeline]).unwrap();
    for line in
        ["environment: default", "connection: warehouse", "mode: incremental", "every: 1d", "hire_date"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("create or replace view"));
}

#[test]
fn the_schema_knows_every_key_and_describes_it() {
    let sankofa = schema(FileKind::Sankofa);
    let pipeline = schema(FileKind::Pipeline);
    assert_eq!((sankofa["title"].as_str(), pipeline["title"].as_str()), (Some("Sankofa"), Some("Pipeline")));
    for (schema, key) in [(&sankofa, "guard"), (&sankofa, "environments"), (&pipeline, "on_schema_change")] {
        assert!(schema["properties"][key]["description"].is_string(), "{key}");
        assert_eq!(schema["additionalProperties"], false);
    }
    assert_eq!(pipeline["required"], serde_json::json!(["source", "schema", "tables"]));
    let table = &pipeline["$defs"]["Table"];
    assert!(table["properties"]["replication_key"]["description"].is_string());
    assert_eq!(table["properties"]["replication_key"]["type"], "string");
    assert_eq!(table["properties"]["mode"]["$ref"], "#/$defs/Mode");
    let tables = pipeline["properties"]["tables"]["additionalProperties"].to_string();
    assert!(tables.contains("null"), "a table alone is allowed: {tables}");
    assert_eq!(
        editor_header("../schemas/pipeline.json"),
        "# yaml-language-server: $schema=../schemas/pipeline.json"
    );
}

#[test]
fn a_lock_has_a_section_for_each_environment_and_each_is_a_pipeline_of_its_own() {
    let text = "source: s\nschema: w\nschedule: {cron: '@daily'}\ntables: {public.t: }\n\
                environments: {dev: {schema: w_dev, schedule: {cron: '@weekly'}, run_as: sync}}\n";
    let place = dir(&[("pipelines/p.yaml", text.as_bytes())]);
    let lock = compile(&place.files, "p").unwrap();
    let (own, dev) = (&lock["environments"]["default"], &lock["environments"]["dev"]);
    assert_eq!((&own["warehouse_schema"], &dev["warehouse_schema"]), (&"w".into(), &"w_dev".into()));
    assert_eq!((&own["schedule"]["cron"], &dev["schedule"]["cron"]), (&"@daily".into(), &"@weekly".into()));
    assert_eq!((&own["run_as"], &dev["run_as"]), (&"steps".into(), &"sync".into()));
    assert!(own["pipeline"].get("environments").is_none() && dev["pipeline"].get("environments").is_none());
    assert_ne!(own["config_hash"], dev["config_hash"]);
    assert_eq!(lock["environments"].as_object().unwrap().len(), 2);
}

#[test]
fn an_environment_of_a_pipeline_that_is_wrong_is_told_at_its_place_before_its_day() {
    for (environments, word) in [
        ("{dev: {shema: x}}", "shema"),
        ("{default: {schema: x}}", "is the file itself"),
        ("{dev: {resources: {memory: 1MiB}}}", "32MiB or more"),
        ("{dev: {resources: {cpu: 0}}}", "from 0.05"),
    ] {
        let (what, _) = told(load(&format!(
            "source: s\nschema: w\ntables: {{public.t: }}\nenvironments: {environments}\n"
        )));
        assert!(what.contains(word) && what.contains(".yaml:4:"), "{what}");
    }
}

#[test]
fn every_id_of_the_design_is_listed_once_with_the_classes_that_ask_for_it() {
    let files = design();
    let project = load_project(&files).unwrap();
    let pipelines = [load_pipeline(&files, &project, "hr").unwrap()];
    let ids = |class: Option<needs::Class>| -> Vec<String> {
        let needed = match class {
            Some(class) => needs::of_class(&project, &pipelines, class),
            None => needs::all(&project, &pipelines),
        };
        needed.into_iter().map(|one| one.id).collect()
    };
    let all =
        "hr_db warehouse hmac_key stage_identity b2_backups age_identity records_db drill_server alerts smtp";
    assert_eq!(ids(None).join(" "), all);
    for (class, of_class) in [
        (needs::Class::Rows, "hr_db warehouse hmac_key stage_identity alerts smtp"),
        (needs::Class::Backup, "hr_db b2_backups records_db alerts smtp"),
        (needs::Class::Drill, "b2_backups age_identity drill_server alerts smtp"),
    ] {
        assert_eq!(ids(Some(class)).join(" "), of_class);
    }
}
