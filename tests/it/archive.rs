//! The reader of pg_dump's archives: every pg_dump there is, an independent reader, damage.

use crate::support::*;
use proptest::prelude::*;
use sankofa::backup::archive::{Read, Reader};
use sankofa::backup::proof::{Proof, SetProof, SetSum};
use sankofa::error::{Failure, Kind};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

fn read(archive: &[u8]) -> Result<Read, Failure> {
    let mut reader = Reader::new();
    for piece in archive.chunks(1 << 16) {
        reader.feed(piece)?;
    }
    reader.finish()
}

async fn hostile_database(major: u16) -> Database {
    let database = Server::major(major).fresh_database("hostile").await;
    database.fill_with_hostile_content().await;
    database
}

/// A little of each kind, so that damage can be tried at every byte.
async fn small_database() -> Database {
    let database = Server::major(17).fresh_database("small").await;
    database
        .sql(
            "CREATE TABLE words (id integer, word text); INSERT INTO words VALUES (1, 'a'), (2, NULL), (3, ''); \
             CREATE TABLE none (); CREATE SEQUENCE numbers; SELECT lo_from_bytea(17, 'ab'), lo_from_bytea(18, '')",
        )
        .await;
    database
}

/// Name -> (count, bytes, last 128 bits of the sum), large objects under "".
type Sums = BTreeMap<String, (u64, u64, String)>;

fn sums(proof: &Proof) -> Sums {
    let tables = proof.tables.iter().map(|table| (format!("{}.{}", table.schema, table.table), &table.set));
    let all = tables.chain([(String::new(), &proof.large_objects)]);
    all.map(|(name, set)| (name, (set.count, set.bytes, set.sum[32..].to_owned()))).collect()
}

/// As [`sums`], with the partitions of a root together: an enum's hash differs from server to server.
fn sums_by_root(proof: &Proof) -> BTreeMap<(String, String), SetProof> {
    let mut sums: BTreeMap<_, SetSum> = BTreeMap::new();
    for table in &proof.tables {
        let name = table.root.clone().unwrap_or((table.schema.clone(), table.table.clone()));
        sums.entry(name).or_default().add_sum(&table.set.sum().unwrap());
    }
    sums.insert(("".into(), "".into()), proof.large_objects.sum().unwrap());
    sums.into_iter().map(|(name, sum)| (name, sum.proof())).collect()
}

/// What the independent reader says of an archive.
fn sums_of_independent_reader(archive: &[u8]) -> Option<Sums> {
    let mut python = Command::new("python3");
    python.arg(independent_reader()?).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = python.spawn().expect("running python3");
    python.stdin.take().unwrap().write_all(archive).unwrap();
    let done = python.wait_with_output().unwrap();
    assert!(done.status.success());
    let mut sums = Sums::new();
    let mut large_objects = (0, 0, 0u128);
    for line in String::from_utf8(done.stdout).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let Some(data) = line.get("data") else { continue };
        let number = |key: &str| data[key].as_u64().unwrap();
        let hash = data["hash"].as_str().unwrap();
        if data.get("blobs").is_some() {
            large_objects.0 += number("blobs");
            large_objects.1 += number("bytes");
            large_objects.2 = large_objects.2.wrapping_add(u128::from_str_radix(hash, 16).unwrap());
        } else {
            let name = data["name"].as_str().unwrap().to_owned();
            sums.insert(name, (number("rows"), number("bytes"), hash.to_owned()));
        }
    }
    sums.insert(String::new(), (large_objects.0, large_objects.1, format!("{:032x}", large_objects.2)));
    Some(sums)
}

#[tokio::test]
async fn every_pg_dump_of_every_server_is_read_as_the_independent_reader_does() {
    let mut of_all = Vec::new();
    for server in MAJORS {
        let database = hostile_database(server).await;
        let clients = CLIENT_MAJORS.into_iter().filter(|client| *client >= server);
        for client in clients.filter(|client| has_clients(*client)) {
            let archive = database.dump(client, &[]);
            let read = read(&archive).unwrap();
            let ours = sums(&read.proof);
            if let Some(theirs) = sums_of_independent_reader(&archive) {
                assert_eq!(ours, theirs, "pg_dump {client} of server {server}");
            }
            assert_eq!(read.bytes, archive.len() as u64);
            assert!(read.header.pg_dump_version.starts_with(&client.to_string()), "{:?}", read.header);
            assert!(read.header.server_version.starts_with(&server.to_string()), "{:?}", read.header);
            assert_eq!(read.header.minor, [14, 14, 14, 15, 16, 16][usize::from(client - 13)]);
            of_all.push((client, server, sums_by_root(&read.proof), read.proof.sequences));
        }
    }
    let (_, _, sums, sequences) = &of_all[0];
    for (client, server, other_sums, other_sequences) in &of_all {
        assert_eq!((sums, sequences), (other_sums, other_sequences), "pg_dump {client} of server {server}");
    }
}

