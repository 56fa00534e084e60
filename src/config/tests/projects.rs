//! What the operator's keys come to.

use super::*;

fn refused(more: &str, place: &str, what: &str, hint: &str) {
    let (told_what, told_hint) = told(project_of(&format!("{PROJECT}{more}\n")));
    assert!(told_what.starts_with(&format!("cannot read sankofa.yaml:{place}: ")), "{told_what}");
    assert!(told_what.contains(what), "{told_what}\nexpected {what}");
    assert!(told_hint.contains(hint), "{told_hint}\nexpected {hint}");
}

#[test]
fn the_smallest_project_has_a_warehouse_and_asks_the_environment() {
    let project = project_of(PROJECT).unwrap();
    assert_eq!(project.secrets, [model::SecretPlace::Environment]);
    assert_eq!((project.stage, project.guard), (None, model::Guard::default()));
    assert_eq!(project.environment, "default");
}

#[test]
fn a_project_that_backs_up_and_moves_no_rows_needs_no_warehouse_and_a_command_on_rows_names_the_key() {
    let project = project_of("version: 1\n").unwrap();
    let failure = project.warehouse().unwrap_err();
    assert_eq!(failure.kind.exit_code(), 78);
    assert!(failure.what.contains("key \"warehouse\" is missing"), "{}", failure.what);
}

#[test]
fn counts_and_times_of_backups_that_no_store_or_calendar_holds_are_refused() {
    for (keys, what) in [
        ("lock: {days: 0, mode: governance}", "`days` must be from 1 to 36500"),
        ("lock: {days: 4000000000, mode: compliance}", "`days` must be from 1 to 36500"),
        ("keep: {days: 40000, at_least: 7}", "`days` must be from 0 to 36500"),
        ("keep: {days: 30, at_least: 7, monthly: 100001}", "`monthly` must be from 0 to"),
        ("expected_every: 0s", "`expected_every` must be 1m or more"),
        ("restore_within: 59s", "`restore_within` must be 1m or more"),
    ] {
        let (told, _) = told(project_of(&format!("{PROJECT}backups: {{defaults: {{{keys}}}}}\n")));
        assert!(told.contains(what), "{told}\nexpected {what}");
    }
    let fine = "backups: {defaults: {lock: {days: 36500, mode: governance}, expected_every: 1m}}";
    assert!(project_of(&format!("{PROJECT}{fine}\n")).is_ok());
}

