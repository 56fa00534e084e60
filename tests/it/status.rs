//! `status`: what is late, failed or missing, for a monitor, for a person, as a page.

use crate::support::*;
use crate::warehouse::Platform;
use serde_json::Value;

const PIPELINE: &str = "source: source\nschema: w\ntables:\n  public.t: {mode: full_refresh}\n";
const WH: &str = "warehouse: {connection: wh}\n";

async fn platform() -> Platform {
    let bed = Platform::new((17, 17)).await;
    bed.write_with("servers: []", WH);
    bed.project.write("pipelines/p.yaml", PIPELINE);
    bed
}

/// One that has run all of it once.
async fn running() -> Platform {
    let bed = platform().await;
    for args in [&["sync", "p", "--run", "monday"][..], &["backup", "db"], &["drill", "db"]] {
        bed.run(args).await.succeeds();
    }
    bed
}

/// States of all lines, by `part name`.
fn states(done: &Finished) -> Vec<(String, String, String)> {
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let lines = done.json()["lines"].as_array().cloned().unwrap_or_default();
    let one = |line: &Value| {
        let name = format!("{} {}", text(line, "part"), text(line, "name"));
        (name, text(line, "state"), text(line, "said"))
    };
    lines.iter().map(one).collect()
}

#[track_caller]
fn is(done: &Finished, name: &str, state: &str, words: &str) {
    let all = states(done);
    let found = all.iter().find(|(line, ..)| line == name);
    let (_, was, said) = found.unwrap_or_else(|| panic!("no {name} in {}", done.told()));
    assert!(was == state && said.contains(words), "{name} is {was}: {said}");
}

#[tokio::test]
async fn what_has_never_run_is_missing_and_what_has_run_is_good() {
    let bed = platform().await;
    let done = bed.run(&["status"]).await.exits(65);
    is(&done, "pipelines p", "missing", "never been published");
    is(&done, "backups db", "missing", "no good backup");
    is(&done, "drills db", "missing", "never been drilled");
    bed.run(&["sync", "p"]).await.succeeds();
    bed.run(&["backup", "db"]).await.succeeds();
    bed.run(&["drill", "db"]).await.succeeds();
    let done = bed.run(&["status"]).await.succeeds();
    assert!(states(&done).iter().all(|(_, state, _)| state == "good"), "{}", done.told());
    is(&done, "tables p: public.t", "good", "500 rows");
    bed.project.write("pipelines/p.yaml", format!("{PIPELINE}  public.u: {{mode: full_refresh}}\n"));
    is(&bed.run(&["status"]).await.exits(65), "tables p: public.u", "missing", "never been loaded");
}

/// A class asks what its identity may: the other half is neither asked nor told.
#[tokio::test]
async fn each_class_tells_of_its_own_side_without_a_way_to_the_other() {
    let bed = running().await;
    let away = "postgres://a:b@127.0.0.1:1/x";
    let bed = Platform { project: bed.project.connection_uri("wh", away), ..bed };
    let done = bed.run(&["status", "--for", "backup"]).await.succeeds();
    is(&done, "backups db", "good", "1 good backup");
    is(&done, "drills db", "good", "");
    assert!(!done.stdout.contains("pipelines"), "{}", done.told());
    let bed = Platform { project: bed.project.connection("wh", &bed.warehouse), ..bed };
    std::fs::rename(bed.project.folder().join("store"), bed.project.folder().join("lost")).unwrap();
    let done = bed.run(&["status", "--for", "rows"]).await.succeeds();
    is(&done, "pipelines p", "good", "");
    assert!(!done.stdout.contains("backups"), "{}", done.told());
    is(&bed.run(&["status", "--for", "backup"]).await.exits(65), "backups db", "missing", "no good backup");
}

