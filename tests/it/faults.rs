//! A network that breaks at each message of a run in turn: nothing lost, doubled or half done.
//!
//! In:    a clean run, whose messages are counted; then one run per message, cut there: at 60 of a
//!        load and ten of a sync, spread over what follows the sessions' setup; at every one with
//!        `SANKOFA_SOAK=1`.
//! Holds: afterwards the warehouse is as before or as after; the same id again ends right.

use std::time::{Duration, Instant};

use crate::pair::*;
use crate::support::*;

const TABLES: &str =
    "CREATE TABLE t (id int PRIMARY KEY, u timestamptz NOT NULL DEFAULT clock_timestamp(), v text);
    CREATE TABLE log (id bigint PRIMARY KEY, v text);
    INSERT INTO t SELECT g, clock_timestamp(), 'a' FROM generate_series(1, 20) g;
    INSERT INTO log SELECT g, 'l' || g FROM generate_series(1, 20) g";
const PIPELINE: &str = "publish: together\ntables: {public.t: {mode: incremental, replication_key: u}, \
                        public.log: {mode: append, replication_key: id}}";
const SOURCE: &str = "SELECT 't', id, v FROM t UNION ALL SELECT 'log', id, v FROM log ORDER BY 1, 2";
const WAREHOUSE: &str = "SELECT 't', id, v FROM w.t UNION ALL SELECT 'log', id, v FROM w.log ORDER BY 1, 2";
const VERSIONS: &str = "SELECT 't', id, ctid, xmin FROM w.t UNION ALL \
                        SELECT 'log', id, ctid, xmin FROM w.log ORDER BY 1, 2";
const STAGED: &str = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                      WHERE nspname = 'sankofa_stage' AND relkind = 'r'";

/// Which connection goes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Source,
    Warehouse,
}

impl Side {
    fn through(self, pair: &Pair, proxy: &Proxy) -> Sankofa {
        let (id, database) = match self {
            Side::Source => ("src", &pair.source),
            Side::Warehouse => ("wh", &pair.warehouse),
        };
        let sankofa = Sankofa::new().file("sankofa.yaml", PROJECT);
        sankofa.write("pipelines/p.yaml", format!("source: src\nschema: w\n{PIPELINE}\n"));
        let sankofa = sankofa.connection("src", &pair.source).connection("wh", &pair.warehouse);
        sankofa.connection_uri(id, &database.connection_uri_through(proxy.port()))
    }

    fn port(self, pair: &Pair) -> u16 {
        match self {
            Side::Source => pair.source.server().port(),
            Side::Warehouse => pair.warehouse.server().port(),
        }
    }
}

async fn change(pair: &Pair, n: usize) {
    let sql = format!(
        "UPDATE t SET v = 'c{n}', u = clock_timestamp() WHERE id % 4 = {n} % 4;
        INSERT INTO t SELECT 1000 + {n}, clock_timestamp(), 'n{n}'; INSERT INTO log SELECT 1000 + {n}, 'n{n}'"
    );
    pair.source.sql(&sql).await;
}

/// One row per run, published; the warehouse equals the source.
async fn right(pair: &Pair, id: &str, told: &str) {
    assert_eq!(pair.there(WAREHOUSE).await, lines(&pair.source, SOURCE).await, "{told}");
    let run = format!("SELECT count(*), min(status) FROM sankofa.run WHERE run_id = '{id}'");
    assert_eq!(pair.there(&run).await, "1|published", "{told}");
}

/// One run of `command` (after `extract`, where it needs one) with `rule` between it and `side`.
struct Broken {
    done: Finished,
    met: Option<Seen>,
    seen: Vec<Seen>,
    is_committed: bool,
}

