//! Every type that a column may have arrives with equal text, between every pair of majors.
//!
//! The types are taken from `pg_type`, so that none is forgotten: one without values below fails.

use crate::support::*;
use serde_json::Value;
use std::collections::BTreeMap;

/// Same major, older to newer, newer to older.
const PAIRS: [(u16, u16); 5] = [(13, 13), (18, 18), (13, 18), (18, 13), (17, 16)];

/// The built-in types that a column may have: base types, ranges and multiranges, no arrays.
const BUILT_IN: &str = "SELECT t.typname, t.typarray <> 0 FROM pg_type t
    WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm') AND t.oid < 10000
      AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid) ORDER BY t.oid";

/// Values of one type, as SQL expressions; `None`: a type that this test does not know.
fn values(name: &str, source: u16, warehouse: u16) -> Option<Vec<String>> {
    let literals: &[&str] = match name {
        "bool" => &["true", "false"],
        "bytea" => &["", r"\x00ff5c27", r"\x2e"],
        "char" => &["a", "", "\\"],
        "name" => &["abc", "ünï", "", "x\"y\\z"],
        "int8" => &["0", "-9223372036854775808", "9223372036854775807"],
        "int2" => &["0", "-32768", "32767"],
        "int4" => &["0", "-2147483648", "2147483647"],
        "int2vector" | "oidvector" => &["1 2 3", "", "7"],
        "regproc" => &["pg_catalog.now", "0", "4294967290"],
        "text" | "varchar" | "bpchar" | "refcursor" => {
            &["", "  a  ", "\t\n\\\"{},NULL", "NULL", "ünïcode \u{1f389}\u{10ffff}\u{1}", "'"]
        }
        "oid" | "xid" | "cid" => &["0", "1", "4294967295"],
        "xid8" => &["0", "18446744073709551615"],
        "tid" => &["(0,1)", "(4294967295,65535)"],
        "json" => &["null", " {\"b\":1, \"b\" : 2.00 } ", r#""\u00e9\ud83c\udf89""#, "[]"],
        "jsonb" => {
            &["null", r#"{"a":{"b":["\u00e9\ud83c\udf89",null,1.00,-0.0]},"":{}}"#, "1.00", "[]", "\"\""]
        }
        "jsonpath" => &["$", "strict $.a[*] ? (@.b > 1.5 && @.c like_regex \"^x\")", "$.\"a b\".size()"],
        "xml" => &["<a b=\"1\">é</a>", "", "words only", "<?xml version=\"1.0\"?><a/>", "<a/><b/>"],
        "point" => &["(1.5,-2)", "(Infinity,NaN)", "(-0,1e-300)"],
        "lseg" => &["[(1,2),(3,4)]", "[(0,0),(0,0)]"],
        "path" => &["[(1,2),(3,4)]", "((1,2))"],
        "box" => &["(3,4),(1,2)", "(0,0),(0,0)"],
        "polygon" => &["((1,2),(3,4),(5,6))", "((0,0))"],
        "line" => &["{1,2,3}", "{0,-1,0}"],
        "circle" => &["<(1,2),3>", "<(0,0),0>"],
        "float4" => &["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1"],
        "float8" => &["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1"],
        "money" => &["-92233720368547758.08", "0", "1234.56"],
        "macaddr" => &["08:00:2b:01:02:03", "00:00:00:00:00:00"],
        "macaddr8" => &["08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"],
        "inet" => &["1.2.3.4/24", "::1", "2001:db8::/32", "0.0.0.0/0"],
        "cidr" => &["10.0.0.0/8", "2001:db8::/32", "::/0"],
        "aclitem" => &["sankofa_test=r*w/sankofa_test", "=U/sankofa_test"],
        "date" => {
            &["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "20000-02-29", "0044-03-15 BC"]
        }
        "time" => &["24:00:00", "00:00:00.000001", "12:00"],
        "timetz" => &["24:00:00+15:59", "00:00:00.000001-15:59"],
        "timestamp" => &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "0044-03-15 BC",
        ],
        "timestamptz" => &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "2024-03-31 01:30:00+01",
        ],
        "interval" if source >= 17 && warehouse >= 17 => &["infinity", "-infinity", "1 day", "24 hours"],
        "interval" => &["1 day", "24 hours", "-178000000 years", "1 mon -1 day +00:00:00.000001", "0"],
        "bit" => &["1", "", "010101010"],
        "varbit" => &["", "1", "01010101010101010"],
        "numeric" if source >= 14 && warehouse >= 14 => &["Infinity", "-Infinity", "NaN", "1.0", "1.00"],
        "numeric" => &["-0", "0.00", "1.0", "1.00", "NaN", "1e131071", "-1e-16383", "12345.678900"],
        "regprocedure" => &["pg_catalog.length(text)", "0"],
        "regoper" => &["pg_catalog.||/", "0"],
        "regoperator" => &["pg_catalog.+(integer,integer)", "0"],
        "regclass" => &["pg_catalog.pg_class", "public.\"Here\"", "0", "4294967290"],
        "regcollation" => &["pg_catalog.\"C\"", "0"],
        "regtype" => &["integer", "0", "timestamp with time zone[]"],
        "regrole" => &["sankofa_test", "0"],
        "regnamespace" => &["pg_catalog", "0"],
        "regconfig" => &["pg_catalog.english", "0"],
        "regdictionary" => &["pg_catalog.simple", "0"],
        "uuid" => &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-4fff-bfff-ffffffffffff"],
        "txid_snapshot" | "pg_snapshot" => &["10:20:10,14,15", "1:1:"],
        "pg_lsn" => &["0/0", "FFFFFFFF/FFFFFFFF"],
        "tsvector" => &["", "a:1A b:2,3B 'c d':16383"],
        "tsquery" => &["", "a & !b | (c <-> d:*A) & 'e f'"],
        "int4range" | "int8range" => &["empty", "(,)", "[1,5)", "[1,)", "(,7)"],
        "numrange" => &["empty", "[1.0,1.00]", "[,NaN]", "(-0.5,)"],
        "tsrange" => &["empty", "[-infinity,infinity]", "(\"0044-03-15 BC\",)"],
        "tstzrange" => &["empty", "[-infinity,infinity]", "(,20000-01-01)"],
        "daterange" => &["empty", "[-infinity,infinity]", "[2000-01-01,2000-01-31]"],
        "int4multirange" | "int8multirange" => &["{}", "{[1,2),[5,)}", "{(,)}"],
        "nummultirange" => &["{}", "{[1.0,1.00],(5,)}"],
        "tsmultirange" | "tstzmultirange" | "datemultirange" => {
            &["{}", "{[2000-01-01,2000-02-01),(2001-01-01,)}"]
        }
        // Of these no value can be written down.
        "gtsvector" | "pg_brin_bloom_summary" | "pg_brin_minmax_multi_summary" => &[],
        "pg_node_tree" => return Some(vec!["(SELECT adbin FROM pg_attrdef LIMIT 1)".into()]),
        "pg_ndistinct" => {
            return Some(vec!["(SELECT stxdndistinct FROM pg_statistic_ext_data LIMIT 1)".into()]);
        }
        "pg_dependencies" => {
            return Some(vec!["(SELECT stxddependencies FROM pg_statistic_ext_data LIMIT 1)".into()]);
        }
        "pg_mcv_list" => return Some(vec!["(SELECT stxdmcv FROM pg_statistic_ext_data LIMIT 1)".into()]),
        _ => return None,
    };
    let literal =
        |text: &&str| format!("E'{}'::pg_catalog.\"{name}\"", text.replace('\\', "\\\\").replace('\'', "''"));
    Some(literals.iter().map(literal).collect())
}

/// Arrays over those values: with NULL, empty, of two dimensions, with bounds of their own.
fn arrays(name: &str, values: &[String]) -> Vec<String> {
    let of = |inner: String| format!("({inner})::pg_catalog.\"{name}\"[]");
    let Some(first) = values.first() else { return vec![of("'{}'".into())] };
    let last = &values[values.len() - 1];
    vec![
        of(format!("ARRAY[{}, NULL]", values.join(", "))),
        of("'{}'".into()),
        of(format!("ARRAY[ARRAY[{first}, NULL], ARRAY[{last}, {first}]]")),
        format!("array_fill({last}, ARRAY[2], ARRAY[-2])"),
        of("ARRAY[NULL, NULL]".into()),
    ]
}

/// Types and values of the parts of the world that users make; some need a major or an extension.
fn made(source: u16, warehouse: u16) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut columns = vec![
        ("mood", vec!["'glad'", "'sad, but'"]),
        ("mood[]", vec!["ARRAY['glad', NULL, 'sad, but']::mood[]", "'{}'", "'[0:0]={glad}'"]),
        ("pair", vec!["ROW(1, 'a,b \"c\"')", "ROW(NULL, NULL)", "ROW(1.00, '')"]),
        ("pair[]", vec!["ARRAY[ROW(1, 'a,\"b'), NULL, ROW(NULL, '')]::pair[]"]),
        ("\"Here\"", vec!["ROW(1, 'x')"]),
        ("\"Here\"[]", vec!["ARRAY[ROW(1, 'x')::\"Here\"]"]),
        ("small", vec!["5", "-5"]),
        ("small[]", vec!["ARRAY[5, NULL]::small[]", "'[5:6]={1,2}'", "'{{1,2},{3,4}}'"]),
        ("three_bits", vec!["B'101'"]),
        ("three_bits[]", vec!["ARRAY[B'101', B'010']::three_bits[]"]),
        ("one_char", vec!["'a'", "''"]),
        ("one_char[]", vec!["ARRAY['a', '']::one_char[]"]),
        ("padded", vec!["'ab'"]),
        ("padded[]", vec!["ARRAY['ab', 'abcde']::padded[]"]),
        ("price", vec!["1.5", "NULL"]),
        ("price[]", vec!["ARRAY[1.5, 2]::price[]"]),
        ("numbers", vec!["'{1,NULL,3}'", "'[2:3]={1,2}'"]),
        ("numbers[]", vec!["ARRAY['{1,2}'::numbers, '{3}', NULL]"]),
        ("pair_too", vec!["ROW(1, 'x')"]),
        ("pair_too[]", vec!["ARRAY[ROW(1, 'x')]::pair_too[]"]),
        ("letters", vec!["'[a,c)'", "'empty'"]),
        ("letters[]", vec!["ARRAY['[a,c)'::letters, 'empty']"]),
        ("small_range", vec!["'[1,5)'"]),
        ("numeric(12,2)", vec!["1.5", "'NaN'"]),
        ("numeric(12,2)[]", vec!["'{1.5,NULL}'"]),
        ("varchar(5)[]", vec!["'{abc,NULL}'"]),
        ("char(3)", vec!["'a'"]),
        ("char(3)[]", vec!["'{a,bcd}'"]),
        ("bit(3)", vec!["B'101'"]),
        ("bit(3)[]", vec!["ARRAY[B'101', NULL]"]),
        ("varbit(5)", vec!["B'1'"]),
        ("interval(3)", vec!["'1.2345 s'"]),
        ("interval(3)[]", vec!["'{1.2345 s}'"]),
        ("interval day to second(2)", vec!["'1 day 1.239 s'"]),
        ("timestamp(0)", vec!["'2000-01-01 00:00:00.7'"]),
        ("time(2) with time zone", vec!["'01:02:03.456+01'"]),
        ("timestamp(3) with time zone[]", vec!["'{infinity,2000-01-01 00:00:00.123456+00}'"]),
        ("information_schema.sql_identifier", vec!["'abc'"]),
        ("information_schema.cardinal_number[]", vec!["'{1,2}'"]),
        ("pg_catalog.pg_namespace", vec!["(SELECT n FROM pg_namespace n LIMIT 1)"]),
        ("hstore", vec!["'a=>1, \"b c\"=>NULL'", "''"]),
        ("hstore[]", vec!["ARRAY['a=>1'::hstore, NULL]"]),
        ("words", vec!["'a=>1'"]),
        ("citext", vec!["'AbC'", "''"]),
        ("citext[]", vec!["'{AbC,NULL}'"]),
        ("ltree", vec!["'a.b.c'", "''"]),
        ("cube", vec!["'(1,2),(3,4)'"]),
        ("seg", vec!["'1.0 .. 2.00'"]),
        ("isbn", vec!["'978-0-393-04002-9'"]),
    ];
    if source >= 14 {
        columns.push(("letters_multi", vec!["'{[a,c),[x,z)}'"]));
        columns.push(("letters_multi[]", vec!["ARRAY['{[a,c),[x,z)}'::letters_multi]"]));
    }
    if source >= 15 {
        columns.push(("numeric(3,-2)", vec!["12345"]));
        columns.push(("numeric(3,5)[]", vec!["'{0.00123}'"]));
    }
    let _ = warehouse;
    columns
}