#[tokio::test]
async fn the_counts_of_the_proof_are_those_of_the_tables() {
    let database = hostile_database(16).await;
    let proof = read(&database.dump(16, &[])).unwrap().proof;
    assert_eq!(proof.tables.len(), 16);
    for table in &proof.tables {
        let count = format!("SELECT count(*) FROM ONLY {}.{}", quote(&table.schema), quote(&table.table));
        assert_eq!(table.set.count.to_string(), database.value(&count).await, "{}", table.table);
    }
    let objects = database.value("SELECT count(*) FROM pg_largeobject_metadata").await;
    assert_eq!(proof.large_objects.count.to_string(), objects);
    let bytes = database.value("SELECT sum(length(lo_get(oid))) FROM pg_largeobject_metadata").await;
    assert_eq!(proof.large_objects.bytes.to_string(), bytes);
}

#[tokio::test]
async fn names_columns_and_roots_are_those_of_the_database() {
    for (server, client) in [(16, 16), (18, 18)] {
        let proof = read(&hostile_database(server).await.dump(client, &[])).unwrap().proof;
        let table = |name: &str| proof.tables.iter().find(|table| table.table == name).unwrap();
        let odd = table("tab \"le\", (x) FROM");
        assert_eq!(
            (odd.schema.as_str(), &odd.columns[..]),
            ("Odd Schéma.x", &["c \"o\", l)".to_owned()][..])
        );
        assert_eq!(table("no_columns").columns, [""; 0]);
        assert_eq!(table("dropped_column").columns, ["a", "b"]);
        assert_eq!(table("generated").columns, ["a", "c"]);
        assert_eq!(table("by_mood_0").root, Some(("public".into(), "by_mood".into())));
        assert_eq!(table("parted_2024").root, None);
        assert_eq!(proof.settings["client_encoding"], "UTF8");
        assert_eq!(proof.recomputed, ["public.generated.B b", "public.kept"]);
        let left_out: Vec<_> = proof.left_out.iter().map(|one| (&one.class[..], &one.name[..])).collect();
        assert_eq!(left_out, [("foreign_table", "public.far_away"), ("planner_statistics", "all")]);
        assert_eq!(proof.sequences.len(), 4);
    }
}

#[tokio::test]
async fn rows_that_go_in_by_way_of_the_root_are_the_same_rows() {
    let database = hostile_database(17).await;
    let direct = read(&database.dump(17, &[])).unwrap().proof;
    let by_root = read(&database.dump(17, &["--load-via-partition-root"])).unwrap().proof;
    assert_eq!(sums(&direct), sums(&by_root));
    let roots = |proof: &Proof| proof.tables.iter().filter(|table| table.root.is_some()).count();
    assert_eq!((roots(&direct), roots(&by_root)), (2, 5));
}

#[tokio::test]
async fn what_a_dump_leaves_out_is_told() {
    let database = hostile_database(17).await;
    let arguments = ["--exclude-table-data=doubled", "--no-unlogged-table-data"];
    let proof = read(&database.dump(17, &arguments)).unwrap().proof;
    let left_out: Vec<_> = proof.left_out.iter().map(|one| format!("{} {}", one.class, one.name)).collect();
    assert_eq!(proof.tables.len(), 14);
    for expected in ["table_data public.doubled", "unlogged_table public.unlogged"] {
        assert!(left_out.iter().any(|one| one == expected), "{left_out:?}");
    }
}

#[tokio::test]
async fn another_order_of_rows_is_the_same_proof_and_another_row_is_not() {
    let database = hostile_database(17).await;
    let proof = |more: &[&str]| read(&database.dump(17, more)).unwrap().proof;
    let first = proof(&[]);
    database.sql("UPDATE types SET t_text = t_text WHERE id % 3 = 0").await;
    database.sql("UPDATE doubled SET word = word WHERE ctid = '(0,3)'").await;
    assert_eq!(proof(&[]), first);
    database.sql("UPDATE types SET t_bool = NOT t_bool WHERE id = 7").await;
    let changed = proof(&[]);
    let count = first.tables.iter().zip(&changed.tables).filter(|(one, other)| one != other).count();
    assert_eq!((count, &first.definition_sha256), (1, &changed.definition_sha256));
    database.sql("UPDATE types SET t_bool = NOT t_bool WHERE id = 7; COMMENT ON TABLE doubled IS 'x'").await;
    let commented = proof(&[]);
    assert_eq!(sums(&commented), sums(&first));
    assert_ne!(commented.definition_sha256, first.definition_sha256);
}

