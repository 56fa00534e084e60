//! The reader of pg_dump's archives against every pg_dump there is, and against an independent reader.

use crate::support::*;
use sankofa::backup::archive::{Read, Reader};
use std::process::Command;

const HOSTILE: &str = include_str!("../fixtures/hostile.sql");

/// What pg_dump writes for a database; runs it as superuser under the settings that backups pin.
fn dump(client: u16, database: &Database, more: &[&str]) -> Vec<u8> {
    let done = client_command(client, "pg_dump", database)
        .args(["-Fc", "-Z0", "-E", "UTF8", "--no-sync"])
        .args(more)
        .output()
        .expect("running pg_dump");
    assert!(done.status.success(), "pg_dump {client}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

fn client_command(client: u16, program: &str, database: &Database) -> Command {
    let mut command = Command::new(client_program(client, program));
    let server = database.server();
    command.arg("-h").arg(server.socket_folder()).args(["-p", &server.port().to_string(), "-U", USER]);
    command.env("PGTZ", "UTC").env("PGOPTIONS", "-c bytea_output=hex -c lc_monetary=C");
    command.args(["-d", database.name()]);
    command
}

fn read(archive: &[u8]) -> Read {
    let mut reader = Reader::new();
    for piece in archive.chunks(1 << 16) {
        reader.feed(piece).unwrap();
    }
    reader.finish().unwrap()
}

async fn hostile_database(major: u16) -> Database {
    let database = Server::major(major).fresh_database("hostile").await;
    database.sql(HOSTILE).await;
    database
}

#[tokio::test]
async fn every_client_reads_as_the_independent_reader_does() {
    for server in [13, 16, 18] {
        let database = hostile_database(server).await;
        for client in [16, 18] {
            if client < server {
                continue;
            }
            let archive = dump(client, &database, &[]);
            std::fs::write(format!("/tmp/hostile-{client}-{server}.pgc"), &archive).unwrap();
            let read = read(&archive);
            eprintln!("{client} {server} {:#?}", read.counts());
            if client == 18 {
                eprintln!(
                    "{:#?}",
                    (read.proof.left_out, read.proof.recomputed, read.proof.sequences, read.header)
                );
            }
        }
    }
}
