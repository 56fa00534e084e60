//! Looks at a stage and touches nothing: what `--dry-run` of `validate` and `load` tells.
//!
//! In:    a run's stage. Out: its figures, or why it is of no use.
//! Holds: no server is asked; every part is read to its end, and its hash checked.
//! Not here: the files (`etl::stage`), checks and publishing (`etl::steps`).

use crate::error::Failure;
use crate::etl::run::{Hands, Request};
use crate::etl::stage::{self, Manifest};
use crate::etl::steps::{directory, settings, staged};
use crate::report::Report;
use anyhow::Result;
use secrecy::ExposeSecret;

/// The figures of the run's stage.
///
/// # Errors
/// 65 for a stage that is missing or torn; 77 and 78 as [`identity`].
pub async fn inspect(request: &Request<'_>, hands: &Hands<'_>, mut report: Report) -> Result<Report> {
    let manifest = stage::open(&directory(request)?, &request.pipeline.name, request.run_id)?;
    read_through(request, hands, &manifest).await?;
    report.tables =
        manifest.plans.iter().zip(&manifest.extracted).map(|(plan, read)| staged(plan, read)).collect();
    report.bytes = report.tables.iter().map(|table| table.bytes).sum();
    report
        .warnings
        .push("dry run: the stage is whole; nothing was asked of a server, and nothing written".to_owned());
    Ok(report)
}

/// Reads every part to its end without loading it: its hash is checked on the way.
///
/// # Errors
/// As [`stage::read_part`].
pub async fn read_through(request: &Request<'_>, hands: &Hands<'_>, manifest: &Manifest) -> Result<()> {
    let (directory, identity) = (directory(request)?, identity(request, hands, manifest).await?);
    for part in &manifest.parts {
        let mut pieces = stage::read_part(&directory, part, identity.clone());
        while let Some(piece) = pieces.recv().await {
            piece?;
        }
    }
    Ok(())
}

/// The identity that opens the stage, if it is encrypted.
///
/// # Errors
/// 77 when the variable is missing or holds none.
pub async fn identity(
    request: &Request<'_>,
    hands: &Hands<'_>,
    manifest: &Manifest,
) -> Result<Option<age::x25519::Identity>> {
    if !manifest.parts.iter().any(|part| part.file.ends_with(".age")) {
        return Ok(None);
    }
    let Some(id) = &settings(request)?.identity else { return Ok(None) };
    let text = hands.resolver.variable(id).await?;
    let identity = text.expose_secret().trim().parse::<age::x25519::Identity>().map_err(|_| {
        Failure::permission(format!("cannot open the stage: variable {id} holds no age identity"))
            .hint("It begins with AGE-SECRET-KEY-1.")
    })?;
    Ok(Some(identity))
}
