//! Finds the keys that open a backup.
//!
//! In:    names of variables, a file, a terminal.
//! Out:   [`Identities`].
//! Holds: a key is asked for only where a restore needs it, and never shown; a variable that is not
//!        there is no failure while another place has a key.
//! Not here: decrypting (`backup::seal`).

use crate::backup::holders::{Held, each};
use crate::backup::seal::Identities;
use crate::error::{Failure, Kind, classify};
use crate::secret::Resolver;
use crate::stop::Reason;
use anyhow::{Context, Result};
use secrecy::SecretString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Where to look.
pub struct Places<'a> {
    /// Where variables are asked for.
    pub resolver: &'a Resolver,
    /// Names of variables, in order.
    pub variables: &'a [String],
    /// `--identity-file`, several.
    pub files: &'a [PathBuf],
}

impl Places<'_> {
    /// Every identity that the places have, checked against `recipients`, who can open the backup.
    /// Files are asked first; variables only if no file was named; a person last.
    ///
    /// # Errors
    /// 77 when there is none, or none of them fits, naming the recipients; 78 for a text that is no key.
    pub async fn find(&self, recipients: &[String]) -> Result<Identities> {
        let (held, missed) = self.held().await?;
        let mut found = Identities::default();
        held.into_iter().for_each(|one| found.extend(one.identity));
        if found.recipients().is_empty() && std::io::stdin().is_terminal() {
            found.extend(of_person().await?);
        }
        self.check(&found, &missed, recipients)?;
        Ok(found)
    }

    /// The identities of the files, or of those variables that are there, one by one; and why the other
    /// variables could not be had.
    ///
    /// # Errors
    /// 77 for a file that is not there; 78 for a text that is no key; 75 when a place cannot be reached.
    pub async fn held(&self) -> Result<(Vec<Held>, Vec<String>)> {
        let (mut held, mut missed) = (Vec::new(), Vec::new());
        for file in self.files {
            held.extend(each(&of_file(file).await?, &file.display().to_string()));
        }
        if !self.files.is_empty() {
            return Ok((held, missed));
        }
        for name in self.variables {
            let from = format!("variable {name}");
            match self.resolver.variable(name).await {
                Ok(text) => held.extend(each(&Identities::parse(&text, &from)?, &from)),
                Err(error) => match classify(&error) {
                    failure if failure.kind == Kind::Permission => missed.push(failure.what),
                    _ => return Err(error),
                },
            }
        }
        Ok((held, missed))
    }

    /// `missed`: why variables could not be had.
    fn check(&self, found: &Identities, missed: &[String], recipients: &[String]) -> Result<(), Failure> {
        let own = found.recipients();
        if own.iter().any(|own| recipients.contains(own)) {
            return Ok(());
        }
        let looked = match (self.files, self.variables) {
            ([], names) => format!("variable {}", names.join(", ")),
            (files, _) => files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        };
        let what = match own.len() {
            0 if missed.is_empty() => format!("cannot open the backup: there is no age identity in {looked}"),
            0 => format!("cannot open the backup: {}", missed.join("; ")),
            count => format!("cannot open the backup: none of the {count} identities of {looked} fits"),
        };
        let hint = format!(
            "It opens with the identity of {}; name its file with `--identity-file`.",
            recipients.join(" or ")
        );
        Err(Failure::permission(what).hint(hint))
    }
}

async fn of_file(file: &Path) -> Result<Identities> {
    let from = file.display().to_string();
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map(SecretString::from).map_err(|why| match why.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::permission(format!("cannot read {from}: no such file")).into()
        }
        _ => anyhow::Error::from(why).context(format!("cannot read {from}")),
    })?;
    Ok(Identities::parse(&text, &from)?)
}

async fn of_person() -> Result<Identities> {
    const PROMPT: &str = "age identity (AGE-SECRET-KEY-1...; a file goes by --identity-file): ";
    let asked = tokio::task::spawn_blocking(|| rpassword::prompt_password(PROMPT));
    let typed = asked.await.context("cannot ask for the identity")?;
    let text = typed.map_err(|why| match why.kind() {
        std::io::ErrorKind::Interrupted => Reason::Interrupted.failure().into(),
        _ => anyhow::Error::from(why).context("cannot ask for the identity"),
    })?;
    Ok(Identities::parse(&SecretString::from(text), "what was typed")?)
}