#[tokio::test]
async fn late_is_what_its_schedule_its_limit_or_the_flag_says() {
    let bed = running().await;
    let old = |hours: u32| {
        format!(
            "UPDATE sankofa.run SET started_at = now() - interval '{hours} hours', ended_at = now() - interval '{hours} hours'"
        )
    };
    bed.warehouse.sql(&old(25)).await;
    bed.run(&["status"]).await.succeeds();
    let done = bed.run(&["status", "--max-age", "24h"]).await.exits(65);
    is(&done, "pipelines p", "late", "may be 24 h old");
    is(&done, "tables p: public.t", "late", "");
    bed.warehouse.sql(&old(27)).await;
    bed.run(&["status"]).await.exits(65);
    // Monthly is not late after a day, daily is after two.
    bed.project.write("pipelines/p.yaml", format!("schedule: {{cron: '0 3 1 1 *'}}\n{PIPELINE}"));
    bed.warehouse.sql(&old(20)).await;
    let yearly = bed.run(&["status"]).await;
    assert_eq!(yearly.code(), Some(0), "{}", yearly.told());
    bed.project
        .write("pipelines/p.yaml", format!("schedule: {{cron: '*/5 * * * *'}}\ntimeout: 1h\n{PIPELINE}"));
    is(&bed.run(&["status"]).await.exits(65), "pipelines p", "late", "was due at");
    let done = bed.run(&["status", "--max-age", "30d", "--drill-max-age", "90d"]).await;
    is(&done, "pipelines p", "good", "");
}

#[tokio::test]
async fn a_failed_run_and_the_check_that_refused_it_are_told_until_it_is_published() {
    let bed = running().await;
    let checks = |min: u32| {
        format!(
            "source: source\nschema: w\ntables:\n  public.t: {{mode: full_refresh, checks: {{rows: {{min: {min}}}}}}}\n"
        )
    };
    bed.project.write("pipelines/p.yaml", checks(501));
    bed.run(&["sync", "p", "--run", "tuesday"]).await.exits(65);
    let done = bed.run(&["status"]).await.exits(65);
    is(&done, "pipelines p", "failed", "run tuesday");
    let check = states(&done).into_iter().find(|(name, ..)| name.starts_with("checks p: public.t")).unwrap();
    assert!(check.1 == "failed" && check.2.contains("500"), "{check:?}");
    bed.project.write("pipelines/p.yaml", checks(500));
    bed.run(&["sync", "p"]).await.succeeds();
    bed.run(&["status"]).await.succeeds();
    // A backup that fails today, after a good one.
    let uri = "postgres://a:b@127.0.0.1:1/x";
    let down = Platform { project: bed.project.connection_uri("source", uri), ..bed };
    down.run(&["backup", "db"]).await.exits(75);
    is(&down.run(&["status"]).await.exits(65), "backups db", "failed", "the try of");
}

