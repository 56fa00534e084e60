//! Bytes that are kept, and bytes that flow out again, at a pace and with the damage that a fault asks.

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;
use tempfile::{NamedTempFile, TempPath};

/// Bytes handed to the socket at a time.
const CHUNK: usize = 64 * 1024;

/// A stretch of bytes that is kept.
#[derive(Clone)]
pub enum Piece {
    /// In memory.
    Memory(Bytes),
    /// On disk: from `offset`, `length` bytes.
    Disk { path: Arc<TempPath>, offset: u64, length: u64 },
    /// Not kept; only its length is known.
    Lost { length: u64 },
}

impl Piece {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Memory(bytes) => bytes.len() as u64,
            Piece::Disk { length, .. } | Piece::Lost { length } => *length,
        }
    }

    /// The part of it from `start`, `length` bytes or up to its end.
    fn slice(&self, start: u64, length: u64) -> Piece {
        let length = length.min(self.length() - start);
        match self {
            Piece::Memory(bytes) => Piece::Memory(bytes.slice(start as usize..(start + length) as usize)),
            Piece::Disk { path, offset, .. } => {
                Piece::Disk { path: Arc::clone(path), offset: offset + start, length }
            }
            Piece::Lost { .. } => Piece::Lost { length },
        }
    }

    /// Its first bytes, and the rest.
    fn split(self) -> (Bytes, Option<Piece>) {
        let size = self.length().min(CHUNK as u64);
        let rest = (self.length() > size).then(|| self.slice(size, u64::MAX));
        let bytes = match &self {
            Piece::Memory(bytes) => bytes.slice(..size as usize),
            Piece::Disk { path, offset, .. } => read_at(path, *offset, size as usize),
            Piece::Lost { .. } => panic!("the stand-in was told not to keep bodies"),
        };
        (bytes, rest)
    }
}

fn read_at(path: &TempPath, offset: u64, size: usize) -> Bytes {
    let mut file = File::open(path).expect("opening a kept body");
    file.seek(SeekFrom::Start(offset)).expect("seeking in a kept body");
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).expect("reading a kept body");
    Bytes::from(bytes)
}

/// `range` of a chain of pieces.
pub fn slice(pieces: &[Piece], start: u64, length: u64) -> Vec<Piece> {
    let (mut skip, mut left) = (start, length);
    let mut found = Vec::new();
    for piece in pieces {
        if skip >= piece.length() {
            skip -= piece.length();
            continue;
        }
        if left == 0 {
            break;
        }
        let part = piece.slice(skip, left);
        (skip, left) = (0, left - part.length());
        found.push(part);
    }
    found
}

/// Everything of a chain of pieces.
pub fn collect(pieces: &[Piece]) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        let mut next = Some(piece.clone()).filter(|piece| piece.length() > 0);
        while let Some(piece) = next {
            let (bytes, rest) = piece.split();
            all.extend_from_slice(&bytes);
            next = rest;
        }
    }
    all
}

/// Takes bytes as they come and keeps them, or only counts them.
pub struct Keeper {
    file: Option<NamedTempFile>,
    length: u64,
}

impl Keeper {
    /// One that keeps, or does not.
    pub fn new(keeps: bool) -> Keeper {
        let file = keeps.then(|| NamedTempFile::new().expect("a file for a body"));
        Keeper { file, length: 0 }
    }

    /// The next bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Some(file) = &mut self.file {
            file.write_all(bytes).expect("keeping a body");
        }
    }

    /// What was kept.
    pub fn piece(self) -> Piece {
        match self.file {
            None => Piece::Lost { length: self.length },
            Some(file) => {
                Piece::Disk { path: Arc::new(file.into_temp_path()), offset: 0, length: self.length }
            }
        }
    }
}

/// The body of an answer on its way out.
#[derive(Default)]
pub struct Outflow {
    pieces: VecDeque<Piece>,
    sent: u64,
    /// What Content-Length says; the bytes' own length when None.
    pub declared: Option<u64>,
    /// Position of a byte that is inverted.
    pub flip: Option<u64>,
    /// The connection breaks after so many bytes.
    pub cut_at: Option<u64>,
    /// Bytes a second.
    pub pace: Option<u64>,
}

impl Outflow {
    /// A text.
    pub fn text(text: String) -> Outflow {
        Outflow::of(vec![Piece::Memory(Bytes::from(text))])
    }

    /// A chain of pieces.
    pub fn of(pieces: Vec<Piece>) -> Outflow {
        Outflow { pieces: pieces.into(), ..Outflow::default() }
    }

    /// What Content-Length says.
    pub fn length(&self) -> u64 {
        self.declared.unwrap_or_else(|| self.own_length())
    }

    /// How many bytes there are.
    pub fn own_length(&self) -> u64 {
        self.pieces.iter().map(Piece::length).sum()
    }

    /// As hyper wants it. More bytes declared than there are: zeros follow.
    pub fn into_body(mut self) -> UnsyncBoxBody<Bytes, std::io::Error> {
        let missing = self.length().saturating_sub(self.own_length());
        if missing > 0 {
            self.pieces.push_back(Piece::Memory(Bytes::from(vec![0; missing as usize])));
        }
        let stream = futures_util::stream::unfold(Some(self), |flow| async move {
            let mut flow = flow?;
            match flow.next().await? {
                Ok(bytes) => Some((Ok(Frame::data(bytes)), Some(flow))),
                Err(error) => Some((Err(error), None)),
            }
        });
        StreamBody::new(stream).boxed_unsync()
    }

    async fn next(&mut self) -> Option<std::io::Result<Bytes>> {
        if self.cut_at.is_some_and(|at| self.sent >= at) {
            // What was sent so far is to arrive before the connection breaks.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Some(Err(std::io::Error::other("a fault cuts the body here")));
        }
        let most = self.step().await;
        let piece = self.pieces.pop_front().filter(|piece| piece.length() > 0)?;
        if piece.length() > most {
            self.pieces.push_front(piece.slice(most, u64::MAX));
        }
        let (bytes, rest) = piece.slice(0, most).split();
        if let Some(rest) = rest {
            self.pieces.push_front(rest);
        }
        let bytes = self.flipped(bytes);
        self.sent += bytes.len() as u64;
        Some(Ok(bytes))
    }

    /// Waits as the pace asks; how many bytes may go now.
    async fn step(&self) -> u64 {
        let left = self.cut_at.map_or(u64::MAX, |at| at - self.sent);
        let Some(pace) = self.pace else { return left };
        tokio::time::sleep(Duration::from_millis(if pace < 20 { 1000 / pace.max(1) } else { 50 })).await;
        left.min((pace / 20).max(1))
    }

    fn flipped(&self, bytes: Bytes) -> Bytes {
        let here = self.sent..self.sent + bytes.len() as u64;
        match self.flip.filter(|at| here.contains(at)) {
            None => bytes,
            Some(at) => {
                let mut bytes = bytes.to_vec();
                bytes[(at - self.sent) as usize] ^= 0xff;
                Bytes::from(bytes)
            }
        }
    }
}