const MADE: &str = "
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION cube;
CREATE EXTENSION seg; CREATE EXTENSION isn;
CREATE TYPE mood AS ENUM ('glad', 'sad, but');
CREATE TYPE pair AS (a numeric, b text);
CREATE TABLE \"Here\" (a int, b text);
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE DOMAIN three_bits AS bit(3);
CREATE DOMAIN one_char AS \"char\";
CREATE DOMAIN padded AS char(5);
CREATE DOMAIN price AS numeric(9,3);
CREATE DOMAIN numbers AS int[];
CREATE DOMAIN pair_too AS pair;
CREATE DOMAIN words AS hstore;
CREATE TYPE small_range AS RANGE (subtype = int4);
CREATE TABLE statistics (a int DEFAULT 7, b int);
INSERT INTO statistics SELECT i % 3, i % 3 FROM generate_series(1, 100) i;
CREATE STATISTICS of_it ON a, b FROM statistics; ANALYZE statistics;";

/// A source with every type; the rows of `public.built_in`, `public.arrays` and `public.made`.
async fn source(source: u16, warehouse: u16) -> Database {
    let database = Server::major(source).fresh_database("source").await;
    database.sql(MADE).await;
    let letters = if source >= 14 { ", multirange_type_name = letters_multi" } else { "" };
    database.sql(&format!("CREATE TYPE letters AS RANGE (subtype = text, collation = \"C\"{letters})")).await;
    let mut built_in = Vec::new();
    let mut of_arrays = Vec::new();
    for row in database.query_text(BUILT_IN).await {
        let name = row[0].clone().unwrap();
        let Some(values) = values(&name, source, warehouse) else { panic!("no values for type {name}") };
        if row[1].as_deref() == Some("t") {
            of_arrays.push((format!("pg_catalog.\"{name}\"[]"), arrays(&name, &values)));
        }
        built_in.push((format!("pg_catalog.\"{name}\""), values));
    }
    assert!(built_in.len() >= 68, "only {} types were found", built_in.len());
    let text = |values: Vec<&str>| values.into_iter().map(str::to_owned).collect();
    let of_users = made(source, warehouse).into_iter().map(|(sql, values)| (sql.to_owned(), text(values)));
    fill(&database, "built_in", &built_in).await;
    fill(&database, "arrays", &of_arrays).await;
    fill(&database, "made", &of_users.collect::<Vec<_>>()).await;
    database
}