#[test]
fn what_is_wrong_in_the_project_is_refused_where_it_stands() {
    refused("stgae: {}", "3:1", "unknown key \"stgae\"", "Did you mean `stage`?");
    refused("stage: {store: stag}\nstores: {stage: {directory: x}}", "3:16", "no store \"stag\"", "`stage`");
    refused("stores: {a: {b3: x}}", "3:14", "one of directory, b2, s3", "`b2`");
    refused("stores: {a: {directory: x, b2: {}}}", "3:13", "exactly one of directory, b2, s3", "");
    refused(
        "stores: {a: {b2: {connection: x, bucket: y}}}\nstage: {store: a}",
        "4:16",
        "cannot lie in a bucket",
        "",
    );
    refused(
        "stores: {a: {directory: x}}\nstage: {store: a, encrypt_to: [age1x]}",
        "4:19",
        "without `identity`",
        "",
    );
    refused(
        "stores: {a: {directory: x}}\nstage: {store: a, encrypt_to: [ssh]}",
        "4:32",
        "an age recipient",
        "",
    );
    refused("guard: {never: [a.b]}", "3:17", "a pattern is database.schema.table", "");
    refused("guard: {mask: {'a.b.c.d': }}", "3:16", "expected one of hmac", "");
    refused("guard: {mask: {a: hmac}}", "3:19", "a pattern is", "");
    refused("guard: {sources: {x: []}}", "3:19", "at least one name", "");
    refused("notify: [{when: [failure]}]", "3:10", "exactly one of webhook, mail", "");
    refused(
        "notify: [{webhook: {connection: x}, when: [faliure]}]",
        "3:44",
        "one of failure, late",
        "`failure`",
    );
    refused("secrets: []", "3:1", "at least one place", "");
    refused("secrets: [vualt]", "3:11", "one of environment, vault", "`vault`");
    refused(
        "secrets: [{vault: {address: x, mount: y, auth: {approle: {role_id: x}}}}]",
        "3:29",
        "expected a URL",
        "",
    );
    let vault = |keys: &str| format!("secrets: [{{vault: {{address: http://v:8200, {keys}}}}}]");
    refused(
        &vault("auth: {approle: {role_id: x}}"),
        "3:51",
        "expected one of secret_id_file, secret_id_env",
        "",
    );
    refused(&vault("mount: a/../b, auth: {agent: {}}"), "3:51", "a path of Vault", "");
    refused(&vault("kv: 3, auth: {agent: {}}"), "3:48", "expected 1 or 2", "");
    refused(&vault("dynamic: {a: database/role/x}, auth: {agent: {}}"), "3:57", "MOUNT/creds/ROLE", "");
    refused(&vault("client_key: k, auth: {agent: {}}"), "3:12", "come together", "");
    refused("backups: {databases: {hr: {store: x}}}", "3:35", "no store", "");
    refused("backups: {databases: {hr: {connection: x}}}", "3:23", "\"store\" is missing", "");
    refused(
        "stores: {a: {directory: x}}\nbackups: {databases: {hr: {connection: x, store: a}}}",
        "4:23",
        "\"encrypt_to\" is missing",
        "keygen",
    );
    refused("backups: {defaults: {keep: {days: 3, at_least: 0}}}", "3:48", "from 1 to", "");
    refused("drill: {connection: ''}", "3:21", "an id", "");
    let (what, _) = told(project_of("version: 2\nwarehouse: {connection: x}\n"));
    assert_eq!(what, "cannot read sankofa.yaml:1:10: expected version 1");
}

const ENVIRONMENTS: &str = "version: 1
warehouse: {connection: warehouse, reader_role: metabase}
stores: {stage: {directory: /var/stage}}
stage: {store: stage}
guard: {never: ['*.*.*.a'], mask: {'*.*.*.b': hmac}}
environments:
  dev: {warehouse: {connection: dev_warehouse}, stores: {stage: {directory: ./stage}}}
  odd: {guard: {mask: {'*.*.*.c': nullify}}}
";

#[test]
fn an_environment_is_merged_onto_the_file() {
    let mut d = dir(&[("sankofa.yaml", ENVIRONMENTS.as_bytes())]);
    d.files.environment = Some("dev".into());
    let project = load_project(&d.files).unwrap();
    assert_eq!(project.environment, "dev");
    assert_eq!(project.warehouse.as_ref().unwrap().connection, "dev_warehouse");
    assert_eq!(project.warehouse.as_ref().unwrap().reader_role.as_deref(), Some("metabase"));
    assert_eq!(project.stage.unwrap().directory, d.directory.path().join("./stage"));
    d.files.environment = Some("odd".into());
    let project = load_project(&d.files).unwrap();
    assert_eq!((project.guard.never.len(), project.guard.mask.len()), (1, 2));
    d.files.environment = Some("dve".into());
    let (what, hint) = told(load_project(&d.files));
    assert_eq!(what, "cannot read sankofa.yaml:6:1: there is no environment \"dve\"");
    assert_eq!(hint, "Did you mean `dev`?");
}

#[test]
fn a_mistake_in_an_environment_is_told_before_its_day_unless_it_needs_other_variables() {
    let (what, _) = told(project_of(&format!("{ENVIRONMENTS}  bad: {{wraehouse: {{}}}}\n")));
    assert!(what.starts_with("cannot read sankofa.yaml:9:9: unknown key \"wraehouse\""), "{what}");
    assert!(project_of(&format!("{ENVIRONMENTS}  far: {{warehouse: {{connection: '${{FAR}}'}}}}\n")).is_ok());
    let (what, _) = told(project_of(&format!("{ENVIRONMENTS}  far: {{environments: {{}}}}\n")));
    assert!(what.contains("cannot hold environments"), "{what}");
}