async fn broken(pair: &Pair, side: Side, (command, id): (&str, &str), rule: Option<Rule>) -> Broken {
    if command == "load" {
        pair.command("extract", &["--run", id]).await.succeeds();
    }
    let (before, after) = (pair.there(WAREHOUSE).await, lines(&pair.source, SOURCE).await);
    let proxy = Proxy::to(side.port(pair));
    rule.into_iter().for_each(|rule| proxy.add(rule));
    let through = side.through(pair, &proxy);
    // The stage is a folder of the project; a load must find the one that extract wrote.
    let stage =
        format!("stores: {{local: {{directory: '{}'}}}}", pair.sankofa.folder().join("stage").display());
    through.write("sankofa.yaml", PROJECT.replace("stores: {local: {directory: ./stage}}", &stage));
    let done = through.run(&[command, "p", "--run", id]).await;
    let now = pair.there(WAREHOUSE).await;
    let met = proxy.fired().pop();
    assert!(now == before || now == after, "half done: {met:?}: {}", done.told());
    match done.code() {
        Some(0) => assert_eq!(now, after, "{met:?}: {}", done.told()),
        Some(75) => assert!(met.is_some(), "{}", done.told()),
        _ => panic!("{met:?}: {}", done.told()),
    }
    Broken { done, met, seen: proxy.messages_seen(), is_committed: now == after }
}

/// The same id again: it ends right, and what had been committed is not written once more.
async fn mended(pair: &Pair, command: &str, id: &str, broken: &Broken) {
    let told = format!("{:?}: {}", broken.met, broken.done.told());
    let versions = pair.there(VERSIONS).await;
    let again = again(pair, command, id).await;
    right(pair, id, &format!("{told}\nagain: {}", again.told())).await;
    if broken.is_committed && pair.there(STAGED).await != "0" {
        // Cut while it cleared up: a run that has nothing to do leaves that to the next one that has.
        pair.command("sync", &["--run", &format!("{id}-next")]).await.succeeds();
    }
    assert_eq!(pair.there(STAGED).await, "0", "{told}");
    if broken.is_committed {
        assert_eq!(again.json()["status"], "already_done", "{told}");
        assert_eq!(pair.there(VERSIONS).await, versions, "{told}");
    }
}

/// Numbers of the messages to cut at: those after the setup of their session, thinned out.
fn places(command: &str, seen: &[Seen]) -> Vec<usize> {
    if std::env::var("SANKOFA_SOAK").is_ok() {
        return (0..seen.len()).collect();
    }
    let mut ready = std::collections::BTreeSet::new();
    let mut after = Vec::new();
    for (at, message) in seen.iter().enumerate() {
        if ready.contains(&message.connection) {
            after.push(at);
        } else if message.direction == Direction::FromServer && message.kind == 'Z' {
            ready.insert(message.connection);
        }
    }
    let every = after.len().div_ceil(if command == "load" { 60 } else { 10 }).max(1);
    after.into_iter().step_by(every).collect()
}

/// Runs `command` cut at one message after the other.
async fn cut_everywhere(side: Side, command: &str, is_lost_answer: bool) {
    let pair = Pair::new(TABLES, PIPELINE).await;
    pair.sync(&[]).await.succeeds();
    change(&pair, 0).await;
    let clean = broken(&pair, side, (command, "clean"), None).await;
    let places = places(command, &clean.seen);
    let (mut cut, mut committed, mut failed) = (0, 0, 0);
    for at in &places {
        change(&pair, at + 1).await;
        let id = format!("{command}-{at}");
        let rule = Rule::at(*at);
        let rule = if is_lost_answer { rule.before(Deed::Cut) } else { rule.after(Deed::Cut) };
        let broken = broken(&pair, side, (command, &id), Some(rule)).await;
        mended(&pair, command, &id, &broken).await;
        cut += usize::from(broken.met.is_some());
        committed += usize::from(broken.is_committed);
        failed += usize::from(broken.done.code() == Some(75));
    }
    let all = clean.seen.len();
    eprintln!(
        "{side:?} {command}: cut at {cut} of {all} messages; {failed} runs ended 75, {committed} had committed"
    );
    assert!(cut + 3 > places.len() && cut >= 7, "only {cut} messages of {places:?}");
}

