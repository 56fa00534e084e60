//! What lies on this side of the wire: project files, secrets, the stage's directory and keys.

use super::{Findings, Verdict};
use crate::config::model::{Mask, Pipeline, Project};
use crate::config::needs::HMAC_KEY;
use crate::error::{Failure, Kind};
use crate::report::size;
use crate::secret::Resolver;
use secrecy::ExposeSecret;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The shortest key of HMAC masks, bytes.
const HMAC_BYTES: usize = 16;
/// Less free space than this in the stage directory is worth a look.
const FREE_BYTES: u64 = 1 << 30;

/// The project files.
pub fn files(project: &Project, pipelines: &[(String, Result<Pipeline, Failure>)]) -> Findings {
    let mut findings = Findings::about("project");
    findings.ok(format!("sankofa.yaml, environment {}", project.environment));
    if pipelines.is_empty() && project.warehouse.is_some() {
        let next = "Write pipelines/NAME.yaml, or let `sankofa init --source CONNECTION` do it.";
        findings.step("there is no pipeline", next);
    }
    for (name, read) in pipelines {
        match read {
            Ok(pipeline) => {
                findings.ok(format!(
                    "pipelines/{name}.yaml: {} tables from {}",
                    pipeline.tables.len(),
                    pipeline.source
                ));
            }
            Err(failure) => findings.failed(failure),
        }
    }
    findings
}

/// Every secret that a run would ask for, but those of connections, which are tried themselves.
pub async fn secrets(project: &Project, pipelines: &[&Pipeline], resolver: &Resolver) -> Findings {
    let mut findings = Findings::about("secrets");
    let by_pipeline = pipelines.iter().flat_map(|p| &p.tables).flat_map(|table| table.mask.values());
    let by_guard = project.guard.mask.iter().map(|(_, mask)| mask);
    if by_pipeline.chain(by_guard).any(|mask| *mask == Mask::Hmac)
        && let Some(key) = findings.answer(resolver.variable(HMAC_KEY).await)
    {
        match key.expose_secret().len() {
            long if long >= HMAC_BYTES => findings.ok(format!("variable {HMAC_KEY}, for masks, is there")),
            _ => findings.fail(
                Kind::Permission,
                format!("variable {HMAC_KEY} is shorter than {HMAC_BYTES} bytes"),
                "Make one with `openssl rand -hex 32` and keep it.",
            ),
        }
    }
    findings
}

/// The stage: its directory, its recipients, its identity.
pub async fn stage(project: &Project, resolver: &Resolver) -> Findings {
    let mut findings = Findings::about("stage");
    let Some(stage) = &project.stage else {
        findings.ok("none: only `sync` works, which needs none");
        return findings;
    };
    directory(&stage.directory, &mut findings);
    let recipients: Result<Vec<age::x25519::Recipient>, _> =
        stage.encrypt_to.iter().map(|text| text.parse()).collect();
    let Ok(recipients) = recipients else {
        findings.fail(Kind::Config, "`encrypt_to` has no age recipient", "Recipients begin with age1.");
        return findings;
    };
    match (recipients.is_empty(), &stage.identity) {
        (true, _) => findings.ok("not encrypted"),
        (false, None) => findings.fail(
            Kind::Config,
            "encrypted, but `stage: {identity: ...}` names no variable: nobody can load it",
            "Name the variable that holds the identity.",
        ),
        (false, Some(id)) => {
            let Some(text) = findings.answer(resolver.variable(id).await) else { return findings };
            match text.expose_secret().trim().parse::<age::x25519::Identity>() {
                Err(_) => findings.fail(
                    Kind::Permission,
                    format!("variable {id} holds no age identity"),
                    "It begins with AGE-SECRET-KEY-1.",
                ),
                Ok(identity)
                    if recipients.iter().any(|to| to.to_string() == identity.to_public().to_string()) =>
                {
                    findings
                        .ok(format!("encrypted to {} recipients; variable {id} opens it", recipients.len()));
                }
                Ok(_) => findings.fail(
                    Kind::Permission,
                    format!("the identity in variable {id} belongs to none of `encrypt_to`"),
                    "Use the pair that belongs together.",
                ),
            }
        }
    }
    findings
}

fn directory(directory: &Path, findings: &mut Findings) {
    let shown = directory.display();
    // The nearest directory that is there: `extract` makes the others.
    let there = directory.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    if let Err(error) = tempfile::NamedTempFile::new_in(there) {
        let kind =
            if error.kind() == std::io::ErrorKind::StorageFull { Kind::Temporary } else { Kind::Permission };
        findings.fail(kind, format!("cannot write to {shown}: {error}"), "Let this user write there.");
        return;
    }
    match free(there) {
        Some(bytes) => {
            let verdict = if bytes < FREE_BYTES { Verdict::Warn } else { Verdict::Ok };
            let next = (bytes < FREE_BYTES).then(|| "Make room: `sankofa prune`.".to_owned());
            findings.add(verdict, format!("{shown} can be written to, {} free", size(bytes)), next);
        }
        None => findings.ok(format!("{shown} can be written to")),
    }
}

/// Free bytes for this user where `path` lies.
fn free(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: all-zero is a valid `statvfs`; `path` ends in NUL and outlives the call.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    let done = unsafe { libc::statvfs(path.as_ptr(), &raw mut found) };
    (done == 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}
