//! Counts and hashes what passes.
//!
//! In:    a writer or a reader. Out: the same, and how much of what passed through it.
//! Holds: what the inner one did not take or give is not counted.
//! Not here: what the figures are compared with (`manifest`).

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};

/// A writer or reader whose bytes are counted and hashed.
pub struct Tally<T> {
    inner: T,
    sum: Sum,
}

/// Count and hash of bytes.
#[derive(Clone, Default)]
pub struct Sum {
    bytes: u64,
    sha256: Sha256,
}

impl Sum {
    /// Adds what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
    }

    /// How many bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of all, hex.
    pub fn sha256(self) -> String {
        self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl<T> Tally<T> {
    /// Counts from here on.
    pub fn new(inner: T) -> Self {
        Tally { inner, sum: Sum::default() }
    }

    /// What it counted, and what it counted for.
    pub fn finish(self) -> (T, Sum) {
        (self.inner, self.sum)
    }
}

impl<T: Write> Write for Tally<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.sum.add(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Tally<T> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let given = self.inner.read(bytes)?;
        self.sum.add(&bytes[..given]);
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1

    #[test]
    fn what_is_written_and_what_is_read_has_the_same_sum() {
        let mut written = Tally::new(Vec::new());
        written.write_all(b"a").unwrap();
        written.write_all(b"bc").unwrap();
        let (bytes, sum) = written.finish();
        assert_eq!((bytes.as_slice(), sum.bytes(), sum.sha256().as_str()), (&b"abc"[..], 3, ABC));
        let mut read = Tally::new(bytes.as_slice());
        io::copy(&mut read, &mut io::sink()).unwrap();
        let (_, sum) = read.finish();
        assert_eq!((sum.bytes(), sum.sha256().as_str()), (3, ABC));
    }
}