/// A table with a column for each type, rows of all its values in turn, and one of NULLs.
async fn fill(database: &Database, table: &str, columns: &[(String, Vec<String>)]) {
    let definitions: Vec<String> =
        columns.iter().enumerate().map(|(at, (sql, _))| format!("v{at} {sql}")).collect();
    database
        .sql(&format!(
            "CREATE TABLE {table} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
             twice int GENERATED ALWAYS AS (n * 2) STORED, n int DEFAULT 21, {})",
            definitions.join(", ")
        ))
        .await;
    let rows = columns.iter().map(|(_, values)| values.len()).max().unwrap();
    for row in 0..rows {
        let mut names = String::new();
        let mut list = String::new();
        for (at, (sql, values)) in columns.iter().enumerate() {
            if !values.is_empty() {
                names += &format!("{}v{at}", if names.is_empty() { "" } else { ", " });
                let value = format!("CAST({} AS {sql})", values[row % values.len()]);
                list += &format!("{}{value}", if list.is_empty() { "" } else { ", " });
            }
        }
        database.sql(&format!("INSERT INTO {table} ({names}) SELECT {list}")).await;
    }
    database.sql(&format!("INSERT INTO {table} (n) VALUES (NULL)")).await;
}

const PINNED: &str = "SET search_path = ''; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET quote_all_identifiers = off;";

