//! The archive from its first byte to its last.
//!
//! In:    pieces of the stream, of any size.
//! Out:   [`Read`], when all of it was there.
//! Holds: what is not whole is refused: the format has no trailer, so a stream that ends between two
//!        blocks is accepted only when no entry is without its block.
//! Not here: fields (`wire`), entries (`contents`), rows (`rows`).

use super::blocks::{Block, Held};
use super::contents::{Contents, DataEntry, DataKind, Entry};
use super::header::Header;
use super::wire::{Cursor, OFFSET_SET, Parsed, Stop, bad};
use super::{Patch, Read};
use crate::backup::proof::{self, Proof, SetProof, SetSum, TableProof};
use crate::error::Failure;
use crate::pg::copy::hex;
use sha2::{Digest, Sha256};

const HINT: &str = "It is damaged or cut, and nothing of it can be trusted.";
const MAX_ENTRIES: i64 = 1 << 28;
/// A spare buffer larger than this is given back.
const SPARE_BYTES: usize = 1 << 20;

/// Reads one archive.
///
/// Cost: 32 bytes for each entry without data, its name and columns for each with; hashing of every
/// row, which takes most of the time.
#[derive(Clone)]
pub struct Reader {
    state: State,
    /// Bytes of the archive behind us.
    position: u64,
    /// The beginning of a field or an entry that is not all there.
    pub(super) pending: Vec<u8>,
    header: Header,
    entries: i64,
    contents: Contents,
    contents_sha256: Sha256,
    /// Per data entry: where its block is, and what it held.
    blocks: Vec<Option<(u64, Option<SetProof>)>>,
    large_objects: SetSum,
}

#[derive(Clone)]
enum State {
    Header,
    Count,
    Entries {
        left: i64,
    },
    /// Between blocks; the archive may end here.
    Between,
    Inside(Block),
    /// A second table of contents, as `pg_dump -Fc > file` of 16 and newer appends it.
    Again {
        left: i64,
        sha256: Sha256,
    },
    End,
    Failed,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}

impl Reader {
    /// A reader at the first byte.
    pub fn new() -> Self {
        Reader {
            state: State::Header,
            position: 0,
            pending: Vec::new(),
            header: Header::default(),
            entries: 0,
            contents: Contents::default(),
            contents_sha256: Sha256::new(),
            blocks: Vec::new(),
            large_objects: SetSum::default(),
        }
    }

