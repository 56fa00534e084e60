//! docs/restore.md, walked through by somebody who has a laptop and no project: the page's own commands.

use crate::stored::key_pair;
use crate::support::b2::{B2, BucketOptions, Key, KeySpec};
use crate::support::*;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

const PAGE: &str = include_str!("../../docs/restore.md");
const BUCKET: &str = "school-backups";

/// All commands of one section, in order, as a person would type them.
fn commands(section: &str) -> String {
    let start = PAGE.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let text = &PAGE[start + 1..];
    let text = text.find("\n## ").map_or(text, |end| &text[..end]);
    text.split("```sh\n")
        .skip(1)
        .filter_map(|block| block.split_once("```"))
        .map(|(block, _)| block)
        .collect()
}

/// A lost database: its backup in a bucket, a key that may only read, an identity, an empty new server.
struct Lost {
    b2: B2,
    reader: Key,
    identity: String,
    new: Server,
    dump: String,
    globals: String,
    wanted: String,
}

const SUM: &str = "SELECT count(*) || ' ' || md5(string_agg(t::text, '' ORDER BY id)) FROM t";

impl Lost {
    async fn one() -> Lost {
        let old = Server::new(16).start();
        let owner = old.role("registrar", "").await;
        let hr = old.fresh_database("hr").await;
        let made = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE INDEX i ON t (v);
            INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 5000) g";
        hr.sql(&format!("{made}; ALTER TABLE t OWNER TO {owner}")).await;
        let b2 = B2::start();
        b2.bucket(BUCKET, BucketOptions::default());
        let writer = b2.key(KeySpec::all().without("deleteFiles"));
        let (identity, recipient) = key_pair();
        let programs = client_program(16, "pg_dump").parent().unwrap().display().to_string();
        let project = Sankofa::new()
            .connection("hr_db", &hr)
            .connection_uri("b2_backups", &b2.connection_uri(&writer))
            .env("SANKOFA_PG_BIN", &programs)
            .file(
                "sankofa.yaml",
                format!(
                    "version: 1\nsecrets: [environment]\n\
                     stores: {{offsite: {{b2: {{connection: b2_backups, bucket: {BUCKET}, prefix: prod}}}}}}\n\
                     backups:\n  defaults: {{store: offsite, encrypt_to: [{recipient}]}}\n  databases: {{hr: {{connection: hr_db}}}}\n"
                ),
            );
        project.run(&["backup", "hr"]).await.succeeds();
        let folder = |of: &str| {
            let found = b2.versions(BUCKET).into_iter().find(|version| version.name.starts_with(of));
            let name = found.unwrap_or_else(|| panic!("nothing under {of}")).name;
            name[of.len()..].split('/').next().unwrap().to_owned()
        };
        let (dump, globals) = (folder("prod/hr/"), folder("prod/_servers/hr_db/"));
        let reader = b2.key(KeySpec::new(&["listBuckets", "listFiles", "readFiles"]));
        let identity = format!("# public key: {recipient}\n{identity}\n");
        let wanted = format!("{owner} {}", hr.value(SUM).await);
        // What made the backup is gone from here on.
        drop((project, hr, old));
        Lost { b2, reader, identity, new: Server::new(17).start(), dump, globals, wanted }
    }

    /// The page's names become those of this case; nothing else of its text is touched.
    fn fitted(&self, commands: &str) -> String {
        let port = self.new.port().to_string();
        let endpoint = format!(
            "\"login\": \"{}\", \"extra\": {{\"endpoint\": \"{}\"}}",
            self.reader.id,
            self.b2.endpoint()
        );
        let changes = [
            ("\"login\": \"0035c0ffee\"", endpoint.as_str()),
            ("0035c0ffee", &self.reader.id),
            ("20261120T030000Z-0f3a9c21", &self.dump),
            ("20261120T030000Z-1b2c3d4e", &self.globals),
            ("PGPORT=5432", &format!("PGPORT={port}")),
            ("\"port\": 5432", &format!("\"port\": {port}")),
            ("PGUSER=postgres", &format!("PGUSER={USER}")),
            ("\"login\": \"postgres\"", &format!("\"login\": \"{USER}\"")),
        ];
        changes.iter().fold(commands.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn laptop(&self, major: u16) -> Option<Bare> {
        let age = foreign_program("age")?.parent()?.to_owned();
        let clients = client_program(major, "pg_restore").ancestors().nth(3)?.to_owned();
        let bare =
            Bare::new()?.tool("foreign", &age, "").tool("postgresql", &clients, &format!("{major}/bin"));
        let file = bare.home().join("identity.txt");
        std::fs::write(&file, &self.identity).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(bare)
    }

    async fn is_back(&self, done: &Output) {
        let said = [&done.stdout[..], &done.stderr[..]].map(String::from_utf8_lossy).join("\n");
        assert!(done.status.success(), "{said}");
        let back = self.new.existing("hr");
        let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 't'::regclass";
        assert_eq!(format!("{} {}", back.value(owner).await, back.value(SUM).await), self.wanted, "{said}");
        assert!(!said.contains(&self.reader.secret) && !said.contains("AGE-SECRET"), "a secret was shown");
    }
}

#[tokio::test]
async fn the_page_brings_a_database_back_with_stock_tools_alone() {
    let lost = Lost::one().await;
    let Some(tools) = backblaze() else { return };
    let Some(laptop) = lost.laptop(16) else { return };
    // As `pip install b2` would have left it: pip's own script names the Python that it ran by.
    let program = tempfile::tempdir().unwrap();
    let script = program.path().join("b2");
    std::fs::write(&script, "#!/bin/sh\nexec python3 /opt/packages/bin/b2 \"$@\"\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let laptop = laptop.tool("packages", &tools, "b2").tool("backblaze", program.path(), "");
    let page = lost.fitted(&commands("Without sankofa"));
    let env = [
        ("B2_ENVIRONMENT", lost.b2.realm()),
        ("PYTHONPATH", "/opt/packages".to_owned()),
        ("PGPASSWORD", PASSWORD.to_owned()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let done = laptop.run(&page, &env, &format!("{}\n", lost.reader.secret));
    lost.is_back(&done).await;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("public t 5000"), "{said}");
    let manifest = std::fs::read_to_string(laptop.home().join("hr/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    for sum in ["stored_sha256", "plain_sha256"] {
        assert!(said.contains(manifest["object"][sum].as_str().unwrap()), "{sum}: {said}");
    }
    assert!(!laptop.home().join("hr.pgc").exists(), "the rows are not left lying about");
}

#[tokio::test]
async fn the_page_brings_a_database_back_with_the_binary_and_a_file_typed_by_hand() {
    let lost = Lost::one().await;
    let Some(laptop) = lost.laptop(16) else { return };
    let binary = tempfile::tempdir().unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_sankofa"), binary.path().join("sankofa")).unwrap();
    let laptop = laptop.tool("sankofa", binary.path(), "");
    let page = lost.fitted(&commands("A laptop, and nothing else"));
    let done = laptop.run(&page, &[], &format!("{}\n{PASSWORD}\n", lost.reader.secret));
    lost.is_back(&done).await;
    let left = std::fs::read_dir(laptop.home()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut left: Vec<String> = left.map(|name| name.to_string_lossy().into_owned()).collect();
    left.sort();
    assert_eq!(left, ["identity.txt", "page.sh", "sankofa.yaml"], "nothing else is left behind");
}