/// The text of every value of a table, by id and column.
pub async fn texts(database: &Database, table: &str) -> BTreeMap<(String, String), Option<String>> {
    let names = database
        .query_text(&format!(
            "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0
             AND attname NOT LIKE '\\_sankofa\\_%' ORDER BY attnum"
        ))
        .await;
    let names: Vec<String> = names.into_iter().map(|row| row[0].clone().unwrap()).collect();
    let list: Vec<String> = names.iter().map(|name| format!("{}::text", quote(name))).collect();
    let rows = database.query_text(&format!("{PINNED} SELECT {} FROM {table}", list.join(", "))).await;
    let mut texts = BTreeMap::new();
    let id = names.iter().position(|name| name == "id").unwrap();
    for row in rows {
        for (name, value) in names.iter().zip(&row) {
            texts.insert((row[id].clone().unwrap(), name.clone()), value.clone());
        }
    }
    texts
}

#[track_caller]
fn same(
    source: &BTreeMap<(String, String), Option<String>>,
    there: &BTreeMap<(String, String), Option<String>>,
) {
    let short = |text: &Option<String>| text.clone().map(|text| text.chars().take(90).collect::<String>());
    let differ: Vec<String> = source
        .iter()
        .filter(|(place, text)| there.get(place) != Some(text))
        .map(|(place, text)| format!("{place:?}: {:?} became {:?}", short(text), there.get(place).map(short)))
        .collect();
    assert!(differ.is_empty(), "{} values differ:\n{}", differ.len(), differ.join("\n"));
    assert_eq!(source.len(), there.len());
}

