//! Pages are run: every command and query of a section of `docs/operations.md`, in order, on real servers.
//!
//! In a section, `sh` blocks are commands (`# ends N` says the exit status, 0 without), `sql` blocks say in their
//! first line where they run, `text` blocks what the last command says (`...` stands for anything). Comments of the
//! page hold what a reader need not see.

use crate::support::*;
use std::path::Path;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// The sections that are run as they stand.
pub const WHOLE: [&str; 2] = ["Monday, exit 65", "Retention"];

/// A step of a page.
#[derive(Debug, PartialEq)]
enum Step<'a> {
    Command { line: &'a str, ends: i32 },
    Source(&'a str),
    Warehouse(&'a str),
    Says(&'a str),
}

/// The steps of section `title`, in order.
fn steps<'a>(page: &'a str, title: &str) -> Vec<Step<'a>> {
    let start = page.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("no section {title}"));
    let section = &page[start + 1..];
    let section = &section[..section[3..].find("\n## ").map_or(section.len(), |end| end + 4)];
    let mut steps = Vec::new();
    let mut rest = section;
    while let Some(at) = [rest.find("\n```"), rest.find("\n<!-- ")].into_iter().flatten().min() {
        let block = &rest[at + 1..];
        let end = if block.starts_with("```") { "\n```" } else { "\n-->" };
        let (head, all) = block.split_at(block.find('\n').unwrap_or(block.len()));
        let length = all.find(end).unwrap_or_else(|| panic!("{head} has no end"));
        let body = all[..length].trim_matches('\n');
        rest = &all[length + end.len()..];
        match head.trim_start_matches("```").trim_start_matches("<!-- ") {
            "sh" | "before" => steps.extend(body.lines().filter(|line| !line.is_empty()).map(command)),
            "sql" if body.starts_with("-- at the source\n") => steps.push(Step::Source(body)),
            "sql" if body.starts_with("-- in the warehouse\n") => steps.push(Step::Warehouse(body)),
            "sql" => panic!("where does this run? {body}"),
            "at the source" => steps.push(Step::Source(body)),
            "in the warehouse" => steps.push(Step::Warehouse(body)),
            "text" => steps.extend(body.lines().map(Step::Says)),
            _ => {}
        }
    }
    steps
}

fn command(line: &str) -> Step<'_> {
    let ends = line.split_once("# ends ").map_or(0, |(_, status)| status.trim().parse().unwrap());
    Step::Command { line, ends }
}

/// Whether `line`, with `...` for anything, is in `said`.
fn is_said(line: &str, said: &str) -> bool {
    let fits = |candidate: &str| {
        let mut rest = candidate;
        line.split("...").all(|part| match rest.find(part) {
            Some(at) => {
                rest = &rest[at + part.len()..];
                true
            }
            None => false,
        })
    };
    said.lines().any(fits)
}

/// Runs section `title` in `project`, where `sankofa` is the built binary.
async fn run(title: &str, project: &Sankofa, source: &Database, warehouse: &Database) {
    let binary = Path::new(env!("CARGO_BIN_EXE_sankofa")).parent().unwrap().display().to_string();
    let path = format!("PATH={binary}:/usr/bin:/bin");
    let mut said = String::new();
    let all = steps(OPERATIONS, title);
    assert!(all.iter().any(|step| matches!(step, Step::Command { .. })), "{title}: nothing to run");
    for step in all {
        match step {
            Step::Source(sql) => source.sql(sql).await,
            Step::Warehouse(sql) => assert!(!warehouse.query_text(sql).await.is_empty(), "{sql}: no row"),
            Step::Says(line) => assert!(is_said(line, &said), "{line:?} is not in:\n{said}"),
            Step::Command { line, ends } => {
                let done = project.start("/usr/bin/env", &[&path, "bash", "-c", line]).wait().await;
                assert_eq!(done.code(), Some(ends), "{line}\n{}", done.told());
                said = done.stderr.clone();
            }
        }
    }
}

const PROJECT: &str = "version: 1\nsecrets: [environment]\nstores: {local: {directory: ./stage}}\n\
                       stage: {store: local}\nwarehouse: {connection: wh}\n";
const PIPELINE: &str = "source: src\nschema: hr\ndefaults: {mode: incremental, replication_key: updated_at}\ntables:\n  \
    public.employee: {checks: {unique: {columns: [badge], scope: table}}}\n  public.department: {mode: full_refresh}\n";

async fn school() -> (Sankofa, Database, Database) {
    let source = Server::major(17).fresh_database("page_src").await;
    let warehouse = Server::major(17).fresh_database("page_wh").await;
    let project = Sankofa::new()
        .file("sankofa.yaml", PROJECT)
        .file("pipelines/hr.yaml", PIPELINE)
        .connection("src", &source)
        .connection("wh", &warehouse);
    (project, source, warehouse)
}

#[tokio::test]
async fn the_monday_morning_of_the_operations_page_goes_as_it_says() {
    let (project, source, warehouse) = school().await;
    run(WHOLE[0], &project, &source, &warehouse).await;
}

#[tokio::test]
async fn the_retention_of_the_operations_page_goes_as_it_says() {
    let (project, source, warehouse) = school().await;
    source
        .sql("CREATE TABLE employee (emp_no int PRIMARY KEY, badge text, updated_at timestamptz); CREATE TABLE department (dept_no text)")
        .await;
    run(WHOLE[1], &project, &source, &warehouse).await;
}

#[test]
fn a_page_is_taken_apart_into_what_is_run_and_what_is_said() {
    let page = "# P\n\n## A\n\nx\n\n```sh\na b    # ends 65\nc\n```\n\n```text\nerror: ... is\n```\n<!-- at the source\nSELECT 1;\n-->\n\n```sql\n-- in the warehouse\nSELECT 2;\n```\n\n## B\n\n```sh\nd\n```\n";
    let found = steps(page, "A");
    let expected = [
        Step::Command { line: "a b    # ends 65", ends: 65 },
        Step::Command { line: "c", ends: 0 },
        Step::Says("error: ... is"),
        Step::Source("SELECT 1;"),
        Step::Warehouse("-- in the warehouse\nSELECT 2;"),
    ];
    assert_eq!(found, expected);
    assert!(is_said("error: ... is", "x\nerror: this is\n") && !is_said("error: ... is", "error: this"));
}
