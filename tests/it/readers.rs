//! People read the warehouse all the time: what they see while every kind of run publishes.
//!
//! In:    pollers as `reader_role`, one statement every 50 ms; a source that changes in whole commits.
//! Out:   every answer is that of one committed state of the source, in their order; nobody waits.

use crate::pair::*;
use crate::support::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const EVERY: Duration = Duration::from_millis(50);

/// What a poller asks, with `{a}`, `{b}` and `{n}` for a table's live rows on either side.
#[derive(Clone, Copy)]
enum Asks {
    /// One statement.
    Once(&'static str),
    /// Two statements of one REPEATABLE READ transaction, a pause between them: (first, second).
    Repeatedly(&'static str, &'static str),
}

/// All three tables in one answer: it is equal to the source's only when all are of one commit.
const WHOLE: &str = "SELECT x.*, y.*, z.*, x.sum + y.sum + z.sum FROM
    (SELECT count(*), sum(amount) FROM {a}) x, (SELECT count(*), sum(amount), min(v), max(v) FROM {b}) y,
    (SELECT count(*), sum(amount) FROM {n}) z";
const COUNT: &str = "SELECT count(*), sum(amount) FROM {a}";
const REFRESHED: &str = "SELECT count(*), sum(amount), min(v), max(v) FROM {b}";
const KEYLESS: &str = "SELECT count(*), sum(amount), count(DISTINCT amount) FROM {n}";
const JOINED: &str =
    "SELECT count(*), sum(a.amount), sum(b.amount), max(b.v) FROM {a} AS a JOIN {b} AS b USING (id)";
const BACKWARDS: &str = "SELECT sum(n.amount), sum(b.amount) FROM {n} AS n JOIN {b} AS b ON b.id = n.amount";
const VIEW: &str = "SELECT count(*), sum(total) FROM w.v";
const VIEWED: &str = "SELECT * FROM w.m";
const VIEW_THERE: &str = "SELECT count(*), sum(a.amount + b.amount) FROM {a} AS a JOIN {b} AS b USING (id)";

impl Asks {
    /// The same question to the source.
    fn at_source(self) -> String {
        let text = match self {
            Asks::Once(VIEW | VIEWED) | Asks::Repeatedly(_, VIEW) => VIEW_THERE,
            Asks::Once(text) | Asks::Repeatedly(_, text) => text,
        };
        placed(text, |table| table.to_owned())
    }
}

fn placed(text: &str, place: impl Fn(&str) -> String) -> String {
    ["a", "b", "n"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), &place(name)))
}

fn live(table: &str) -> String {
    format!("(SELECT * FROM w.{table} WHERE _sankofa_deleted_at IS NULL)")
}

/// What one poller has seen.
struct Polled {
    asks: Asks,
    /// Answers, one after another, each unlike the one before.
    answers: Vec<String>,
    errors: Vec<String>,
    rounds: u32,
    longest: Duration,
}

/// Pollers, and what tells them that there is something to read, and that it is enough.
struct Pollers {
    loaded: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Polled>>,
}

impl Pollers {
    fn new() -> Self {
        Pollers { loaded: Arc::default(), done: Arc::default(), tasks: Vec::new() }
    }

    async fn ask(&mut self, pair: &Pair, reader: &str, asks: Asks) {
        let client = pair.warehouse.connect_as(reader).await;
        client.batch_execute("SET lock_timeout = '5s'; SET application_name = 'metabase'").await.unwrap();
        let (loaded, done) = (Arc::clone(&self.loaded), Arc::clone(&self.done));
        self.tasks.push(tokio::spawn(poll(client, asks, loaded, done)));
    }

    async fn end(self) -> Vec<Polled> {
        self.done.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.push(task.await.expect("a poller"));
        }
        all
    }
}