const TABLES: [&str; 3] = ["built_in", "arrays", "made"];

fn project(source: &Database, warehouse: &Database) -> Sankofa {
    let tables =
        |mode: &str| -> String { TABLES.iter().map(|table| format!("  public.{table}: {mode}\n")).collect() };
    Sankofa::new()
        .file("sankofa.yaml", "version: 1\nwarehouse: {connection: wh}\nstores: {stage: {directory: ./stage}}\nstage: {store: stage}\n")
        .file("pipelines/full.yaml", format!("source: src\nschema: whole\ntables:\n{}", tables("{mode: full_refresh}")))
        .file(
            "pipelines/inc.yaml",
            format!("source: src\nschema: inc\ntables:\n{}", tables("{mode: incremental, replication_key: updated_at}")),
        )
        .connection("src", source)
        .connection("wh", warehouse)
}

/// Rows inserted, updated and deleted, of all tables of a report.
pub fn written(report: &Value) -> (u64, u64, u64) {
    let sum =
        |what: &str| report["tables"].as_array().unwrap().iter().map(|t| t[what].as_u64().unwrap()).sum();
    (sum("inserted"), sum("updated"), sum("deleted"))
}

async fn equal(source: &Database, warehouse: &Database, schema: &str) {
    for table in TABLES {
        same(
            &texts(source, &format!("public.{table}")).await,
            &texts(warehouse, &format!("{schema}.{table}")).await,
        );
    }
}

/// Gives every row the values of the next one.
async fn rotate(source: &Database) {
    for table in TABLES {
        let names = source
            .query_text(&format!(
                "SELECT attname FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass AND attname LIKE 'v%'"
            ))
            .await;
        let names: Vec<String> = names.into_iter().map(|row| row[0].clone().unwrap()).collect();
        let list: Vec<String> = names.iter().map(|name| format!("o.{name}")).collect();
        source
            .sql(&format!(
                "UPDATE public.{table} t SET updated_at = clock_timestamp(), ({}) = ROW({}) FROM public.{table} o
                 WHERE o.id = t.id % (SELECT max(id) FROM public.{table}) + 1",
                names.join(", "),
                list.join(", ")
            ))
            .await;
    }
}

/// Gives a database settings under which hardly any value is written or read as usual.
async fn disturb(database: &Database) {
    let name = quote(database.name());
    for setting in [
        "TimeZone = 'America/New_York'",
        "DateStyle = 'SQL, DMY'",
        "IntervalStyle = 'iso_8601'",
        "bytea_output = 'escape'",
        "extra_float_digits = -5",
        "xmloption = 'document'",
        "xmlbinary = 'hex'",
        "quote_all_identifiers = on",
        "search_path = 'nowhere'",
        "standard_conforming_strings = off",
        "array_nulls = off",
        "transform_null_equals = on",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_deferrable = on",
        "client_encoding = 'LATIN1'",
        "row_security = off",
        "statement_timeout = 100000",
        "enable_seqscan = off",
        "default_tablespace = ''",
        "check_function_bodies = off",
    ] {
        database.sql(&format!("ALTER DATABASE {name} SET {setting}")).await;
    }
}