    /// Takes the next piece of the archive. Blocking work: about a second per gigabyte.
    ///
    /// # Errors
    /// 65 if it is damaged, or of a version that is not known; 78 if it is compressed. After an error
    /// no further byte is taken, and [`Reader::finish`] fails.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.pending.is_empty() {
            let used = self.consume(piece)?;
            self.pending.extend_from_slice(&piece[used..]);
            return Ok(());
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(piece);
        let used = self.consume(&joined)?;
        joined.drain(..used);
        if joined.len() < SPARE_BYTES {
            joined.shrink_to(SPARE_BYTES);
        }
        self.pending = joined;
        Ok(())
    }

    /// What the archive held, after its last byte.
    ///
    /// # Errors
    /// 65 if it was cut, or an entry has no block.
    pub fn finish(self) -> Result<Read, Failure> {
        match self.state {
            State::Between | State::End if self.pending.is_empty() => {}
            State::Failed => return Err(Failure::data("cannot read the archive: it is damaged").hint(HINT)),
            _ => return Err(self.cut()),
        }
        let missing: Vec<String> = self.without_block().map(DataEntry::name).collect();
        if let Some(first) = missing.first() {
            let told = format!("{first} and {} more have no data", missing.len() - 1);
            return Err(self.damaged(if missing.len() == 1 { format!("{first} has no data") } else { told }));
        }
        self.accept()
    }

    /// Takes what is whole of `bytes` and returns how much that was.
    fn consume(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let mut used = 0;
        while used < bytes.len() {
            match self.step(&bytes[used..]) {
                Ok(0) | Err(Stop::Short) => break,
                Ok(taken) => {
                    used += taken;
                    self.position += taken as u64;
                }
                Err(stop) => {
                    self.state = State::Failed;
                    return Err(match stop {
                        Stop::Refused(failure) => failure,
                        Stop::Bad(what) => self.damaged(what),
                        Stop::Short => self.cut(),
                    });
                }
            }
        }
        Ok(used)
    }

    /// Reads one thing at the start of `bytes`: its length.
    fn step(&mut self, bytes: &[u8]) -> Parsed<usize> {
        let mut cursor = Cursor::new(bytes);
        match &mut self.state {
            State::Header => {
                self.header = Header::read(&mut cursor)?;
                self.state = State::Count;
            }
            State::Count => {
                self.entries = count(&mut cursor)?;
                self.state =
                    if self.entries == 0 { State::Between } else { State::Entries { left: self.entries } };
            }
            State::Entries { left } => {
                let entry = Entry::read(&mut cursor, &self.header)?;
                self.contents_sha256.update(&bytes[..entry.offset_at]);
                self.contents.add(&entry, self.position)?;
                *left -= 1;
                if *left == 0 {
                    self.blocks = vec![None; self.contents.data.len()];
                    self.state = State::Between;
                }
            }
            State::Between => self.between(&mut cursor)?,
            State::Inside(block) => {
                let (taken, has_ended) = block.feed(bytes)?;
                if has_ended {
                    self.end_block()?;
                }
                return Ok(taken);
            }
            State::Again { .. } => self.again(&mut cursor, bytes)?,
            State::End => return bad("something after the end"),
            State::Failed => return bad("damage further up"),
        }
        Ok(cursor.used())
    }

    /// A block begins, or the table of contents comes again.
    fn between(&mut self, cursor: &mut Cursor) -> Parsed<()> {
        // A block's kind is never 0; a count is never negative.
        if cursor.peek()? == 0 && self.without_block().next().is_none() {
            if count(cursor)? != self.entries {
                return bad("another table of contents");
            }
            let left = self.entries;
            self.state = if left == 0 { State::End } else { State::Again { left, sha256: Sha256::new() } };
            return Ok(());
        }
        let (kind, id) = (cursor.byte()?, cursor.int()?);
        let Some(&nth) = self.contents.by_id.get(&id) else {
            return bad(format!("a block for number {id}, which has no data"));
        };
        let entry = &self.contents.data[nth];
        if self.blocks[nth].is_some() {
            return bad(format!("a second block of {}", entry.name()));
        }
        if entry.said.is_some_and(|said| said != self.position) {
            return bad(format!("the data of {} is not where it should be", entry.name()));
        }
        self.state = State::Inside(Block::begin(nth, &entry.kind, kind)?);
        self.blocks[nth] = Some((self.position, None));
        Ok(())
    }

    fn end_block(&mut self) -> Parsed<()> {
        if let State::Inside(block) = std::mem::replace(&mut self.state, State::Between) {
            let nth = block.entry;
            match (block.end()?, &mut self.blocks[nth]) {
                (Held::Rows(set), Some((_, held))) => *held = Some(set),
                (Held::Rows(_), None) => return bad("a block that never began"),
                (Held::LargeObjects(set), _) => self.large_objects.add_sum(&set),
            }
        }
        Ok(())
    }

    /// One entry of the second table of contents: as the first, but for the offsets, which are right.
    fn again(&mut self, cursor: &mut Cursor, bytes: &[u8]) -> Parsed<()> {
        let entry = Entry::read(cursor, &self.header)?;
        let block = self.contents.by_id.get(&entry.id).and_then(|nth| self.blocks[*nth].as_ref());
        let place = block.map_or(0, |(at, _)| *at);
        if entry.flag == OFFSET_SET && entry.offset != place {
            return bad(format!("a wrong offset (entry {})", entry.id));
        }
        if let State::Again { left, sha256 } = &mut self.state {
            sha256.update(&bytes[..entry.offset_at]);
            *left -= 1;
            if *left == 0 {
                if sha256.clone().finalize() != self.contents_sha256.clone().finalize() {
                    return bad("another table of contents");
                }
                self.state = State::End;
            }
        }
        Ok(())
    }

    fn without_block(&self) -> impl Iterator<Item = &DataEntry> {
        self.contents
            .data
            .iter()
            .zip(&self.blocks)
            .filter(|(_, block)| block.is_none())
            .map(|(entry, _)| entry)
    }

    fn accept(mut self) -> Result<Read, Failure> {
        let (definition_sha256, definitions) = self.contents.definitions();
        let left_out = self.contents.left_out();
        let patches = self.contents.data.iter().zip(&self.blocks);
        let patches = patches
            .filter_map(|(entry, block)| Some(Patch { at: entry.offset_at, offset: block.as_ref()?.0 }));
        let patches = patches.collect();
        let sets = self.blocks.into_iter().map(|block| block.and_then(|(_, set)| set).unwrap_or_default());
        let tables =
            self.contents.data.into_iter().zip(sets).filter_map(|(entry, set)| table(entry.kind, set));
        let client_encoding = self.contents.client_encoding;
        let proof = Proof {
            schema: proof::SCHEMA,
            database: self.header.database.clone(),
            settings: client_encoding
                .map(|encoding| ("client_encoding".into(), encoding))
                .into_iter()
                .collect(),
            tables: tables.collect(),
            large_objects: self.large_objects.proof(),
            sequences: self.contents.sequences,
            definition_sha256,
            definitions,
            left_out,
            recomputed: self.contents.recomputed,
        };
        Ok(Read {
            proof,
            header: self.header,
            entries: self.entries as u64,
            bytes: self.position,
            contents_sha256: hex(&self.contents_sha256.finalize()),
            patches,
        })
    }

    fn damaged(&self, what: String) -> Failure {
        Failure::data(format!("cannot read the archive: {what}, at byte {}", self.position)).hint(HINT)
    }

    fn cut(&self) -> Failure {
        let place = match &self.state {
            State::Header => "in its header".to_owned(),
            State::Count | State::Entries { .. } => "in its table of contents".to_owned(),
            State::Inside(block) => format!("in the data of {}", self.contents.data[block.entry].name()),
            _ => "between two blocks".to_owned(),
        };
        let at = self.position + self.pending.len() as u64;
        Failure::data(format!("cannot read the archive: it ends at byte {at}, {place}")).hint(HINT)
    }
}

fn count(cursor: &mut Cursor) -> Parsed<i64> {
    match cursor.int()? {
        count @ 0..MAX_ENTRIES => Ok(count),
        count => bad(format!("a table of contents of {count} entries")),
    }
}

fn table(kind: DataKind, set: SetProof) -> Option<TableProof> {
    let DataKind::Rows { schema, table, target } = kind else { return None };
    let is_root = (&target.schema, &target.table) != (&schema, &table);
    let root = is_root.then_some((target.schema, target.table));
    Some(TableProof { schema, table, columns: target.columns, root, set })
}