#[tokio::test]
async fn a_dump_sent_to_a_file_by_the_shell_has_its_contents_twice_and_is_read() {
    let database = small_database().await;
    let piped = read(&database.dump(18, &[])).unwrap();
    for major in CLIENT_MAJORS.into_iter().filter(|major| *major >= 17 && has_clients(*major)) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut dump = database.client(major, "pg_dump");
        let status = dump.args(["-Fc", "-Z0"]).stdout(file.reopen().unwrap()).status().unwrap();
        assert!(status.success());
        let mut archive = std::fs::read(file.path()).unwrap();
        let redirected = read(&archive).unwrap();
        assert_eq!(redirected.proof, piped.proof);
        assert!(redirected.bytes > piped.bytes, "pg_dump {major} has stopped to append");
        archive.push(0);
        assert_eq!(read(&archive).unwrap_err().kind, Kind::Data);
        file.flush().unwrap();
    }
}

#[tokio::test]
async fn offsets_are_where_pg_dump_would_have_written_them() {
    let database = hostile_database(17).await;
    for major in [17, 18] {
        let mut piped = database.dump(major, &[]);
        let read_first = read(&piped).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump");
        let mut dump = database.client(major, "pg_dump");
        assert!(dump.args(["-Fc", "-Z0", "-f"]).arg(&path).status().unwrap().success());
        let seekable = std::fs::read(&path).unwrap();
        assert_ne!(piped.len(), 0);
        for patch in &read_first.patches {
            piped[patch.at as usize..][..9].copy_from_slice(&patch.bytes());
        }
        let differ = piped.iter().zip(&seekable).enumerate().filter(|(_, (one, other))| one != other);
        assert!(differ.map(|(at, _)| at).all(|at| at < 60), "beyond the header's clock, pg_dump {major}");
        assert_eq!(piped.len(), seekable.len());
        assert_eq!(read(&piped).unwrap(), read_first);
        let last = read_first.patches.last().unwrap();
        piped[last.at as usize + 1] ^= 1;
        assert!(read(&piped).unwrap_err().what.contains("is not where it should be"));
    }
}

#[tokio::test]
async fn what_cannot_be_proven_is_refused() {
    let database = small_database().await;
    let packed = database.client(18, "pg_dump").args(["-Fc"]).output().unwrap().stdout;
    assert_eq!(read(&packed).unwrap_err().kind, Kind::Config);
    let inserts = database.dump(18, &["--inserts"]);
    assert!(read(&inserts).unwrap_err().what.contains("that is not COPY text"));
    let plain = database.client(18, "pg_dump").output().unwrap().stdout;
    assert!(read(&plain).unwrap_err().what.contains("something else than an archive"));
    let mut newer = database.dump(18, &[]);
    newer[6] = 17;
    assert!(read(&newer).unwrap_err().what.contains("its version is 1.17.0"));
    assert_eq!(read(b"").unwrap_err().kind, Kind::Data);
}

#[tokio::test]
async fn a_dump_cut_at_any_byte_is_refused() {
    let database = small_database().await;
    for major in CLIENT_MAJORS.into_iter().filter(|major| *major >= 17 && has_clients(*major)) {
        let archive = database.dump(major, &[]);
        let mut reader = Reader::new();
        for (at, byte) in archive.iter().enumerate() {
            let refused = reader.clone().finish().expect_err("a part was taken for the whole");
            assert_eq!(refused.kind, Kind::Data, "{at}");
            reader.feed(&[*byte]).unwrap();
        }
        assert_eq!(reader.finish().unwrap(), read(&archive).unwrap());
    }
}

#[tokio::test]
async fn a_flipped_bit_never_leaves_the_proof_and_the_contents_as_they_were() {
    let archive = hostile_database(18).await.dump(18, &[]);
    let small = small_database().await.dump(18, &[]);
    let (good, good_small) = (read(&archive).unwrap(), read(&small).unwrap());
    let mut seed = 0x5eed_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut harmless = 0;
    for turn in 0..300 {
        let whole = if turn % 5 == 0 { &archive } else { &small };
        let (at, bit) = (next(whole.len()), next(8));
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << bit;
        let Ok(read) = read(&flipped) else { continue };
        let good = if turn % 5 == 0 { &good } else { &good_small };
        // The header's clock and versions bear on no row.
        let is_header = read.header != good.header;
        let is_same = read.proof == good.proof && read.contents_sha256 == good.contents_sha256;
        harmless += u32::from(is_same);
        assert!(!is_same || is_header || at < 60, "byte {at}, bit {bit}");
    }
    assert!(harmless < 60, "{harmless}");
}

#[tokio::test]
async fn every_cut_of_the_stream_gives_the_same_proof() {
    let archive = small_database().await.dump(18, &[]);
    let whole = read(&archive).unwrap();
    let pieces = prop::collection::vec(1..400usize, 1..200);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let done = runner.run(&pieces, |lengths| {
        let (mut reader, mut rest) = (Reader::new(), &archive[..]);
        for length in lengths.iter().cycle() {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            reader.feed(piece).unwrap();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(&reader.finish().unwrap(), &whole);
        Ok(())
    });
    done.unwrap();
}