async fn round_trip(majors: (u16, u16), extensions: bool) {
    let source = source(majors.0, majors.1).await;
    let warehouse = Server::major(majors.1).fresh_database("warehouse").await;
    if !extensions {
        disturb(&source).await;
        disturb(&warehouse).await;
    }
    if extensions {
        warehouse
            .sql("CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION ltree")
            .await;
    }
    let project = project(&source, &warehouse);
    for (pipeline, schema) in [("full", "whole"), ("inc", "inc")] {
        project.run(&["sync", pipeline, "--json"]).await.succeeds();
        equal(&source, &warehouse, schema).await;
        let again = project.run(&["sync", pipeline, "--json"]).await.succeeds();
        assert_eq!(written(&again.json()), (0, 0, 0), "{}", again.told());
    }
    rotate(&source).await;
    project.run(&["sync", "inc"]).await.succeeds();
    equal(&source, &warehouse, "inc").await;
    for step in ["extract", "validate", "load"] {
        project.run(&[step, "full", "--run", "steps-1"]).await.succeeds();
    }
    equal(&source, &warehouse, "whole").await;
    rotate(&source).await;
    project.run(&["sync", "full"]).await.succeeds();
    equal(&source, &warehouse, "whole").await;
    for step in ["extract", "validate", "load"] {
        project.run(&[step, "inc", "--run", "steps-2"]).await.succeeds();
    }
    equal(&source, &warehouse, "inc").await;
}

#[tokio::test]
async fn every_type_survives_within_13() {
    round_trip(PAIRS[0], true).await;
}

#[tokio::test]
async fn every_type_survives_within_18() {
    round_trip(PAIRS[1], false).await;
}

#[tokio::test]
async fn every_type_survives_from_13_to_18() {
    round_trip(PAIRS[2], true).await;
}

#[tokio::test]
async fn every_type_survives_from_18_to_13() {
    round_trip(PAIRS[3], true).await;
}

#[tokio::test]
async fn every_type_survives_from_17_to_16() {
    round_trip(PAIRS[4], false).await;
}

/// A source and a warehouse with one pipeline `p` over the tables of `sql`, and its settings.
pub struct Pair {
    pub source: Database,
    pub warehouse: Database,
    pub project: Sankofa,
}

impl Pair {
    pub async fn of(majors: (u16, u16), sql: &str, pipeline: &str) -> Pair {
        let source = Server::major(majors.0).fresh_database("source").await;
        let warehouse = Server::major(majors.1).fresh_database("warehouse").await;
        source.sql(sql).await;
        let project = project(&source, &warehouse)
            .file("pipelines/p.yaml", format!("source: src\nschema: w\n{pipeline}\n"));
        Pair { source, warehouse, project }
    }

    pub async fn sync(&self) -> Finished {
        self.project.run(&["sync", "p", "--json"]).await
    }
}

/// Of one table `t` in full.
pub const T: &str = "tables: {public.t: {mode: full_refresh}}";

#[tokio::test]
async fn an_infinite_number_that_13_cannot_hold_is_65_and_names_its_column_and_nothing_changes() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, n numeric, \"the Rate\" numeric); INSERT INTO t VALUES (1, 1, 'NaN')";
    let pair = Pair::of((14, 13), sql, T).await;
    let spoil = "INSERT INTO t VALUES (2, 2, 2), (3, 3, 'Infinity')";
    pair.source.sql("CREATE TABLE kept AS SELECT * FROM t").await;
    pair.source.sql(spoil).await;
    let told = pair.sync().await.exits(65);
    assert!(
        told.stderr.contains("public.t: ") && told.stderr.contains("column \"the Rate\", row 3"),
        "{}",
        told.told()
    );
    assert_eq!(pair.warehouse.query_text("SELECT to_regclass('w.t')").await[0][0], None);

    pair.source.sql("DELETE FROM t WHERE id > 1").await;
    pair.sync().await.succeeds();
    pair.source.sql(spoil).await;
    let told = pair.sync().await.exits(65);
    assert!(told.stderr.contains("\"the Rate\""), "{}", told.told());
    assert_eq!(pair.warehouse.value("SELECT count(*) FROM w.t").await, "1");
    assert_eq!(
        pair.warehouse.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'sankofa_stage'").await,
        "0"
    );
}

