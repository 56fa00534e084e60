//! Splits the bytes of a PostgreSQL connection into messages.
//!
//! In:    the bytes of one direction, as they come.
//! Out:   whole messages; after a TLS handshake, pieces of kind `*`.
//! Format: PostgreSQL manual, "Message Formats" (protocol 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use bytes::BytesMut;

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSSENC: u32 = 80_877_104;
const TLS_HANDSHAKE: u8 = 0x16;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client to server.
    FromClient,
    /// Server to client.
    FromServer,
}

/// One message with its bytes.
#[derive(Debug)]
pub struct Frame {
    /// The type byte; `^` startup, `?` request for TLS, `~` its answer, `!` cancel, `*` opaque.
    pub kind: char,
    /// What tells it from others: SQL of `Q` and `P`, the tag of `C`, the SQLSTATE of `E`.
    pub text: String,
    /// All of it.
    pub bytes: BytesMut,
}

/// What the two directions of one connection know of each other.
#[derive(Debug, Default)]
pub struct Talk {
    unanswered: AtomicUsize,
    is_opaque: AtomicBool,
}

/// Splits one direction of one connection.
#[derive(Debug)]
pub struct Splitter {
    direction: Direction,
    talk: Arc<Talk>,
    is_started: bool,
    buffer: BytesMut,
}

impl Splitter {
    /// A splitter for one direction; both directions share `talk`.
    pub fn new(direction: Direction, talk: Arc<Talk>) -> Self {
        let is_started = direction == Direction::FromServer;
        Splitter { direction, talk, is_started, buffer: BytesMut::new() }
    }

    /// Whose bytes these are.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let first = *self.buffer.first()?;
        if !self.is_started && first == TLS_HANDSHAKE {
            self.talk.is_opaque.store(true, Relaxed); // TLS without asking first
        }
        if self.talk.is_opaque.load(Relaxed) {
            return self.take(self.buffer.len(), '*');
        }
        if !self.is_started {
            return self.opening();
        }
        if self.direction == Direction::FromServer && self.talk.unanswered.load(Relaxed) > 0 {
            self.talk.unanswered.fetch_sub(1, Relaxed);
            self.talk.is_opaque.store(matches!(first, b'S' | b'G'), Relaxed);
            return self.take(1, '~');
        }
        let length = self.number_at(1)? as usize;
        let mut frame = self.take(1 + length, first as char)?;
        frame.text = text_of(self.direction, &frame);
        Some(frame)
    }

    /// What a client sends before messages have a type byte.
    fn opening(&mut self) -> Option<Frame> {
        let (length, code) = (self.number_at(0)? as usize, self.number_at(4)?);
        let kind = match code {
            SSL | GSSENC => '?',
            CANCEL => '!',
            _ => '^',
        };
        let frame = self.take(length, kind)?;
        match kind {
            '?' => _ = self.talk.unanswered.fetch_add(1, Relaxed),
            _ => self.is_started = true,
        }
        Some(frame)
    }

    fn number_at(&self, at: usize) -> Option<u32> {
        Some(u32::from_be_bytes(self.buffer.get(at..at + 4)?.try_into().ok()?))
    }

    fn take(&mut self, length: usize, kind: char) -> Option<Frame> {
        if self.buffer.len() < length {
            return None;
        }
        Some(Frame { kind, text: String::new(), bytes: self.buffer.split_to(length) })
    }
}

fn text_of(direction: Direction, frame: &Frame) -> String {
    let body = &frame.bytes[5..];
    let mut strings = body.split(|byte| *byte == 0);
    let text = match (direction, frame.kind) {
        (Direction::FromClient, 'Q') | (Direction::FromServer, 'C') => strings.next(),
        (Direction::FromClient, 'P') => strings.nth(1),
        (Direction::FromServer, 'E') => {
            strings.find(|field| field.first() == Some(&b'C')).map(|field| &field[1..])
        }
        _ => None,
    };
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &(body.len() as u32 + 4).to_be_bytes()[..], body].concat()
    }

    fn opening(code: u32, body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32 + 8).to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    #[test]
    fn bytes_that_come_one_by_one_make_the_same_messages() {
        let mut splitter = Splitter::new(Direction::FromClient, Arc::default());
        let bytes =
            [opening(SSL, b""), opening(196_608, b"user\0a\0\0"), message(b'Q', b"COMMIT\0")].concat();
        let mut seen = Vec::new();
        for byte in bytes {
            splitter.push(&[byte]);
            seen.extend(splitter.next_frame().map(|frame| (frame.kind, frame.text)));
        }
        let expected = [('?', ""), ('^', ""), ('Q', "COMMIT")];
        assert_eq!(seen, expected.map(|(kind, text)| (kind, text.to_owned())));
    }

    #[test]
    fn after_the_server_agreed_to_tls_nothing_is_read_as_messages() {
        let talk = Arc::new(Talk::default());
        let mut client = Splitter::new(Direction::FromClient, Arc::clone(&talk));
        let mut server = Splitter::new(Direction::FromServer, talk);
        client.push(&opening(SSL, b""));
        assert_eq!(client.next_frame().map(|frame| frame.kind), Some('?'));
        server.push(b"S");
        assert_eq!(server.next_frame().map(|frame| frame.kind), Some('~'));
        client.push(&[TLS_HANDSHAKE, 1, 2]);
        assert_eq!(client.next_frame().map(|frame| (frame.kind, frame.bytes.len())), Some(('*', 3)));
    }

    #[test]
    fn an_error_is_named_by_its_sqlstate() {
        let mut splitter = Splitter::new(Direction::FromServer, Arc::default());
        splitter.push(&message(b'E', b"SERROR\0VERROR\0C57P01\0Mgone\0\0"));
        assert_eq!(splitter.next_frame().map(|frame| frame.text).as_deref(), Some("57P01"));
    }
}