#[test]
fn sankofa_config_names_the_operators_file_and_relative_stores_start_there() {
    let text = "version: 1\nwarehouse: {connection: w}\nstores: {s: {directory: st}}\nstage: {store: s}\n";
    let mut d = dir(&[("etc/ops.yaml", text.as_bytes()), ("analysts/pipelines/p.yaml", b"")]);
    d.files.project_dir = d.directory.path().join("analysts");
    let path = d.directory.path().join("etc/ops.yaml");
    d.files.variables.insert("SANKOFA_CONFIG".into(), path.display().to_string());
    let project = load_project(&d.files).unwrap();
    assert_eq!(project.stage.unwrap().directory, d.directory.path().join("etc/st"));
    assert_eq!(project.root, d.directory.path().join("etc"));
    std::fs::write(&path, "version: one\n").unwrap();
    let (what, _) = told(load_project(&d.files));
    assert!(what.contains("etc/ops.yaml:1:10: expected a whole number"), "{what}");
}

#[test]
fn a_project_that_may_not_be_read_is_77() {
    use std::os::unix::fs::PermissionsExt;
    let d = dir(&[("sankofa.yaml", PROJECT.as_bytes())]);
    let path = d.directory.path().join("sankofa.yaml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o0)).unwrap();
    // root reads everything: then there is nothing to refuse.
    if let Err(error) = load_project(&d.files) {
        assert_eq!(classify(&error).kind, Kind::Permission);
    }
}

/// Every key of the file at once, so that none can be forgotten.
const EVERYWHERE: &str = "version: 1
secrets: [{vault: {address: 'https://vault:8200', mount: airflow, connections: prod/connections, auth: {token: {}}}}]
stores: {off: {b2: {connection: b2, bucket: school, prefix: prod}}, stage: {directory: /var/stage}}
warehouse: {connection: wh, owner_role: prod_owner}
stage: {store: stage}
backups:
  defaults: {store: off, encrypt_to: [age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg], identities: [prod_identity]}
  databases: {hr: {connection: hr_db}}
  servers: [hr_db]
drill: {connection: drill_server}
guard: {sources: {hr_db: [hr]}}
notify: [{webhook: {connection: alerts}, when: [failure]}]
environments:
  dev:
    secrets:
      - vault: {address: 'https://vault:8200', mount: airflow, connections: dev/connections, variables: dev/variables, auth: {token: {}}}
      - files: {connections: ./dev.yaml}
    stores: {off: {b2: {prefix: dev}}, stage: {directory: ./stage}}
    warehouse: {connection: wh_dev, owner_role: dev_owner}
    stage: {keep: 1d}
    backups: {defaults: {identities: [dev_identity], keep: {days: 3, at_least: 2}}, databases: {hr: {connection: hr_dev}}, servers: [hr_dev]}
    drill: {connection: drill_dev}
    guard: {sources: {hr_db: [hr_dev]}}
    notify: []
    retention: {runs: 40d}
";

#[test]
fn an_environment_may_differ_in_every_key_the_paths_of_secrets_among_them() {
    let mut d = dir(&[("sankofa.yaml", EVERYWHERE.as_bytes())]);
    let prod = load_project(&d.files).unwrap();
    d.files.environment = Some("dev".into());
    let dev = load_project(&d.files).unwrap();
    let [of_prod, of_dev] = [&prod, &dev].map(|project| serde_json::to_value(project).unwrap());
    let left_out = ["root"];
    for (key, value) in
        of_prod.as_object().unwrap().iter().filter(|(key, _)| !left_out.contains(&key.as_str()))
    {
        assert_ne!(*value, of_dev[key], "{key} is the same in both");
    }
    let told = of_dev.to_string();
    for own in
        ["dev/connections", "dev/variables", "dev.yaml", "hr_dev", "dev_identity", "drill_dev", "dev_owner"]
    {
        assert!(told.contains(own), "{own}: {told}");
    }
    for theirs in ["prod/connections", "prod_identity", "prod_owner", "alerts", "\"prod\""] {
        assert!(!told.contains(theirs), "{theirs}: {told}");
    }
    assert!(told.contains("\"bucket\":\"school\""), "what an environment does not name stays: {told}");
}