#[tokio::test]
async fn an_infinite_interval_that_16_cannot_hold_is_65_and_names_its_column_and_nothing_changes() {
    let pair = Pair::of((17, 16), "CREATE TABLE t (id int PRIMARY KEY, a interval, b interval)", T).await;
    pair.source.sql("INSERT INTO t VALUES (1, '1 day', '24 hours')").await;
    pair.sync().await.succeeds();
    pair.source.sql("INSERT INTO t VALUES (2, '1 day', 'infinity')").await;
    let told = pair.sync().await.exits(65);
    assert!(told.stderr.contains("column b has a value that is no interval here"), "{}", told.told());
    assert!(!told.stderr.contains("infinity"), "{}", told.told());
    assert_eq!(pair.warehouse.value("SELECT count(*) FROM w.t").await, "1");
}

#[tokio::test]
async fn a_multirange_arrives_at_13_as_text_and_that_is_said() {
    let sql =
        "CREATE TABLE t (id int PRIMARY KEY, m int4multirange); INSERT INTO t VALUES (1, '{[1,2),[5,)}')";
    let pair = Pair::of((18, 13), sql, T).await;
    let told = pair.sync().await.succeeds();
    assert!(
        told.json()["warnings"][0].as_str().unwrap().contains("column \"m\": int4multirange does not exist")
    );
    let arrived = "SELECT m || pg_typeof(m)::text FROM w.t";
    assert_eq!(pair.warehouse.value(arrived).await, "{[1,2),[5,)}text");
}

#[tokio::test]
async fn a_value_is_new_when_its_image_is_new_though_it_is_equal() {
    let sql = "CREATE TABLE t (id int PRIMARY KEY, n numeric, i interval, f float8, j json, r numrange);
        INSERT INTO t SELECT i, 1.0, '1 day', 0, '{}', '[1.0,2)' FROM generate_series(1, 6) i;
        CREATE TABLE nokey AS SELECT * FROM t";
    let pipeline = "tables: {public.t: {mode: full_refresh}, public.nokey: {mode: full_refresh}}";
    for majors in [(13, 13), (18, 18), (17, 16)] {
        let pair = Pair::of(majors, sql, pipeline).await;
        pair.sync().await.succeeds();
        for table in ["t", "nokey"] {
            for (id, set) in
                ["n = 1.00", "i = '24 hours'", "f = '-0'", "j = '{ }'", "r = '[1.00,2)'"].iter().enumerate()
            {
                pair.source.sql(&format!("UPDATE {table} SET {set} WHERE id = {}", id + 1)).await;
            }
        }
        let report = pair.sync().await.succeeds().json();
        assert_eq!(written(&report), (5, 5, 5), "{report}");
        for table in ["t", "nokey"] {
            let live = format!("(SELECT * FROM w.{table} WHERE _sankofa_deleted_at IS NULL)");
            let query = |from: &str| format!("SELECT id, n, i, f, j::text, r FROM {from} t ORDER BY id");
            let there = pair.warehouse.query_text(&query(&live)).await;
            assert_eq!(there, pair.source.query_text(&query(table)).await);
        }
        assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 0, 0));
    }
}

