//! gzip on several cores: each MiB is a member of its own.
//!
//! In:    bytes. Out: members one after the other; `gunzip` reads them as one.
//! Holds: members stand in the order of the bytes; at most two a thread wait for their turn.
//! Format: RFC 1952, section 2.2: a file is a series of members.
//! Not here: reading them (`codec::reader`).

use flate2::Compression;
use flate2::write::GzEncoder;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Plain bytes of a member: its head and tail (18 bytes) and its fresh window cost less than 1 %.
const MEMBER: usize = 1 << 20;

/// gzip's own default.
const LEVEL: u32 = 6;

type Packed = io::Result<Vec<u8>>;
type Job = (Vec<u8>, SyncSender<Packed>);

/// Packs what is written to it into gzip members.
pub struct Members<W: Write> {
    out: W,
    member: Vec<u8>,
    jobs: Option<SyncSender<Job>>,
    waiting: VecDeque<Receiver<Packed>>,
    at_most: usize,
    any: bool,
    workers: Vec<JoinHandle<()>>,
}

impl<W: Write> Members<W> {
    /// Packs with `threads` threads into `out`.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn new(threads: u32, out: W) -> io::Result<Self> {
        let at_most = threads as usize * 2;
        let (jobs, todo) = sync_channel::<Job>(at_most);
        let todo = Arc::new(Mutex::new(todo));
        let start = |_| {
            let todo = todo.clone();
            Builder::new().name("gzip".into()).spawn(move || work(&todo))
        };
        let workers = (0..threads).map(start).collect::<io::Result<_>>()?;
        let member = Vec::with_capacity(MEMBER);
        Ok(Members { out, member, jobs: Some(jobs), waiting: VecDeque::new(), at_most, any: false, workers })
    }

    /// Writes what is left and gives back what it was written to.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        if !self.member.is_empty() || !self.any {
            self.pack()?;
        }
        while !self.waiting.is_empty() {
            self.write_first()?;
        }
        drop(self.jobs.take());
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // it has given all that it had
        }
        Ok(self.out)
    }

    /// Gives the member to a thread, once there is room for it.
    fn pack(&mut self) -> io::Result<()> {
        while self.waiting.len() >= self.at_most {
            self.write_first()?;
        }
        let member = std::mem::replace(&mut self.member, Vec::with_capacity(MEMBER));
        let (packed, packing) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send((member, packed)).map_err(|_| gone())?;
        self.waiting.push_back(packing);
        self.any = true;
        Ok(())
    }

    fn write_first(&mut self) -> io::Result<()> {
        match self.waiting.pop_front() {
            Some(first) => self.out.write_all(&first.recv().map_err(|_| gone())??),
            None => Ok(()),
        }
    }
}

impl<W: Write> Write for Members<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(MEMBER - self.member.len());
        self.member.extend_from_slice(&bytes[..taken]);
        if self.member.len() == MEMBER {
            self.pack()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gone() -> io::Error {
    io::Error::other("a packing thread ended early")
}

fn work(todo: &Mutex<Receiver<Job>>) {
    loop {
        let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((plain, packed)) = next else { return };
        let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::new(LEVEL));
        let member = encoder.write_all(&plain).and_then(|()| encoder.finish());
        let _ = packed.send(member); // nobody waits any more: the backup has failed
    }
}
