//! Archives made by hand: what pg_dump never writes must be refused.

use super::{Read, Reader};
use crate::error::{Failure, Kind};

/// Writes an archive field by field.
#[derive(Clone, Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn new(minor: u8, entries: i64) -> Archive {
        let mut archive = Archive(b"PGDMP\x01".to_vec());
        archive.bytes(&[minor, 0, 4, 8, 1]);
        if minor >= 15 {
            archive.bytes(&[0])
        } else {
            archive.int(0)
        }
        [59, 58, 23, 31, 11, 126, 0].iter().for_each(|field| archive.int(*field));
        ["hr", "17.10", "17.10"].iter().for_each(|text| archive.text(text));
        archive.int(entries);
        archive
    }

    /// One table `words`, its entry number 7.
    fn of_words() -> Archive {
        let mut archive = Archive::new(16, 1);
        archive.entry(7, "TABLE DATA", "words", 1);
        archive
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn int(&mut self, number: i64) {
        self.bytes(&[u8::from(number < 0)]);
        self.bytes(&(number.unsigned_abs() as u32).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.int(text.len() as i64);
        self.bytes(text.as_bytes());
    }

    fn null(&mut self) {
        self.int(-1);
    }

    /// An entry of version 1.16; `flag` 1 has data, 3 has none.
    fn entry(&mut self, id: i64, desc: &str, tag: &str, flag: u8) {
        self.int(id);
        self.int(i64::from(flag != 3));
        ["0", "0", tag, desc].iter().for_each(|text| self.text(text));
        self.int(3);
        self.null();
        self.null();
        if desc == "TABLE DATA" {
            self.text(&format!("COPY public.{tag} (a) FROM stdin;\n"))
        } else {
            self.null()
        }
        self.text("public");
        self.null();
        self.null();
        self.int(0);
        self.text("owner");
        self.text("false");
        self.text("3");
        self.null();
        self.bytes(&[flag, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn block(&mut self, kind: u8, id: i64) {
        self.bytes(&[kind]);
        self.int(id);
    }

    fn chunk(&mut self, text: &str) {
        self.text(text);
    }

    /// A block of rows with its end marks.
    fn rows(&mut self, id: i64, rows: &[&str]) {
        self.block(1, id);
        rows.iter().for_each(|row| self.chunk(&format!("{row}\n")));
        self.chunk("\\.\n\n\n");
        self.int(0);
    }

    fn read(&self) -> Result<Read, Failure> {
        let mut reader = Reader::new();
        reader.feed(&self.0)?;
        reader.finish()
    }

    #[track_caller]
    fn is_refused_for(&self, why: &str) {
        let failure = self.read().expect_err("it was accepted");
        assert_eq!(failure.kind, Kind::Data);
        assert!(
            failure.what.starts_with("cannot read the archive: ") && failure.what.contains(why),
            "{failure:?}"
        );
    }
}

/// [`Archive::of_words`], then what `then` adds.
fn words(then: impl FnOnce(&mut Archive)) -> Archive {
    let mut archive = Archive::of_words();
    then(&mut archive);
    archive
}

#[test]
fn rows_are_counted_however_they_are_cut_into_chunks() {
    let rowwise = words(|archive| archive.rows(7, &["a", "", "\\\\."])).read().unwrap();
    let chunks = ["a", "\n", "\n\\\\", ".\n", "\\", ".", "\n", "\n\n"];
    let otherwise = words(|archive| {
        archive.block(1, 7);
        chunks.iter().for_each(|chunk| archive.chunk(chunk));
        archive.int(0);
    });
    let otherwise = otherwise.read().unwrap();
    assert_eq!(rowwise.proof.tables[0].set.count, 3);
    assert_eq!(rowwise.proof, otherwise.proof);
    assert_eq!(rowwise.header.local_time, "2026-12-31 23:58:59");
    assert_eq!((rowwise.entries, rowwise.header.database.as_str()), (1, "hr"));
}

#[test]
fn each_entry_with_data_has_its_one_block_and_no_other_entry_has_one() {
    words(|_| ()).is_refused_for("public.words has no data");
    words(|archive| archive.rows(8, &[])).is_refused_for("a block for number 8, which has no data");
    words(|archive| (0..2).for_each(|_| archive.rows(7, &[])))
        .is_refused_for("a second block of public.words");
    words(|archive| archive.block(3, 7)).is_refused_for("a block of the wrong kind (3)");
    words(|archive| archive.block(2, 7)).is_refused_for("a block of the wrong kind (2)");
    let mut without_data = Archive::new(16, 1);
    without_data.entry(7, "TABLE", "words", 3);
    assert!(without_data.read().is_ok());
    without_data.rows(7, &[]);
    without_data.is_refused_for("a block for number 7, which has no data");
}

#[test]
fn an_entry_that_contradicts_itself_is_refused() {
    let mut twice = Archive::new(16, 2);
    (0..2).for_each(|_| twice.entry(7, "TABLE", "words", 3));
    twice.is_refused_for("two entries with number 7");
    let mut zero = Archive::new(16, 1);
    zero.entry(0, "TABLE", "words", 3);
    zero.is_refused_for("an entry that contradicts itself");
    let mut unknown = Archive::new(16, 1);
    unknown.entry(7, "STATISTICS DATA", "words", 1);
    unknown.is_refused_for("data of an unknown kind");
    let mut negative = Archive::new(16, -1);
    negative.bytes(&[0; 9]);
    negative.is_refused_for("a table of contents of -1 entries");
}

#[test]
fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
    words(|archive| {
        archive.block(1, 7);
        archive.int(-5);
    })
    .is_refused_for("a piece of -5 bytes");
    words(|archive| {
        archive.block(1, 7);
        archive.int((1 << 30) + 1);
    })
    .is_refused_for("a piece of 1073741825 bytes");
    words(|archive| archive.bytes(&[1, 2, 7, 0, 0, 0])).is_refused_for("no number: sign 2");
    words(|archive| {
        archive.block(1, 7);
        archive.bytes(&[1, 0, 0, 0, 0]);
    })
    .is_refused_for("no number: sign 1, 0");
    let mut long_name = Archive::new(16, 1);
    long_name.int(7);
    long_name.int(0);
    long_name.int(1 << 30);
    long_name.is_refused_for("a text of 1073741824 bytes");
}

#[test]
fn rows_end_with_their_end_mark_and_nothing_after_it() {
    let block = |chunks: &[&str]| {
        words(|archive| {
            archive.block(1, 7);
            chunks.iter().for_each(|chunk| archive.chunk(chunk));
            archive.int(0);
        })
    };
    block(&["a\n"]).is_refused_for("rows without their end mark");
    block(&["a\n", "\\.\n"]).is_refused_for("rows without their end mark");
    block(&["a\n", "\\.\n\n\n\n"]).is_refused_for("text after the end mark of rows");
    block(&["\\.\n\n\n", "a\n"]).is_refused_for("text after the end mark of rows");
    assert!(block(&["\\.\n\n\n"]).read().is_ok());
}

#[test]
fn after_an_error_nothing_is_accepted_any_more() {
    let mut reader = Reader::new();
    let broken = words(|archive| archive.rows(8, &[]));
    assert!(reader.feed(&broken.0).is_err());
    assert!(reader.feed(b"").is_ok());
    assert!(reader.feed(&[0]).is_err());
    assert!(reader.finish().is_err());
}

#[test]
fn large_objects_have_their_oids_and_contents_and_one_sum() {
    let objects = |list: &[(i64, &[&str])]| {
        let mut archive = Archive::new(16, 1);
        archive.entry(7, "BLOBS", "BLOBS", 1);
        archive.block(3, 7);
        for (oid, pieces) in list {
            archive.int(*oid);
            pieces.iter().for_each(|piece| archive.chunk(piece));
            archive.int(0);
        }
        archive.int(0);
        archive.read().unwrap().proof.large_objects
    };
    let set = objects(&[(17, &["ab", "c"]), (-294_967_295, &[])]);
    assert_eq!((set.count, set.bytes), (2, 3));
    assert_eq!(set, objects(&[(-294_967_295, &[]), (17, &["abc"])]));
    assert_ne!(set, objects(&[(18, &["abc"]), (-294_967_295, &[])]));
    assert_ne!(set, objects(&[(17, &["abd"]), (-294_967_295, &[])]));
    // python: hashlib.sha256(b"4000000001 0 " + hashlib.sha256(b"").digest()), as a little-endian number
    assert_eq!(
        objects(&[(-294_967_295, &[])]).sum,
        "e0cc6c423e4c7dc541f8720aff441a7c5878e350bd379f6c250f7d527c9c41ee"
    );
}

#[test]
fn a_row_of_any_size_takes_no_memory() {
    let mut archive = words(|archive| {
        archive.block(1, 7);
        archive.int(8 << 20);
    });
    let mut reader = Reader::new();
    reader.feed(&archive.0).unwrap();
    let piece = vec![b'x'; 1 << 16];
    for _ in 0..127 {
        reader.feed(&piece).unwrap();
        assert!(reader.pending.capacity() < 1 << 10, "{}", reader.pending.capacity());
    }
    reader.feed(&piece[1..]).unwrap();
    archive.0.clear();
    archive.bytes(b"\n");
    archive.chunk("\\.\n\n\n");
    archive.int(0);
    reader.feed(&archive.0).unwrap();
    let set = &reader.finish().unwrap().proof.tables[0].set;
    assert_eq!((set.count, set.bytes), (1, (8 << 20) - 1));
}

/// Prints megabytes a second: `cargo test --release --lib archive::tests -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement; needs --release"]
fn how_fast_rows_are_read() {
    for length in [30, 100, 1000] {
        let row = "x".repeat(length);
        let rows = vec![row.as_str(); 200_000_000 / (length + 6)];
        let archive = words(|archive| archive.rows(7, &rows));
        let start = std::time::Instant::now();
        let mut reader = Reader::new();
        archive.0.chunks(1 << 16).for_each(|piece| reader.feed(piece).unwrap());
        reader.finish().unwrap();
        let rate = archive.0.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("rows of {length} bytes: {rate:.0} MB/s");
    }
}
