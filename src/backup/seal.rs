//! age encryption: many may open, the machine that seals may not.
//!
//! In:    recipients (`age1...`) or identities (`AGE-SECRET-KEY-1...`), bytes.
//! Out:   an age v1 file (`age -d`), or what is in it.
//! Holds: what is opened is authentic block by block and ends where it was sealed to end: a cut, a
//!        flipped bit or a byte behind the end is an error; no identity in a text.
//! Not here: who sealed it, which age does not say; where identities come from (`secret`).

use crate::error::Failure;
use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use age::{DecryptError, Decryptor, Encryptor};
use secrecy::{ExposeSecret, SecretString};
use std::io::{self, Read, Write};

/// Who can open what is sealed.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<x25519::Recipient>);

impl Recipients {
    /// Reads `age1...` texts.
    ///
    /// # Errors
    /// 78 naming the one that is none; 78 for an empty list.
    pub fn parse(texts: &[String]) -> Result<Self, Failure> {
        if texts.is_empty() {
            return Err(Failure::config("cannot encrypt: no age recipient is given"));
        }
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                Failure::config(format!("cannot encrypt to {text}: it is no age recipient"))
                    .hint("Copy the line `age1...` that `sankofa keygen` or `age-keygen` printed.")
            })
        };
        Ok(Recipients(texts.iter().map(parse).collect::<Result<_, _>>()?))
    }

    /// The same as texts.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

/// Seals what is written, once [`StreamWriter::finish`] is called.
///
/// # Errors
/// Those of `out`.
pub fn seal<W: Write>(recipients: &Recipients, out: W) -> io::Result<StreamWriter<W>> {
    let each = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
    Encryptor::with_recipients(each).map_err(io::Error::other)?.wrap_output(out)
}

/// Keys that open what was sealed. They have no `Debug`.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// Reads an identity file: one `AGE-SECRET-KEY-1...` a line, `#` before comments.
    ///
    /// In: `from`, where it came from, for messages: `variable age_identity`.
    ///
    /// # Errors
    /// 78 naming the line, never its text; 78 when there is none.
    pub fn parse(text: &SecretString, from: &str) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for (line, number) in text.expose_secret().lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            found.push(line.parse().map_err(|_| {
                Failure::config(format!("cannot read {from}: line {number} is no age identity")).hint(
                    "A line of it is `AGE-SECRET-KEY-1...`, as `sankofa keygen` wrote it, or a comment.",
                )
            })?);
        }
        match found.is_empty() {
            true => Err(Failure::config(format!("cannot read {from}: no age identity is in it"))),
            false => Ok(Identities(found)),
        }
    }

    /// Adds those of another place.
    pub fn extend(&mut self, others: Identities) {
        self.0.extend(others.0);
    }

    /// Each of them alone.
    pub fn each(&self) -> Vec<Identities> {
        self.0.iter().map(|identity| Identities(vec![identity.clone()])).collect()
    }

    /// The recipients that they open, as texts.
    pub fn recipients(&self) -> Vec<String> {
        self.0.iter().map(|identity| identity.to_public().to_string()).collect()
    }
}

/// Opens what `input` gives; `what` names it in messages.
///
/// # Errors
/// 77 when none of the identities fits; 65 for something that is no age file or a damaged one; those
/// of `input` are kept below. Reading on gives errors of kind `InvalidData` and `UnexpectedEof`.
pub fn open<R: Read>(identities: &Identities, input: R, what: &str) -> anyhow::Result<StreamReader<R>> {
    let each = || identities.0.iter().map(|identity| identity as &dyn age::Identity);
    let opened = Decryptor::new(input).and_then(|decryptor| decryptor.decrypt(each()));
    opened.map_err(|error| match error {
        DecryptError::Io(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            anyhow::Error::from(error).context(format!("cannot decrypt {what}"))
        }
        DecryptError::NoMatchingKeys => Failure::permission(format!(
            "cannot decrypt {what}: none of the {} identities opens it",
            each().count()
        ))
        .hint(
            "Its manifest lists the recipients that can; `age-keygen -y FILE` tells an identity's recipient.",
        )
        .into(),
        DecryptError::Io(_) => Failure::data(format!("cannot decrypt {what}: it is cut short")).into(),
        other => {
            Failure::data(format!("cannot decrypt {what}: it is damaged or no age file ({other})")).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, classify};

    fn pair() -> (Identities, String) {
        let identity = x25519::Identity::generate();
        let text = format!("# made for a test\n{}\n", identity.to_string().expose_secret());
        (Identities::parse(&text.into(), "a test").unwrap(), identity.to_public().to_string())
    }

    fn sealed(recipients: &[String], plain: &[u8]) -> Vec<u8> {
        let mut writer = seal(&Recipients::parse(recipients).unwrap(), Vec::new()).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn opened(identities: &Identities, sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut plain = Vec::new();
        open(identities, sealed, "the dump")?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn each_of_several_recipients_opens_it_and_another_does_not() {
        let ((one, to_one), (two, to_two), (other, _)) = (pair(), pair(), pair());
        let file = sealed(&[to_one, to_two], b"secret rows");
        assert!(!file.windows(6).any(|part| part == b"secret"));
        assert_eq!(opened(&one, &file).unwrap(), b"secret rows");
        assert_eq!(opened(&two, &file).unwrap(), b"secret rows");
        let mut many = other.clone();
        let failure = classify(&opened(&other, &file).unwrap_err());
        assert_eq!(failure.kind, Kind::Permission);
        assert_eq!(failure.what, "cannot decrypt the dump: none of the 1 identities opens it");
        many.extend(two);
        assert_eq!(opened(&many, &file).unwrap(), b"secret rows", "an additional identity does no harm");
    }

    #[test]
    fn a_cut_at_any_place_is_an_error_even_at_the_border_of_a_block() {
        let (identity, recipient) = pair();
        let file = sealed(&[recipient], &vec![7; 3 * 65_536]);
        let block = 65_536 + 16;
        let head = file.len() - 3 * block;
        for cut in [0, 10, head - 1, head, head + 1, head + block, head + 2 * block, file.len() - 1] {
            assert!(opened(&identity, &file[..cut]).is_err(), "cut at {cut}");
        }
        assert!(opened(&identity, &file).is_ok());
    }

    #[test]
    fn a_byte_behind_the_end_is_an_error_also_behind_a_full_last_block() {
        let (identity, recipient) = pair();
        for bytes in [5, 65_536] {
            let mut file = sealed(std::slice::from_ref(&recipient), &vec![7; bytes]);
            file.push(0);
            assert!(opened(&identity, &file).is_err(), "{bytes} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_at_any_place_is_an_error() {
        let (identity, recipient) = pair();
        let file = sealed(&[recipient], b"rows");
        for at in 0..file.len() {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(opened(&identity, &flipped).is_err(), "bit flipped at {at}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_an_identity_is_not_repeated() {
        let failure = Identities::parse(&"# x\nAGE-SECRET-KEY-1MARK".into(), "variable x").err().unwrap();
        assert_eq!(failure.what, "cannot read variable x: line 2 is no age identity");
        assert!(Identities::parse(&"# only a comment".into(), "x").is_err());
        assert!(Recipients::parse(&["age1qqq".into()]).is_err());
        assert!(Recipients::parse(&[]).is_err());
    }
}