#[tokio::test]
async fn a_backup_that_was_found_damaged_is_no_good_one_until_it_is_read_well_again() {
    let bed = running().await;
    let store = bed.project.folder().join("store/db");
    let backup = std::fs::read_dir(&store).unwrap().flatten().next().unwrap().path();
    let mut files = std::fs::read_dir(&backup).unwrap().flatten().map(|file| file.path());
    let dump = files.find(|file| file.file_name().unwrap().to_string_lossy().starts_with("dump.")).unwrap();
    let sound = std::fs::read(&dump).unwrap();
    let turn = |bytes: &[u8]| {
        std::fs::remove_file(&dump).unwrap();
        std::fs::write(&dump, bytes).unwrap();
    };
    let mut broken = sound.clone();
    *broken.last_mut().unwrap() ^= 1;
    turn(&broken);
    bed.run(&["backups", "verify"]).await.exits(65);
    let done = bed.run(&["status"]).await.exits(65);
    is(&done, "backups db", "failed", "was found damaged");
    assert!(done.stdout.contains("make another with `sankofa backup db`"), "{}", done.told());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await; // the newest backup is told by its second
    bed.run(&["backup", "db"]).await.succeeds();
    let done = bed.run(&["status"]).await.succeeds();
    is(&done, "backups db", "warned", "1 good backup; ");
    turn(&sound);
    bed.run(&["backups", "verify", "--all"]).await.succeeds();
    is(&bed.run(&["status"]).await.succeeds(), "backups db", "good", "2 good backups");
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_hides_nothing_and_is_never_taken_for_good() {
    let bed = running().await;
    let away = Platform { project: bed.project.connection_uri("wh", "postgres://a:b@127.0.0.1:1/x"), ..bed };
    let done = away.run(&["status"]).await.exits(75);
    is(&done, "pipelines warehouse", "unknown", "cannot be asked");
    is(&done, "backups db", "good", "1 good backup");
    std::fs::rename(away.project.folder().join("store"), away.project.folder().join("lost")).unwrap();
    std::fs::write(away.project.folder().join("store"), "in the way").unwrap();
    let done = away.run(&["status"]).await.exits(75);
    is(&done, "backups db", "unknown", "cannot be asked");
    std::fs::remove_file(away.project.folder().join("store")).unwrap();
    std::fs::create_dir(away.project.folder().join("store")).unwrap();
    let done = away.run(&["status"]).await.exits(65);
    is(&done, "backups db", "missing", "");
    is(&done, "pipelines warehouse", "unknown", "");
    let empty = Sankofa::new().file("sankofa.yaml", "version: 1\n");
    empty.run(&["status"]).await.exits(78);
}

#[tokio::test]
async fn a_database_that_nobody_backs_up_is_missing_once_somebody_has_looked() {
    let bed = Platform::new((17, 17)).await;
    bed.run(&["backup", "db"]).await.succeeds();
    bed.run(&["drill", "db"]).await.succeeds();
    let done = bed.run(&["status"]).await.succeeds();
    is(&done, "coverage servers", "warned", "nobody has looked");
    let other = Server::major(17).fresh_database("nobody_backs_me_up").await;
    bed.run(&["backups", "coverage"]).await.exits(65);
    let done = bed.run(&["status"]).await.exits(65);
    is(&done, &format!("coverage source: {}", other.name()), "missing", "neither under");
}

#[tokio::test]
async fn the_page_is_whole_fetches_nothing_runs_nothing_and_escapes_every_name() {
    let bed = running().await;
    let hostile = r#"<script>alert("x")</script>&'"#;
    let doubled = hostile.replace('"', "\"\"");
    bed.source.sql(&format!("CREATE TABLE public.\"{doubled}\" (id int)")).await;
    let yaml = format!("{PIPELINE}  'public.\"{}\"': {{mode: full_refresh}}\n", doubled.replace('\'', "''"));
    bed.project.write("pipelines/p.yaml", yaml);
    // Forty nights before: a page shows thirty.
    bed.warehouse
        .sql(
            "INSERT INTO sankofa.run (pipeline, run_id, kind, command, status, config_hash, binary_version, started_at, ended_at)
             SELECT 'p', 'night ' || n, 'sync', 'sync', CASE WHEN n IN (20, 33) THEN 'failed' ELSE 'published' END, '', '',
                 now() - n * interval '1 hour', now() - n * interval '1 hour' + (20 + n * n % 37) * interval '1 second'
             FROM generate_series(40, 1, -1) n;
             INSERT INTO sankofa.table_run SELECT id, 'public.t', 'w.t', 'full_refresh', NULL, 500, 500, id % 7 * 30, 20, 0, 0, 0, 500,
                 1, 1, NULL FROM sankofa.run r WHERE run_id LIKE 'night %' AND status = 'published'",
        )
        .await;
    bed.run(&["status", "--html", "page.html"]).await.exits(65);
    let page = bed.project.read("page.html");
    assert!(
        page.contains("&lt;script&gt;alert(&quot;&quot;x&quot;&quot;)&lt;/script&gt;&amp;&#39;"),
        "{page}"
    );
    for forbidden in ["<script", "http:", "https:", "src=", "<link", "onload", "@import", "url("] {
        assert!(!page.to_lowercase().contains(forbidden), "{forbidden} in {page}");
    }
    for needed in [
        "<html lang=\"en\">",
        "<caption>",
        "scope=\"col\"",
        "scope=\"row\"",
        "role=\"img\"",
        "<table role=\"table\">",
        "<th role=\"columnheader\" scope=\"col\">",
        "<th role=\"rowheader\" scope=\"row\">",
        "<desc",
        "viewport",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    assert!(page.contains("30 bars, from ") && page.contains(", failed</title>"), "{page}");
    for chart in ["Run time of p", "Rows written by runs of p", "Size of backups of db", "Restore time of db"]
    {
        assert!(page.contains(&format!("<figcaption>{chart}</figcaption>")), "{chart}");
    }
    assert!(page.ends_with("</html>\n") && !page.contains(PASSWORD));
    let told = bed.run(&["status", "--html", "nowhere/page.html"]).await.exits(78);
    assert!(told.stderr.contains("cannot write nowhere/page.html"), "{}", told.told());
    // Kept for people who want to look at it with a browser.
    if let Ok(file) = std::env::var("SANKOFA_STATUS_PAGE") {
        std::fs::write(file, page).unwrap();
    }
}
