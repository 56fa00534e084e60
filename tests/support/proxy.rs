//! A network between Sankofa and a server that breaks where a test says.
//!
//! In:    a server's port; rules: at which message, or byte, what happens.
//! Out:   a port to connect to; the list of messages that passed.
//! Holds: it understands the messages of protocol 3 in both directions (not inside TLS), so that
//!        a test can count those of a clean load and then cut at every one of them.
//! Not here: errors that the server itself reports; a test makes those with real sessions.

use std::fmt;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, watch};

use super::frames::{Direction, Frame, Splitter, Talk};

/// What happens to the connection when a rule is met.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// Both sides see the connection closed; new connections are served.
    Cut,
    /// As [`Deed::Cut`], and every other connection too; new ones are closed at once.
    Down,
    /// Nothing passes any more on any connection, and nobody is told: a lost network.
    Freeze,
    /// From now on this connection passes `bytes` at a time, with a pause after each.
    Trickle {
        /// Bytes at a time.
        bytes: usize,
        /// Pause after each piece.
        pause: Duration,
    },
}

/// When a [`Deed`] is done. It is done once.
#[derive(Clone, Debug)]
pub struct Rule {
    at: At,
    connection: Option<usize>,
    nth: usize,
    is_forwarded: bool,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum At {
    Index(usize),
    Message { direction: Direction, kind: char, text: Option<String> },
    Byte { direction: Direction, count: usize },
}

impl Rule {
    /// At a message of `kind` (see [`Frame::kind`]), such as `FromServer`, `'C'`: CommandComplete.
    pub fn on(direction: Direction, kind: char) -> Rule {
        Rule::new(At::Message { direction, kind, text: None })
    }

    /// At the message with this number in [`Proxy::messages_seen`], counted from 0.
    pub fn at(index: usize) -> Rule {
        Rule::new(At::Index(index))
    }

    /// When `count` bytes have passed in `direction`, on all connections together.
    pub fn after_bytes(direction: Direction, count: usize) -> Rule {
        Rule::new(At::Byte { direction, count })
    }

    fn new(at: At) -> Rule {
        Rule { at, connection: None, nth: 1, is_forwarded: true, deed: Deed::Cut }
    }

    /// Only messages whose text (SQL, command tag, SQLSTATE) contains `part`.
    #[must_use]
    pub fn containing(mut self, part: &str) -> Rule {
        if let At::Message { text, .. } = &mut self.at {
            *text = Some(part.to_owned());
        }
        self
    }

    /// The nth such message, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: usize) -> Rule {
        self.nth = nth;
        self
    }

    /// Only on the connection with this number, counted from 0.
    #[must_use]
    pub fn connection(mut self, number: usize) -> Rule {
        self.connection = Some(number);
        self
    }

    /// Does `deed` instead of passing the message on: a lost answer, when it is the server's.
    #[must_use]
    pub fn before(mut self, deed: Deed) -> Rule {
        (self.deed, self.is_forwarded) = (deed, false);
        self
    }

    /// Does `deed` once the message, or the byte, has been passed on.
    #[must_use]
    pub fn after(mut self, deed: Deed) -> Rule {
        (self.deed, self.is_forwarded) = (deed, true);
        self
    }

    /// How many bytes of `frame` pass before the deed; None when this is not the place.
    fn meets(&mut self, seen: &Seen, index: usize, passed: usize) -> Option<usize> {
        if self.connection.is_some_and(|number| number != seen.connection) {
            return None;
        }
        let is_met = match &self.at {
            At::Index(wanted) => index == *wanted,
            At::Byte { direction, count } => {
                let is_met = *direction == seen.direction && passed + seen.length >= *count;
                return is_met.then(|| count.saturating_sub(passed));
            }
            At::Message { direction, kind, text } => {
                let has_text = text.as_ref().is_none_or(|part| seen.text.contains(part));
                *direction == seen.direction && *kind == seen.kind && has_text
            }
        };
        if is_met {
            self.nth -= 1;
        }
        (is_met && self.nth == 0).then_some(if self.is_forwarded { seen.length } else { 0 })
    }
}

/// One message that reached the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Number of its connection, counted from 0.
    pub connection: usize,
    /// Who sent it.
    pub direction: Direction,
    /// See [`Frame::kind`].
    pub kind: char,
    /// See [`Frame::text`].
    pub text: String,
    /// Its bytes.
    pub length: usize,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seen { connection, direction, kind, text, length } = self;
        write!(f, "connection {connection} {direction:?} {kind} {text:?} ({length} bytes)")
    }
}

/// A running proxy; dropped, it closes its connections and ends.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Up,
    Frozen,
    Down,
    Ended,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    traffic: Mutex<Traffic>,
    mode: watch::Sender<Mode>,
    cut: Notify,
    connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct Traffic {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    passed: [usize; 2],
    fired: Vec<Seen>,
}

