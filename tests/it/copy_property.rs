//! Any rows that PostgreSQL holds pass the decoder of COPY binary unchanged: the server is the oracle.

use crate::support::*;
use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sankofa::pg::copy::{Decoder, Field, HEADER, Measures, TRAILER};
use tokio_postgres::Client;

/// One column: its type, and its values as SQL; None is NULL.
type Column = (&'static str, Vec<Option<String>>);

fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn words() -> BoxedStrategy<String> {
    // No NUL: PostgreSQL cannot store it.
    prop::collection::vec(any::<char>().prop_filter("NUL", |c| *c != '\0'), 0..12)
        .prop_map(|c| c.iter().collect())
        .boxed()
}

fn json(depth: u32) -> BoxedStrategy<serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        words().prop_map(Into::into),
    ];
    leaf.prop_recursive(depth, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::vec((words(), inner), 0..4)
                .prop_map(|all| serde_json::Value::Object(all.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Values of one type, as SQL.
fn value(sql: &'static str) -> BoxedStrategy<String> {
    // An interval's field is an int4 before 15: microseconds go as days, seconds and what is left.
    let since = |from: &'static str, range: std::ops::Range<i64>| {
        let at = range.prop_map(move |n| {
            let (days, rest) = (n / 86_400_000_000, n % 86_400_000_000);
            let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
            format!("({from} + interval '{days} days {seconds} seconds {micros} microseconds')")
        });
        prop_oneof![8 => at, 1 => Just("'infinity'".to_owned()), 1 => Just("'-infinity'".to_owned())].boxed()
    };
    let moments = -200_000_000_000_000_000i64..9_000_000_000_000_000_000;
    match sql {
        "bool" => any::<bool>().prop_map(|b| b.to_string()).boxed(),
        "int2" => any::<i16>().prop_map(|n| format!("'{n}'")).boxed(),
        "int4" => any::<i32>().prop_map(|n| format!("'{n}'")).boxed(),
        "int8" => any::<i64>().prop_map(|n| format!("'{n}'")).boxed(),
        "float4" => any::<f32>().prop_map(|n| literal(&n.to_string().replace("inf", "Infinity"))).boxed(),
        "float8" => any::<f64>().prop_map(|n| literal(&n.to_string().replace("inf", "Infinity"))).boxed(),
        "numeric" => (any::<i128>(), 0u32..40).prop_map(|(n, scale)| format!("'{n}e-{scale}'")).boxed(),
        "text" | "varchar" | "bpchar" => words().prop_map(|w| literal(&w)).boxed(),
        "bytea" => prop::collection::vec(any::<u8>(), 0..40)
            .prop_map(|b| format!("'\\x{}'", b.iter().map(|b| format!("{b:02x}")).collect::<String>()))
            .boxed(),
        // jsonb refuses \u0000, which words() never has.
        "json" | "jsonb" => json(3).prop_map(|j| literal(&j.to_string())).boxed(),
        "uuid" => any::<u128>().prop_map(|n| format!("'{n:032x}'")).boxed(),
        "date" => {
            let day = (-2_400_000..2_000_000_000i64).prop_map(|n| format!("(date '2000-01-01' + {n})"));
            prop_oneof![8 => day, 1 => Just("'infinity'".to_owned()), 1 => Just("'-infinity'".to_owned())]
                .boxed()
        }
        "timestamp" => since("timestamp '2000-01-01'", moments),
        "timestamptz" => since("timestamptz '2000-01-01'", moments),
        "interval" => (any::<i16>(), any::<i16>(), any::<i32>())
            .prop_map(|(m, d, s)| format!("'{m} months {d} days {s} microseconds'"))
            .boxed(),
        "inet" => (any::<u32>(), 0u8..=32)
            .prop_map(|(n, bits)| format!("'{}/{bits}'", std::net::Ipv4Addr::from(n)))
            .boxed(),
        "varbit" => prop::collection::vec(any::<bool>(), 0..20)
            .prop_map(|b| format!("'{}'", b.iter().map(|b| if *b { '1' } else { '0' }).collect::<String>()))
            .boxed(),
        "int8range" => (any::<i32>(), any::<u16>())
            .prop_map(|(from, n)| format!("'[{from},{})'", i64::from(from) + i64::from(n)))
            .boxed(),
        "point" => (any::<f64>(), any::<f64>())
            .prop_map(|(x, y)| format!("'({x:?},{y:?})'").replace("inf", "Infinity"))
            .boxed(),
        "int4[]" => prop::collection::vec(prop::option::of(any::<i32>()), 0..6)
            .prop_map(|all| {
                format!(
                    "ARRAY[{}]::int4[]",
                    all.iter()
                        .map(|n| n.map_or("NULL".into(), |n| format!("'{n}'")))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            })
            .boxed(),
        "text[]" => prop::collection::vec(prop::option::of(words()), 0..5)
            .prop_map(|all| {
                format!(
                    "ARRAY[{}]::text[]",
                    all.iter()
                        .map(|w| w.as_deref().map_or("NULL".into(), literal))
                        .collect::<Vec<_>>()
                        .join(",")
                )
            })
            .boxed(),
        _ => unreachable!("{sql}"),
    }
}

const TYPES: [&str; 23] = [
    "bool",
    "int2",
    "int4",
    "int8",
    "float4",
    "float8",
    "numeric",
    "text",
    "varchar",
    "bpchar",
    "bytea",
    "json",
    "jsonb",
    "uuid",
    "date",
    "timestamp",
    "timestamptz",
    "interval",
    "inet",
    "varbit",
    "int8range",
    "point",
    "int4[]",
];

/// Columns of one number of rows.
fn table() -> impl Strategy<Value = Vec<Column>> {
    let column = |rows: usize| {
        prop::sample::select(TYPES.into_iter().chain(["text[]"]).collect::<Vec<_>>())
            .prop_flat_map(move |sql| (Just(sql), prop::collection::vec(prop::option::of(value(sql)), rows)))
    };
    (0usize..20).prop_flat_map(move |rows| prop::collection::vec(column(rows), 0..7))
}

async fn make(client: &Client, columns: &[Column]) {
    let definitions: Vec<String> =
        columns.iter().enumerate().map(|(at, (sql, _))| format!("c{at} {sql}")).collect();
    let mut sql = "DROP TABLE IF EXISTS a, b;".to_owned();
    for table in ["a", "b"] {
        sql += &format!("CREATE TABLE {table} ({});", definitions.join(", "));
    }
    for row in 0..columns.first().map_or(3, |(_, values)| values.len()) {
        let values = columns
            .iter()
            .map(|(sql, values)| format!("CAST({} AS {sql})", values[row].as_deref().unwrap_or("NULL")));
        sql += &format!("INSERT INTO a SELECT {};", values.collect::<Vec<_>>().join(", "));
    }
    client.batch_execute(&sql).await.unwrap_or_else(|why| panic!("{why:?}: {sql}"));
}

/// Copies `a` into `b` through the decoder; the stream is cut at every multiple of `cut` bytes.
async fn pass(client: &Client, columns: usize, cut: usize) -> Measures {
    let stream = client.copy_out("COPY a TO STDOUT (FORMAT binary)").await.unwrap();
    let whole: Vec<u8> = stream.try_collect::<Vec<Bytes>>().await.unwrap().concat();
    let mut decoder = Decoder::new(vec![Field::Pass; columns], (columns > 0).then_some(0), 64 << 20);
    let mut sink = Box::pin(client.copy_in("COPY b FROM STDIN (FORMAT binary)").await.unwrap());
    sink.feed(Bytes::from_static(HEADER)).await.unwrap();
    let mut rows = 0;
    for piece in whole.chunks(cut) {
        decoder.feed(piece).unwrap();
        let batch = decoder.take();
        rows += batch.rows;
        sink.feed(Bytes::from(batch.data)).await.unwrap();
    }
    sink.feed(Bytes::from_static(&TRAILER)).await.unwrap();
    assert_eq!(sink.as_mut().finish().await.unwrap(), rows);
    decoder.finish().unwrap()
}

async fn differences(client: &Client) -> i64 {
    // Both heaps are new and filled in order, so places number the rows.
    let sql = "SELECT count(*) FROM (SELECT row_number() OVER (ORDER BY ctid) AS n, a::a AS r FROM a) AS x
        FULL JOIN (SELECT row_number() OVER (ORDER BY ctid) AS n, b::b AS r FROM b) AS y USING (n)
        WHERE x.n IS NULL OR y.n IS NULL OR x.r::text <> y.r::text OR x.r::record *<> y.r::record";
    client.query_one(&sql.replace("a::a", "a").replace("b::b", "b"), &[]).await.unwrap().get(0)
}

async fn holds(client: &Client, columns: &[Column], cut: usize) -> Result<(), TestCaseError> {
    make(client, columns).await;
    let measures = pass(client, columns.len(), cut).await;
    prop_assert_eq!(differences(client).await, 0);
    for (at, (sql, values)) in columns.iter().enumerate() {
        prop_assert_eq!(measures.nulls[at], values.iter().filter(|value| value.is_none()).count() as u64);
        if at == 0 && matches!(*sql, "int2" | "int4" | "int8") {
            let greatest = client.query_one("SELECT max(c0)::int8 FROM a", &[]).await.unwrap();
            prop_assert_eq!(measures.high, greatest.get::<_, Option<i64>>(0));
        }
    }
    Ok(())
}

#[test]
fn any_rows_of_any_types_pass_the_decoder_unchanged() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for major in [13, 18] {
        let database = runtime.block_on(Server::major(major).fresh_database("copy"));
        let client = runtime.block_on(database.connect());
        let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
        let done = TestRunner::new(config)
            .run(&(table(), 1usize..300), |(columns, cut)| runtime.block_on(holds(&client, &columns, cut)));
        done.unwrap_or_else(|why| panic!("{why}"));
    }
}
