//! Streaming standbys.
//!
//! In:    a running server.
//! Out:   a hot standby of it, on its own port.
//! Holds: made by `pg_basebackup`, streaming, as an operator would.

use std::process::Command;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::server::{PASSWORD, Server, USER, write_owned};
use super::{account, bed};

impl Server {
    /// A hot standby of this server.
    ///
    /// Cost: about 1 s; the shared server's databases are copied too, so prefer one of your own.
    pub fn standby(&self) -> Server {
        self.standby_with(&[])
    }

    /// A hot standby with settings of its own, such as `max_standby_streaming_delay`.
    pub fn standby_with(&self, settings: &[(&str, &str)]) -> Server {
        let guard = Guard::new(&format!("{}s", self.number()));
        // The newest pg_basebackup reads every older server.
        let mut copy = Command::new(bed::client_program(18, "pg_basebackup"));
        copy.current_dir(guard.folder()).env_clear().env("PGPASSWORD", PASSWORD).env("LC_ALL", "C.UTF-8");
        copy.args(["-h", "127.0.0.1", "-p", &self.port().to_string(), "-U", USER]);
        copy.args(["-D", "data", "-X", "stream", "-c", "fast", "--no-sync"]);
        let done = account::lower(&mut copy).output().expect("running pg_basebackup");
        assert!(done.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&done.stderr));
        // Not `-R`: it writes the newest libpq's words, which an older server does not know.
        write_owned(&guard.folder().join("data/standby.signal"), b"");
        let primary = format!("host=127.0.0.1 port={} user={USER} password={PASSWORD}", self.port());
        let mut builder = self.builder().clone().setting("primary_conninfo", &primary);
        for (name, value) in settings {
            builder = builder.setting(name, value);
        }
        builder.start_in(guard)
    }

    /// Waits until this standby has replayed what `primary` has written by now.
    ///
    /// # Panics
    /// After 30 s.
    pub async fn catch_up(&self, primary: &Server) {
        let written = "SELECT pg_current_wal_lsn()::text";
        let written: String =
            primary.connect().await.query_one(written, &[]).await.expect("reading WAL").get(0);
        let replayed = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{written}', false)");
        let (client, start) = (self.connect().await, Instant::now());
        while !client.query_one(&replayed, &[]).await.expect("reading replay").get::<_, bool>(0) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "the standby does not catch up:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
