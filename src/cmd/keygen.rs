//! `sankofa keygen`.

use super::Context;
use crate::error::Failure;
use crate::report::Report;
use age::x25519::Identity;
use anyhow::Context as _;
use jiff::Zoned;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Make an age key pair: the recipient that encrypts, and the identity that opens
///
/// The recipient goes under `encrypt_to:` and is no secret. The identity goes into a file that nobody
/// else can read, as age-keygen writes it; it belongs where backups are restored, not where they are made.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// File for the identity, which must not be there yet; `-` prints it to stdout
    #[arg(long, value_name = "FILE", default_value = "age-identity.txt")]
    pub out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// 2 for a file that is there; 77 for a place that may not be written.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<Report> {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = file_text(&identity, &Zoned::now());
    let mut report = context.report();
    report.extra.insert("recipient".into(), json!(recipient));
    if args.out.as_os_str() == "-" {
        return Ok(report.verbatim(text.expose_secret()));
    }
    let out = args.out.clone();
    tokio::task::spawn_blocking(move || write(&out, &text)).await.context("cannot write the identity")??;
    report.extra.insert("identity_file".into(), json!(args.out.display().to_string()));
    Ok(report.for_person(words(&recipient, &args.out)))
}

/// The file as age-keygen writes it.
fn file_text(identity: &Identity, now: &Zoned) -> SecretString {
    let offset = if now.offset().is_zero() { "Z".to_owned() } else { now.strftime("%:z").to_string() };
    let created = now.strftime("%Y-%m-%dT%H:%M:%S");
    let (public, secret) = (identity.to_public(), identity.to_string());
    SecretString::from(format!(
        "# created: {created}{offset}\n# public key: {public}\n{}\n",
        secret.expose_secret()
    ))
}

/// Writes a new file that only its owner can read.
fn write(out: &Path, text: &SecretString) -> anyhow::Result<()> {
    let shown = out.display();
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(out);
    let mut file = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let what = format!("cannot write the identity to {shown}: the file is there already");
            let hint =
                "An identity is never written over: backups may need the old one. Use another `--out`.";
            return Err(Failure::usage(what).hint(hint).into());
        }
        made => made.with_context(|| format!("cannot write the identity to {shown}"))?,
    };
    let written = file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all());
    written.inspect_err(|_| drop(std::fs::remove_file(out))).with_context(|| format!("cannot write {shown}"))
}

fn words(recipient: &str, out: &Path) -> String {
    let out = out.display();
    format!(
        "{recipient}\n\n\
         Put this recipient under `encrypt_to:` in sankofa.yaml: it is no secret.\n\
         The identity that opens what is encrypted to it is in {out}; only you can read that file.\n\
         Keep it where backups are restored, as variable age_identity, such as in Vault:\n  \
         vault kv put -mount=airflow variables/age_identity value=@{out}\n\
         and print one copy on paper: without it nobody can read a backup. Then remove the file.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_file_is_that_of_age_keygen_to_the_letter() {
        let now: Zoned = "2026-11-21T17:05:09.7+01:00[+01:00]".parse().unwrap();
        let text = file_text(&Identity::generate(), &now);
        let lines: Vec<&str> = text.expose_secret().split('\n').collect();
        assert_eq!(lines[0], "# created: 2026-11-21T17:05:09+01:00");
        let identity: Identity = lines[2].parse().unwrap();
        assert_eq!(lines[1], format!("# public key: {}", identity.to_public()));
        assert!(lines[2].starts_with("AGE-SECRET-KEY-1"));
        assert_eq!((lines.len(), lines[3]), (4, ""));
        let utc: Zoned = "2026-11-21T17:05:09Z[UTC]".parse().unwrap();
        assert!(file_text(&identity, &utc).expose_secret().starts_with("# created: 2026-11-21T17:05:09Z\n"));
    }

    #[test]
    fn a_file_is_never_written_over_and_nobody_else_can_read_it() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("key");
        write(&out, &"first".into()).unwrap();
        assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
        let failure = crate::error::classify(&write(&out, &"second".into()).unwrap_err());
        assert_eq!(failure.kind, crate::error::Kind::Usage);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "first");
        let failure = crate::error::classify(&write(Path::new("/proc/x/key"), &"x".into()).unwrap_err());
        assert!(failure.what.starts_with("cannot write the identity to /proc/x/key: "), "{}", failure.what);
    }

    #[test]
    fn a_person_is_shown_the_recipient_and_where_the_identity_is_but_no_secret() {
        let identity = Identity::generate();
        let shown = words(&identity.to_public().to_string(), Path::new("k.txt"));
        assert!(shown.starts_with("age1") && shown.contains("k.txt"));
        assert!(!shown.contains("AGE-SECRET"));
    }
}