#[tokio::test]
async fn rows_are_merged_by_keys_of_any_type() {
    let keys: [(&str, &str, &[&str]); 10] = [
        ("n", "k numeric PRIMARY KEY", &["1.0", "2.5", "'NaN'", "1e100"]),
        ("w", "k text PRIMARY KEY", &["'a'", "'A'", "''", "'é'", "'a '"]),
        (
            "u",
            "k uuid PRIMARY KEY",
            &["'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'"],
        ),
        ("m", "k timestamptz PRIMARY KEY", &["'infinity'", "'-infinity'", "'2024-01-01 00:00:00.000001+00'"]),
        ("i", "k interval PRIMARY KEY", &["'1 day'", "'1 mon'", "'-1 s'"]),
        ("b", "k bytea PRIMARY KEY", &["''", "'\\x00'", "'\\x0001'"]),
        ("c", "k char(3) PRIMARY KEY", &["'a'", "'b  '", "'abc'"]),
        ("x", "k citext PRIMARY KEY", &["'One'", "'two'", "''"]),
        ("e", "k mood PRIMARY KEY", &["'glad'", "'sad'"]),
        ("r", "k int4range PRIMARY KEY", &["'[1,2)'", "'empty'", "'(,)'"]),
    ];
    for majors in [(13, 18), (17, 16)] {
        let mut sql = "CREATE EXTENSION citext; CREATE TYPE mood AS ENUM ('glad', 'sad');".to_owned();
        let mut tables = "defaults: {mode: incremental, replication_key: at, deletes: {mode: hard, every: 0s, at_most: 90%}}\ntables:\n".to_owned();
        for (table, key, values) in keys {
            sql += &format!("CREATE TABLE {table} ({key}, v int, at timestamptz DEFAULT clock_timestamp());");
            for value in values {
                sql += &format!("INSERT INTO {table} VALUES ({value}, 1);");
            }
            tables += &format!("  public.{table}: {{}}\n");
        }
        sql += "CREATE TABLE two (a text, b numeric, v int, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (b, a));
            INSERT INTO two VALUES ('x', 1.0, 1), ('x', 2, 1), ('', 1, 1)";
        tables += "  public.two: {}\n";
        let pair = Pair::of(majors, &sql, &tables).await;
        pair.warehouse.sql("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext").await;
        pair.sync().await.succeeds();
        let mut change = "UPDATE two SET v = 2, at = clock_timestamp(), b = 1.00 WHERE b = 1; DELETE FROM two WHERE b = 2;".to_owned();
        for (table, _, values) in keys {
            let (first, last) = (values[0], values[values.len() - 1]);
            change += &format!("UPDATE {table} SET v = 2, at = clock_timestamp() WHERE k = {first};");
            change += &format!("DELETE FROM {table} WHERE k = {last};");
        }
        change += "UPDATE n SET k = 1.00, at = clock_timestamp() WHERE k = 1;
            UPDATE x SET k = 'ONE', at = clock_timestamp() WHERE k = 'one'";
        pair.source.sql(&change).await;
        let report = pair.sync().await.succeeds().json();
        assert_eq!(written(&report), (0, 12, 11), "{report}");
        for (table, _, _) in keys {
            let query = |from: &str| format!("SELECT k::text, v FROM {from} ORDER BY k::text COLLATE \"C\"");
            let there = pair.warehouse.query_text(&query(&format!("w.{table}"))).await;
            assert_eq!(there, pair.source.query_text(&query(table)).await, "{table}");
        }
        assert_eq!(pair.warehouse.value("SELECT string_agg(b::text, ' ') FROM w.two").await, "1.00 1.00");
    }
}

#[tokio::test]
async fn an_extension_that_comes_to_the_warehouse_later_changes_nothing() {
    let sql = "CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, c citext, a citext[]); INSERT INTO t VALUES (1, 'A', '{B}')";
    let pair = Pair::of((15, 15), sql, T).await;
    let told = pair.sync().await.succeeds();
    assert!(
        told.json()["warnings"][0].as_str().unwrap().contains("lacks the extension citext"),
        "{}",
        told.told()
    );
    pair.warehouse.sql("CREATE EXTENSION citext").await;
    pair.source.sql("UPDATE t SET c = 'a'").await;
    assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 1, 0));
    assert_eq!(pair.warehouse.value("SELECT c || pg_typeof(c)::text FROM w.t").await, "atext");
}

#[tokio::test]
async fn virtual_columns_and_keys_without_overlaps_of_18_arrive() {
    let sql = "CREATE EXTENSION btree_gist;
        CREATE TABLE t (id int, during daterange, v int, twice int GENERATED ALWAYS AS (v * 2), PRIMARY KEY (id, during WITHOUT OVERLAPS));
        INSERT INTO t (id, during, v) VALUES (1, '[2000-01-01,2001-01-01)', 1), (1, '[2001-01-01,)', 2)";
    for warehouse in [13, 18] {
        let pair =
            Pair::of((18, warehouse), sql, "tables: {public.t: {mode: incremental, replication_key: xmin}}")
                .await;
        pair.sync().await.succeeds();
        pair.source.sql("UPDATE t SET v = 5 WHERE v = 2").await;
        assert_eq!(written(&pair.sync().await.succeeds().json()), (0, 1, 0));
        assert_eq!(
            pair.warehouse.value("SELECT string_agg(twice::text, ' ' ORDER BY v) FROM w.t").await,
            "2 10"
        );
    }
}
