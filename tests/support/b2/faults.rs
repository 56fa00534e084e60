//! What goes wrong, at which call and when.

use serde_json::Value;
use std::time::Duration;

/// What happens to a call that a [`Fault`] meets.
#[derive(Clone, Debug)]
pub enum What {
    /// B2 answers with an error; the request was read, nothing was stored.
    Answer { status: u16, code: String, retry_after: Option<String> },
    /// As [`What::Answer`], but before the request's body is read; the connection is closed on it.
    EarlyAnswer { status: u16, code: String },
    /// Something between us and B2 answers, in HTML.
    NotJson { status: u16 },
    /// The connection is reset before the request's body is read.
    ResetBefore,
    /// The connection is reset when so many bytes of an upload's body have been read.
    ResetWithin(u64),
    /// The connection is reset when the request is read; nothing was stored.
    Reset,
    /// The connection is reset when all was done and stored.
    LostAnswer,
    /// The request's body is not read and nothing is answered, for ever.
    Stall,
    /// All is done and stored, and nothing is answered, for ever.
    StallAfter,
    /// The answer comes late.
    Late(Duration),
    /// The answer's body comes at so many bytes a second.
    Trickle(u64),
    /// The request's body is read at so many bytes a second.
    TrickleIn(u64),
    /// The byte at this place of the answer's body is inverted.
    FlipByte(u64),
    /// The answer has so many bytes more (zeros), or fewer, and says so in Content-Length.
    Resize(i64),
    /// The connection breaks after so many bytes of the answer's body.
    Truncate(u64),
    /// A range is answered by another one, so many bytes further, truthfully labelled.
    ShiftRange(i64),
    /// A range is answered with the whole file and 200.
    IgnoreRange,
    /// The JSON of the answer is changed.
    Edit(fn(&mut Value)),
}

#[derive(Clone, Copy, Debug)]
enum When {
    Every,
    Nth(usize),
    First(usize),
    From(usize),
    EveryNth(usize),
    Chance { percent: u64, state: u64 },
}

/// Something that goes wrong. Made by [`Fault::on`], then when, then what.
#[derive(Clone, Debug)]
pub struct Fault {
    call: String,
    when: When,
    what: What,
    met: usize,
    has_happened: bool,
}

impl Fault {
    /// At every call of this name, such as `b2_upload_part`; `*` is any call. Nothing is wrong yet.
    pub fn on(call: &str) -> Fault {
        let what = What::Late(Duration::ZERO);
        Fault { call: call.to_owned(), when: When::Every, what, met: 0, has_happened: false }
    }

    /// Only at the nth, counted from 1 and from now on.
    #[must_use]
    pub fn nth(self, n: usize) -> Fault {
        Fault { when: When::Nth(n), ..self }
    }

    /// Only at the first n.
    #[must_use]
    pub fn first(self, n: usize) -> Fault {
        Fault { when: When::First(n), ..self }
    }

    /// From the nth on.
    #[must_use]
    pub fn from(self, n: usize) -> Fault {
        Fault { when: When::From(n), ..self }
    }

    /// At each nth.
    #[must_use]
    pub fn every_nth(self, n: usize) -> Fault {
        Fault { when: When::EveryNth(n), ..self }
    }

    /// At so many of a hundred calls, which ones is decided by `seed`.
    #[must_use]
    pub fn chance(self, percent: u64, seed: u64) -> Fault {
        Fault { when: When::Chance { percent, state: seed.wrapping_mul(2) | 1 }, ..self }
    }

    /// Does this.
    #[must_use]
    pub fn does(self, what: What) -> Fault {
        Fault { what, ..self }
    }

    /// Answers with an error.
    #[must_use]
    pub fn answers(self, status: u16, code: &str) -> Fault {
        self.does(What::Answer { status, code: code.to_owned(), retry_after: None })
    }

    /// Answers with an error and a Retry-After.
    #[must_use]
    pub fn answers_later(self, status: u16, code: &str, retry_after: &str) -> Fault {
        let retry_after = Some(retry_after.to_owned());
        self.does(What::Answer { status, code: code.to_owned(), retry_after })
    }

    /// Counts a call; what is to happen to it.
    pub(super) fn meets(&mut self, call: &str) -> Option<What> {
        if self.call != "*" && self.call != call {
            return None;
        }
        self.met += 1;
        let is_met = match &mut self.when {
            When::Every => true,
            When::Nth(n) => self.met == *n,
            When::First(n) => self.met <= *n,
            When::From(n) => self.met >= *n,
            When::EveryNth(n) => self.met.is_multiple_of(*n),
            When::Chance { percent, state } => {
                // Knuth's constants for a generator of this kind; its high bits are the good ones.
                *state =
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (*state >> 33) % 100 < *percent
            }
        };
        self.has_happened |= is_met;
        is_met.then(|| self.what.clone())
    }

    /// Whether a call has met it.
    pub(super) fn has_happened(&self) -> bool {
        self.has_happened
    }
}