/// Every COMMIT of a run whose answer never comes, in turn.
async fn commit_unanswered(command: &str) {
    let pair = Pair::new(TABLES, PIPELINE).await;
    pair.sync(&[]).await.succeeds();
    let (mut unanswered, mut committed) = (0, 0);
    loop {
        let id = format!("{command}-{unanswered}");
        change(&pair, unanswered + 1).await;
        let commit = Rule::on(Direction::FromServer, 'C').containing("COMMIT").nth(unanswered + 1);
        let broken = broken(&pair, Side::Warehouse, (command, &id), Some(commit.before(Deed::Cut))).await;
        mended(&pair, command, &id, &broken).await;
        if broken.met.is_none() {
            break;
        }
        eprintln!(
            "{command}: COMMIT {} unanswered: ended {:?}, committed {}",
            unanswered + 1,
            broken.done.code(),
            broken.is_committed
        );
        committed += usize::from(broken.is_committed);
        unanswered += 1;
    }
    assert!(committed > 0, "none of {unanswered} was the one that publishes");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_loaded_twice() {
    commit_unanswered("sync").await;
    commit_unanswered("load").await;
}

/// The same id again; the server may need a moment to see that the first process is gone.
async fn again(pair: &Pair, command: &str, id: &str) -> Finished {
    let begun = Instant::now();
    loop {
        let done = pair.command(command, &["--run", id]).await;
        if done.code() == Some(0) || begun.elapsed() > Duration::from_secs(5) {
            return done.succeeds();
        }
        assert_eq!(done.code(), Some(75), "{}", done.told());
    }
}

#[tokio::test]
async fn a_sync_cut_at_each_message_to_the_warehouse_is_never_half_done_nor_done_twice() {
    cut_everywhere(Side::Warehouse, "sync", false).await;
}

#[tokio::test]
async fn a_sync_whose_next_message_with_the_warehouse_is_lost_is_never_half_done_nor_done_twice() {
    cut_everywhere(Side::Warehouse, "sync", true).await;
}

#[tokio::test]
async fn a_sync_cut_at_each_message_to_the_source_is_never_half_done() {
    cut_everywhere(Side::Source, "sync", true).await;
}

#[tokio::test]
async fn a_load_cut_at_each_message_to_the_warehouse_is_never_half_done_nor_done_twice() {
    cut_everywhere(Side::Warehouse, "load", true).await;
}

#[tokio::test]
async fn a_server_that_stops_answering_ends_in_75_by_its_deadline_whenever_it_does() {
    for side in [Side::Source, Side::Warehouse] {
        let is_soak = std::env::var("SANKOFA_SOAK").is_ok();
        for at in if is_soak { vec![1, 5, 12, 20, 30, 45, 60] } else { vec![1, 12, 60] } {
            let pair = Pair::new(TABLES, PIPELINE).await;
            pair.sync(&[]).await.succeeds();
            change(&pair, at).await;
            let before = pair.there(WAREHOUSE).await;
            let proxy = Proxy::to(side.port(&pair)).rule(Rule::at(at).before(Deed::Freeze));
            let begun = Instant::now();
            let through = side.through(&pair, &proxy);
            let done = through.run(&["sync", "p", "--run", "one", "--deadline", "3s"]).await.exits(75);
            assert!(begun.elapsed() < Duration::from_secs(9), "{:?} {}", begun.elapsed(), done.told());
            assert_eq!(pair.there(WAREHOUSE).await, before);
            drop(proxy);
            again(&pair, "sync", "one").await;
            right(&pair, "one", &format!("{side:?} froze at {at}")).await;
            assert_eq!(pair.there(STAGED).await, "0", "{side:?} froze at {at}");
        }
    }
}