async fn poll(client: Client, asks: Asks, loaded: Arc<AtomicBool>, done: Arc<AtomicBool>) -> Polled {
    let mut polled =
        Polled { asks, answers: Vec::new(), errors: Vec::new(), rounds: 0, longest: Duration::ZERO };
    while !done.load(Ordering::Relaxed) {
        let was_loaded = loaded.load(Ordering::Relaxed);
        let round = match asks {
            Asks::Once(text) => timed(&client, text, &mut polled.longest).await,
            Asks::Repeatedly(first, second) => repeat(&client, (first, second), &mut polled).await,
        };
        polled.rounds += 1;
        match round {
            Ok(answer) if polled.answers.last() != Some(&answer) => polled.answers.push(answer),
            Ok(_) => {}
            // Nothing is there before the first load has ended.
            Err(why) if !was_loaded && why.code().is_some_and(|c| ["42P01", "3F000"].contains(&c.code())) => {
            }
            Err(why) => polled.errors.push(why.as_db_error().map_or(why.to_string(), |e| e.to_string())),
        }
        tokio::time::sleep(EVERY).await;
    }
    polled
}

/// Asks twice in one transaction; the answers must be one, whatever was published meanwhile.
async fn repeat(
    client: &Client,
    (first, second): (&str, &str),
    polled: &mut Polled,
) -> Result<String, tokio_postgres::Error> {
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let both = async {
        let early = timed(client, first, &mut polled.longest).await?;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let answer = timed(client, second, &mut polled.longest).await?;
        let late = timed(client, first, &mut polled.longest).await?;
        Ok((early, late, answer))
    }
    .await;
    client.batch_execute("ROLLBACK").await?;
    let (early, late, answer) = both?;
    if early != late {
        polled.errors.push(format!("one transaction saw {early}, then {late}"));
    }
    Ok(answer)
}

