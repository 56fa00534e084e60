//! The bytes of one object, in order, fetched in ranges side by side.
//!
//! In:    a version in a store.
//! Out:   a blocking reader for the threads that decrypt; how long it waited for the store.
//! Holds: it ends with the last byte of the version or with an error, never early; memory is
//!        `AT_ONCE` ranges and a few more in the queue, whatever the length.
//! Not here: retries and resuming (`store`), what the bytes are (`verify`).

use crate::store::{Store, Version};
use anyhow::{Result, anyhow};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of one range: long enough that a round trip does not count.
const RANGE: u64 = 4 << 20;

/// Ranges on their way at the same time. One connection to a bucket seldom fills a link.
const AT_ONCE: usize = 4;

/// A version's bytes as they come; dropped, the transfer ends.
pub struct Incoming {
    queue: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    waited: Duration,
    failed: Option<anyhow::Error>,
    task: JoinHandle<()>,
}

impl Incoming {
    /// Starts fetching, in a task of its own.
    pub fn start(store: Arc<dyn Store>, version: Version) -> Incoming {
        let (sender, queue) = mpsc::channel(AT_ONCE);
        let task = tokio::spawn(feed(store, version, sender));
        Incoming { queue, current: Bytes::new(), waited: Duration::ZERO, failed: None, task }
    }

    /// How long the reader stood still for want of bytes.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Why the transfer broke, if it did: its failure says more than the reader's error can.
    pub fn take_failure(&mut self) -> Option<anyhow::Error> {
        self.failed.take()
    }

    fn next(&mut self) -> io::Result<Bytes> {
        let start = Instant::now();
        let next = self.queue.blocking_recv();
        self.waited += start.elapsed();
        match next {
            None => Ok(Bytes::new()),
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => {
                self.failed = Some(error);
                Err(io::Error::other("the transfer broke"))
            }
        }
    }
}

impl Read for Incoming {
    /// Blocks; never in a task.
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            self.current = self.next()?;
            if self.current.is_empty() {
                return Ok(0);
            }
        }
        let count = to.len().min(self.current.len());
        self.current.copy_to_slice(&mut to[..count]);
        Ok(count)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn feed(store: Arc<dyn Store>, version: Version, to: mpsc::Sender<Result<Bytes>>) {
    let (store, version) = (&store, &version);
    let ranges = futures_util::stream::iter(ranges(version.bytes));
    let mut parts = ranges.map(|range| part(store, version, range)).buffered(AT_ONCE);
    while let Some(part) = parts.next().await {
        let failed = part.is_err();
        for bytes in part.map_or_else(|error| vec![Err(error)], |part| part.into_iter().map(Ok).collect()) {
            if to.send(bytes).await.is_err() {
                return; // nobody reads on
            }
        }
        if failed {
            return;
        }
    }
}

/// All of one range, or an error.
async fn part(store: &Arc<dyn Store>, version: &Version, range: Range<u64>) -> Result<Vec<Bytes>> {
    let expected = range.end - range.start;
    let parts: Vec<Bytes> = store.read(version, range).await?.try_collect().await?;
    let got: u64 = parts.iter().map(|part| part.len() as u64).sum();
    if got != expected {
        return Err(anyhow!(
            "{} gave {got} bytes of {}, where {expected} were asked for",
            store.place(),
            version.name
        ));
    }
    Ok(parts.into_iter().filter(|part| !part.is_empty()).collect())
}

fn ranges(bytes: u64) -> impl Iterator<Item = Range<u64>> {
    (0..bytes.div_ceil(RANGE)).map(move |at| at * RANGE..bytes.min((at + 1) * RANGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_byte_once() {
        for bytes in [0, 1, RANGE - 1, RANGE, RANGE + 1, 10 * RANGE + 7] {
            let mut end = 0;
            for range in ranges(bytes) {
                assert!(range.start == end && range.end > range.start);
                end = range.end;
            }
            assert_eq!(end, bytes);
        }
    }
}