impl Proxy {
    /// Starts a proxy before 127.0.0.1:`target`, on a thread of its own.
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binding the proxy");
        let port = listener.local_addr().expect("reading its port").port();
        let (traffic, cut) = (Mutex::default(), Notify::new());
        let mode = watch::channel(Mode::Up).0;
        let shared = Arc::new(Shared { target, traffic, mode, cut, connections: AtomicUsize::new(0) });
        let here = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for the proxy").block_on(here.serve(listener));
        });
        Proxy { port, shared, thread: Some(thread) }
    }

    /// Adds a rule while it runs, or before.
    #[must_use]
    pub fn rule(self, rule: Rule) -> Proxy {
        self.add(rule);
        self
    }

    /// As [`Proxy::rule`], later.
    pub fn add(&self, rule: Rule) {
        self.shared.traffic().rules.push(rule);
    }

    /// Takes back the rules that were not met, and forgets what passed.
    pub fn forget(&self) {
        *self.shared.traffic() = Traffic::default();
    }

    /// The port on 127.0.0.1 to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Every message so far, in the order in which they came.
    pub fn messages_seen(&self) -> Vec<Seen> {
        self.shared.traffic().seen.clone()
    }

    /// The messages at which rules were met.
    pub fn fired(&self) -> Vec<Seen> {
        self.shared.traffic().fired.clone()
    }

    /// Closes all connections now; new ones are served.
    pub fn cut(&self) {
        self.shared.cut.notify_waiters();
    }

    /// Lets nothing pass until [`Proxy::up`], without telling anybody.
    pub fn freeze(&self) {
        self.shared.mode.send_replace(Mode::Frozen);
    }

    /// Closes all connections, and new ones at once, until [`Proxy::up`].
    pub fn down(&self) {
        self.shared.down();
    }

    /// Ends [`Proxy::freeze`] and [`Proxy::down`].
    pub fn up(&self) {
        self.shared.mode.send_replace(Mode::Up);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.mode.send_replace(Mode::Ended);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().expect("the proxy's thread is alive")
    }

    fn down(&self) {
        self.mode.send_replace(Mode::Down);
        self.cut.notify_waiters();
    }

    /// Accepts connections until the proxy is dropped; those that are open end with it.
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        listener.set_nonblocking(true).expect("a listener for tokio");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener for tokio");
        let mut mode = self.mode.subscribe();
        let ended = async { mode.wait_for(|mode| *mode == Mode::Ended).await.is_ok() };
        tokio::select! {
            _ = ended => {}
            () = async {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(Link::run(Arc::clone(&self), client));
                }
            } => {}
        }
    }

    /// Waits while the network is frozen.
    async fn passable(&self) {
        let _ = self.mode.subscribe().wait_for(|mode| *mode != Mode::Frozen).await;
    }
}

/// One connection through the proxy.
struct Link {
    shared: Arc<Shared>,
    number: usize,
    cut: Notify,
    pace: Mutex<Option<(usize, Duration)>>,
}

impl Link {
    async fn run(shared: Arc<Shared>, client: TcpStream) {
        shared.passable().await;
        if *shared.mode.borrow() != Mode::Up {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", shared.target)).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let number = shared.connections.fetch_add(1, Relaxed);
        let link = Link { shared, number, cut: Notify::new(), pace: Mutex::default() };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let talk = Arc::new(Talk::default());
        let up = link.pump(from_client, to_server, Splitter::new(Direction::FromClient, Arc::clone(&talk)));
        let down = link.pump(from_server, to_client, Splitter::new(Direction::FromServer, talk));
        // Whichever ends first, the sockets are dropped, and so closed, at the end of this function.
        tokio::select! {
            _ = async { tokio::join!(up, down) } => {}
            () = link.cut.notified() => {}
            () = link.shared.cut.notified() => {}
        }
    }

    /// Passes one direction on until its end; then the other side sees the end too.
    async fn pump(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut splitter: Splitter) {
        let direction = splitter.direction();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match from.read(&mut buffer).await {
                Ok(count) if count > 0 => count,
                _ => break,
            };
            splitter.push(&buffer[..count]);
            while let Some(frame) = splitter.next_frame() {
                if self.pass(direction, &frame, &mut to).await.is_err() {
                    return;
                }
            }
        }
        let _ = to.shutdown().await;
    }

    async fn pass(
        &self,
        direction: Direction,
        frame: &Frame,
        to: &mut OwnedWriteHalf,
    ) -> std::io::Result<()> {
        let Some((count, deed)) = self.judge(direction, frame) else {
            return self.send(&frame.bytes, to).await;
        };
        self.send(&frame.bytes[..count], to).await?;
        match deed {
            Deed::Cut => self.cut.notify_one(),
            Deed::Down => self.shared.down(),
            Deed::Freeze => _ = self.shared.mode.send_replace(Mode::Frozen),
            Deed::Trickle { bytes, pause } => *self.pace.lock().expect("unpoisoned") = Some((bytes, pause)),
        }
        if matches!(deed, Deed::Cut | Deed::Down) {
            std::future::pending::<()>().await; // `run` drops this with the sockets
        }
        self.send(&frame.bytes[count..], to).await
    }

    /// Notes the message; the deed that is due at it, and how many of its bytes pass before.
    fn judge(&self, direction: Direction, frame: &Frame) -> Option<(usize, Deed)> {
        let (kind, text, length) = (frame.kind, frame.text.clone(), frame.bytes.len());
        let seen = Seen { connection: self.number, direction, kind, text, length };
        let mut traffic = self.shared.traffic();
        let (index, passed) = (traffic.seen.len(), traffic.passed[direction as usize]);
        traffic.passed[direction as usize] += length;
        traffic.seen.push(seen.clone());
        let met = |(at, rule): (usize, &mut Rule)| rule.meets(&seen, index, passed).map(|count| (at, count));
        let (at, count) = traffic.rules.iter_mut().enumerate().find_map(met)?;
        let rule = traffic.rules.remove(at);
        traffic.fired.push(seen);
        Some((count.min(length), rule.deed))
    }

    async fn send(&self, bytes: &[u8], to: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.shared.passable().await;
            let pace = *self.pace.lock().expect("unpoisoned");
            let (piece, after) = rest.split_at(pace.map_or(rest.len(), |(bytes, _)| bytes.min(rest.len())));
            to.write_all(piece).await?;
            if let Some((_, pause)) = pace {
                tokio::time::sleep(pause).await;
            }
            rest = after;
        }
        Ok(())
    }
}