async fn timed(client: &Client, text: &str, longest: &mut Duration) -> Result<String, tokio_postgres::Error> {
    let start = Instant::now();
    let messages = client.simple_query(&placed(text, live)).await;
    *longest = start.elapsed().max(*longest);
    let row = messages?.into_iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.expect("a row of aggregates");
    Ok((0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect::<Vec<_>>().join("|"))
}

/// The source; in every commit the amounts of all tables come to one sum, and all of `b` have one `v`.
const SOURCE: &str = "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        $$BEGIN new.u := clock_timestamp(); RETURN new; END$$;
    CREATE TABLE a (id int PRIMARY KEY, code int NOT NULL, u timestamptz, amount bigint, note text, extra int);
    CREATE TRIGGER t BEFORE INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION stamp();
    CREATE TABLE b (id int PRIMARY KEY, code int NOT NULL, v int, amount bigint, note text, extra int);
    CREATE TABLE n (amount bigint, note text);
    INSERT INTO a SELECT g, -g, NULL, 100, 'a' || g, g FROM generate_series(1, 5000) g;
    INSERT INTO b SELECT g, -g, 1, 100, 'b' || g, g FROM generate_series(1, 6000) g;
    INSERT INTO n SELECT g % 50, 'n' FROM generate_series(1, 2000) g";

/// Moves `amount` between the tables and changes many rows, or all, of each.
fn shuffle(step: usize) -> String {
    format!(
        "UPDATE a SET amount = amount - {step} WHERE id % 10 = {step} % 10;
         UPDATE b SET v = {step}, amount = amount + 1 WHERE id % 2 = 0; UPDATE b SET v = {step} WHERE id % 2 = 1;
         UPDATE n SET amount = amount + 1 WHERE ctid IN (SELECT ctid FROM n LIMIT 700);
         INSERT INTO a SELECT 20000 + {step} * 100 + g, 90000 + {step} * 100 + g, NULL, 0, 'more', 0
            FROM generate_series(1, 50) g;
         UPDATE a SET amount = amount + 1166700 - (SELECT sum(amount) FROM a) - (SELECT sum(amount) FROM b)
            - (SELECT sum(amount) FROM n) WHERE id = 7"
    )
}

fn tables(policy: &str, drop: bool, gone: (&str, &str)) -> String {
    let (a, n) = gone;
    format!(
        "on_schema_change: {policy}\ndefaults: {{drop: {drop}}}\ntables:
  public.a: {{mode: incremental, replication_key: u, deletes: {{mode: {a}, every: 0s, at_most: 90%}}}}
  public.b: {{mode: full_refresh, deletes: {{mode: hard, at_most: 90%}}}}
  public.n: {{mode: full_refresh, deletes: {{mode: {n}, at_most: 90%}}}}"
    )
}

/// One night: what happens to the source, the pipeline's settings, how it is run.
struct Night {
    change: &'static str,
    pipeline: String,
    run: Run,
}

enum Run {
    Sync(&'static [&'static str]),
    Steps(&'static str),
}

fn nights() -> Vec<Night> {
    let night = |change, pipeline: &str, run| Night { change, pipeline: pipeline.to_owned(), run };
    let plain = tables("evolve", false, ("soft", "soft"));
    let hard = tables("evolve", false, ("hard", "hard"));
    let refresh = tables("full_refresh", true, ("soft", "hard"));
    vec![
        night("", &plain, Run::Sync(&[])),
        night("", &plain, Run::Sync(&[])),
        night("DELETE FROM a WHERE id % 7 = 1", &plain, Run::Steps("soft")),
        night(
            "DELETE FROM a WHERE id % 7 = 2; DELETE FROM b WHERE id % 7 = 2; DELETE FROM n WHERE amount < 9",
            &hard,
            Run::Sync(&[]),
        ),
        night(
            "INSERT INTO a SELECT g, -g, NULL, 0, 'back', g FROM generate_series(1, 5000) g ON CONFLICT DO NOTHING",
            &plain,
            Run::Sync(&[]),
        ),
        night("ALTER TABLE a ADD w int DEFAULT 7", &plain, Run::Sync(&[])),
        night(
            "ALTER TABLE a ADD w2 int DEFAULT 8; ALTER TABLE b ADD w2 text DEFAULT 'x'",
            &refresh,
            Run::Sync(&[]),
        ),
        night("ALTER TABLE a DROP extra; ALTER TABLE b DROP extra, DROP w2", &refresh, Run::Sync(&[])),
        night(
            "ALTER TABLE a DROP CONSTRAINT a_pkey, ADD PRIMARY KEY (code);
               ALTER TABLE b DROP CONSTRAINT b_pkey, ADD PRIMARY KEY (code)",
            &refresh,
            Run::Sync(&["--allow-rewrite"]),
        ),
        night("", &refresh, Run::Sync(&["--full-refresh"])),
    ]
}

async fn people_and_views(pair: &Pair, reader: &str) {
    pair.warehouse
        .sql(&format!(
            "CREATE VIEW w.v AS SELECT a.id, a.amount + b.amount AS total FROM w.a JOIN w.b USING (id)
                WHERE a._sankofa_deleted_at IS NULL AND b._sankofa_deleted_at IS NULL;
             CREATE MATERIALIZED VIEW w.m AS SELECT count(*), sum(total) FROM w.v;
             GRANT SELECT ON w.v, w.m TO {}",
            quote(reader)
        ))
        .await;
}

/// Refreshes the materialised view until told to end, as somebody's schedule would.
fn refreshing(pair: &Pair, done: Arc<AtomicBool>) -> JoinHandle<Vec<String>> {
    let config = pair.warehouse.config();
    tokio::spawn(async move {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SET lock_timeout = '5s'").await.unwrap();
        let mut errors = Vec::new();
        while !done.load(Ordering::Relaxed) {
            if let Err(why) = client.batch_execute("REFRESH MATERIALIZED VIEW w.m").await {
                errors.push(format!("refresh: {:?}", why.as_db_error()));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        errors
    })
}

fn admit(pair: &Pair, reader: &str) {
    let open = PROJECT.replace("{connection: wh}", &format!("{{connection: wh, reader_role: {reader}}}"));
    pair.sankofa.write("sankofa.yaml", open);
}

const IDENTITY: &str = "SELECT c.relname, c.oid, c.relacl, c.relowner FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = 'w' AND relkind IN ('r', 'v', 'm') ORDER BY 1";

#[tokio::test]
async fn readers_see_whole_commits_in_their_order_through_every_kind_of_run() {
    let pair = Pair::new(SOURCE, "tables: {}").await;
    let reader = pair.warehouse.server().role("reader", "").await;
    admit(&pair, &reader);
    let mut pollers = Pollers::new();
    for asks in [COUNT, REFRESHED, KEYLESS, WHOLE, JOINED, BACKWARDS].map(Asks::Once) {
        pollers.ask(&pair, &reader, asks).await;
    }
    for (first, second) in [(COUNT, WHOLE), (REFRESHED, COUNT), (KEYLESS, REFRESHED)] {
        pollers.ask(&pair, &reader, Asks::Repeatedly(first, second)).await;
    }
    let (mut states, mut identity, mut refreshes) = (Vec::new(), String::new(), None);
    for (step, night) in nights().into_iter().enumerate() {
        pair.source.sql(&format!("BEGIN; {}; {}; COMMIT", night.change, shuffle(step + 1))).await;
        states.push(state(&pair).await);
        pair.pipeline(&night.pipeline);
        let start = Instant::now();
        run_until_let_in(&pair, &night.run).await;
        eprintln!("night {step}: {:?} {}", start.elapsed(), night.change);
        if step == 0 {
            pollers.loaded.store(true, Ordering::Relaxed);
            people_and_views(&pair, &reader).await;
            refreshes = Some(refreshing(&pair, Arc::clone(&pollers.done)));
            pollers.ask(&pair, &reader, Asks::Once(VIEW)).await;
            pollers.ask(&pair, &reader, Asks::Once(VIEWED)).await;
            pollers.ask(&pair, &reader, Asks::Repeatedly(JOINED, VIEW)).await;
            identity = pair.there(IDENTITY).await;
        }
        assert_eq!(pair.there(IDENTITY).await, identity, "after night {step}");
        tokio::time::sleep(Duration::from_millis(400)).await; // everybody sees it
    }
    let seen = pollers.end().await;
    for polled in seen {
        judge(&polled, &states);
    }
    assert_eq!(refreshes.expect("a refresher").await.unwrap(), Vec::<String>::new());
    closed(&pair, &reader).await;
}

/// Runs a night; 75 because of readers that overlap without a gap is tried again, as a scheduler does.
async fn run_until_let_in(pair: &Pair, run: &Run) {
    for _ in 0..9 {
        let done = match run {
            Run::Sync(more) => pair.sync(more).await,
            Run::Steps(id) => pair.steps(id, &[]).await,
        };
        if done.code() != Some(75) {
            done.succeeds();
            return;
        }
        says(&done, &["w.a", "in use by", "metabase"]);
    }
    panic!("never let in");
}

/// What the source answers to every question now: (question, answer).
async fn state(pair: &Pair) -> Vec<(String, String)> {
    let mut state = Vec::new();
    for text in [COUNT, REFRESHED, KEYLESS, WHOLE, JOINED, BACKWARDS, VIEW] {
        let question = Asks::Once(text).at_source();
        let answer = lines(&pair.source, &question).await;
        state.push((question, answer));
    }
    state
}

/// Every answer is the source's of one night, no night comes after a later one, and the last is seen.
fn judge(polled: &Polled, states: &[Vec<(String, String)>]) {
    let question = polled.asks.at_source();
    let answer = |night: usize| &states[night].iter().find(|(asked, _)| *asked == question).expect("asked").1;
    let mut night = 0;
    for seen in &polled.answers {
        let at = (night..states.len()).find(|night| answer(*night) == seen);
        let all: Vec<_> = (0..states.len()).map(answer).collect();
        night = at.unwrap_or_else(|| {
            panic!("{question}: saw {seen} after night {night}; states {all:?}; seen {:?}", polled.answers)
        });
    }
    let (rounds, longest) = (polled.rounds, polled.longest);
    eprintln!("{rounds} rounds, {} states, longest {longest:?}: {question}", polled.answers.len());
    assert_eq!(polled.errors, Vec::<String>::new(), "{question}");
    assert_eq!(polled.answers.last(), Some(answer(states.len() - 1)), "{question}");
    assert!(rounds > 20, "{question}");
}

/// The reader reads no row on its way and no table of the ledger, but its views.
async fn closed(pair: &Pair, reader: &str) {
    let client = pair.warehouse.connect_as(reader).await;
    let privilege = "SELECT has_schema_privilege('sankofa_stage', 'USAGE')::text";
    let mut longest = Duration::ZERO;
    assert_eq!(timed(&client, privilege, &mut longest).await.unwrap(), "false");
    let of = |kind: &str| {
        format!(
            "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'sankofa'::regnamespace AND relkind = '{kind}'"
        )
    };
    let (tables, views) = (pair.there(&of("r")).await, pair.there(&of("v")).await);
    assert!(tables.lines().count() > 3 && views.lines().count() > 3, "{tables} {views}");
    for table in tables.lines() {
        let why = client.batch_execute(&format!("SELECT FROM {table}")).await.expect_err(table);
        assert_eq!(why.code().map(|code| code.code()), Some("42501"), "{table}");
    }
    for view in views.lines() {
        client.batch_execute(&format!("SELECT * FROM {view}")).await.expect(view);
    }
}

/// Two tables whose column `extra` goes at the source, and a reader who stays in `w.b` meanwhile.
async fn beside_a_long_reader(change: &str, policy: &str) {
    let sql =
        "CREATE TABLE a (id int PRIMARY KEY, extra int); CREATE TABLE b (id int PRIMARY KEY, extra int);
        INSERT INTO a SELECT g, g FROM generate_series(1, 100) g; INSERT INTO b TABLE a";
    let tables = format!(
        "on_schema_change: {policy}\ndefaults: {{mode: full_refresh, drop: true}}\ntables: {{public.a: {{}}, public.b: {{}}}}"
    );
    let pair = Pair::new(sql, &tables).await;
    let reader = pair.warehouse.server().role("reader", "").await;
    admit(&pair, &reader);
    pair.sync(&[]).await.succeeds();
    let long = pair.warehouse.connect_as(&reader).await;
    let begin =
        "SET application_name = 'long report'; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM w.b";
    long.batch_execute(begin).await.unwrap();
    let columns = "SELECT attrelid::regclass, attname FROM pg_attribute WHERE attnum > 0
        AND attrelid IN ('w.a'::regclass, 'w.b'::regclass) ORDER BY attrelid, attnum";
    let before = pair.there(columns).await;
    pair.source.sql(change).await;
    let mut pollers = Pollers::new();
    pollers.loaded.store(true, Ordering::Relaxed);
    for text in ["SELECT count(*) FROM {a}", "SELECT count(*) FROM {b}"] {
        pollers.ask(&pair, &reader, Asks::Once(text)).await;
    }
    let done = pair.sync(&[]).await.exits(75);
    says(&done, &["w.b", "long report", &reader]);
    for polled in pollers.end().await {
        eprintln!("{} rounds, longest {:?}", polled.rounds, polled.longest);
        assert_eq!((polled.errors, polled.answers), (Vec::<String>::new(), vec!["100".to_owned()]));
    }
    if change.contains("DROP") {
        assert_eq!(pair.there(columns).await, before);
    }
    long.batch_execute("SELECT FROM w.b; COMMIT").await.unwrap();
    pair.sync(&[]).await.succeeds();
    assert_ne!(pair.there(columns).await, before);
}

#[tokio::test]
async fn a_reader_that_stays_ends_the_run_with_75_by_name_and_keeps_nobody_else_waiting() {
    tokio::join!(
        beside_a_long_reader("ALTER TABLE a DROP extra; ALTER TABLE b DROP extra", "full_refresh"),
        beside_a_long_reader("ALTER TABLE a ADD w int; ALTER TABLE b ADD w int", "full_refresh"),
    );
}
