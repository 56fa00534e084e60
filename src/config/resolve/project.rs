//! `sankofa.yaml` -> [`Project`].
//!
//! In:    the tree and the raw file.
//! Out:   what moving rows needs, and who is told.
//! Holds: every store that is named is there.

use super::{At, backups, places, retention, vault};
use crate::config::guard;
use crate::config::model::{Guard, Project, Receiver, SecretPlace, Stage, Warehouse};
use crate::config::node::{Fault, Node, shown, suggest};
use crate::config::raw::project::{ProjectFile, SecretKeys, StoreKeys};
use std::path::Path;
use std::time::Duration;

/// How long a stage is kept after its run has ended, unless said otherwise.
const KEEP: Duration = Duration::from_secs(7 * 86_400);

/// Resolves the file; `home` is its directory, `environment` the name given as `--env`.
///
/// # Errors
/// A [`Fault`] at the first key that is wrong or fits nothing.
pub fn project(
    root: &Node,
    raw: &ProjectFile,
    home: &Path,
    environment: Option<&str>,
) -> Result<Project, Fault> {
    let at = At::new(root, &[]);
    if raw.version != 1 {
        return Err(at.fault(&["version"], "expected version 1").hint("This binary reads version 1 only."));
    }
    if let Some(drill) = &raw.drill {
        at.id(&["drill", "connection"], &drill.connection)?;
    }
    Ok(Project {
        root: home.to_owned(),
        environment: environment.unwrap_or("default").to_owned(),
        secrets: secrets(at, raw, home)?,
        warehouse: warehouse(at, raw)?,
        stage: stage(at, raw, home)?,
        guard: guard_of(at, raw)?,
        backups: backups::resolve(at, raw, home)?,
        drill: raw.drill.as_ref().map(|drill| drill.connection.clone()),
        notify: receivers(at, raw)?,
        retention: retention::resolve(at, &raw.retention)?,
    })
}

fn secrets(at: At<'_>, raw: &ProjectFile, home: &Path) -> Result<Vec<SecretPlace>, Fault> {
    let Some(places) = &raw.secrets else { return Ok(vec![SecretPlace::Environment]) };
    if places.is_empty() {
        return Err(at.fault(&["secrets"], "expected at least one place"));
    }
    places
        .iter()
        .enumerate()
        .map(|(index, place)| {
            Ok(match place {
                SecretKeys::Environment => SecretPlace::Environment,
                SecretKeys::Vault(keys) => SecretPlace::Vault(Box::new(vault::place(at, index, keys, home)?)),
                SecretKeys::AwsSecretsManager(keys) => places::aws(at, index, keys)?,
                SecretKeys::Files(keys) => places::files(at, index, keys, home)?,
            })
        })
        .collect()
}

fn warehouse(at: At<'_>, raw: &ProjectFile) -> Result<Option<Warehouse>, Fault> {
    let Some(keys) = &raw.warehouse else { return Ok(None) };
    at.id(&["warehouse", "connection"], &keys.connection)?;
    for (key, role) in [
        ("reader_role", &keys.reader_role),
        ("after_role", &keys.after_role),
        ("owner_role", &keys.owner_role),
    ] {
        role.as_ref().map_or(Ok(()), |role| at.identifier(&["warehouse", key], role))?;
    }
    Ok(Some(Warehouse {
        connection: keys.connection.clone(),
        reader_role: keys.reader_role.clone(),
        after_role: keys.after_role.clone(),
        owner_role: keys.owner_role.clone(),
    }))
}

/// The store called `name`.
///
/// # Errors
/// A [`Fault`] at `path`, when there is none.
pub(super) fn store<'a>(
    at: At<'_>,
    raw: &'a ProjectFile,
    path: &[&str],
    name: &str,
) -> Result<&'a StoreKeys, Fault> {
    raw.stores.find(name).ok_or_else(|| {
        let known: Vec<&str> = raw.stores.names().collect();
        at.fault(path, format!("there is no store {}", shown(name))).hint(suggest(name, &known))
    })
}

/// Checks age recipients.
///
/// # Errors
/// A [`Fault`] at the first that is none.
pub(super) fn recipients(at: At<'_>, path: &[&str], list: &[String]) -> Result<(), Fault> {
    for (index, recipient) in list.iter().enumerate() {
        if !recipient.starts_with("age1") {
            let index = index.to_string();
            let here: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
            return Err(at.fault(&here, "expected an age recipient, `age1...`"));
        }
    }
    Ok(())
}

fn stage(at: At<'_>, raw: &ProjectFile, home: &Path) -> Result<Option<Stage>, Fault> {
    let Some(keys) = &raw.stage else { return Ok(None) };
    let StoreKeys::Directory(directory) = store(at, raw, &["stage", "store"], &keys.store)? else {
        return Err(at
            .fault(&["stage", "store"], "a stage cannot lie in a bucket yet")
            .hint("Name a store that is a directory."));
    };
    if directory.is_empty() {
        return Err(at.fault(&["stores", &keys.store, "directory"], "expected a directory"));
    }
    recipients(at, &["stage", "encrypt_to"], &keys.encrypt_to)?;
    if !keys.encrypt_to.is_empty() && keys.identity.is_none() {
        return Err(at
            .fault(&["stage", "encrypt_to"], "nothing could read an encrypted stage without `identity`")
            .hint("Name the variable that holds the identity: `identity: stage_identity`."));
    }
    if let Some(identity) = &keys.identity {
        at.id(&["stage", "identity"], identity)?;
    }
    Ok(Some(Stage {
        directory: home.join(directory),
        encrypt_to: keys.encrypt_to.clone(),
        identity: keys.identity.clone(),
        keep: keys.keep.map_or(KEEP, |length| length.0),
    }))
}

fn guard_of(at: At<'_>, raw: &ProjectFile) -> Result<Guard, Fault> {
    let pattern = |path: &[&str], text: &str| guard::pattern(text).map_err(|why| at.fault(path, why));
    let mut found = Guard::default();
    for (index, text) in raw.guard.never.iter().enumerate() {
        found.never.push(pattern(&["guard", "never", &index.to_string()], text)?);
    }
    for (text, mask) in &raw.guard.mask.0 {
        found.mask.push((pattern(&["guard", "mask", text], text)?, *mask));
    }
    for (source, schemas) in &raw.guard.sources.0 {
        at.id(&["guard", "sources", source], source)?;
        at.identifiers(&["guard", "sources", source], schemas)?;
        found.sources.insert(source.clone(), schemas.clone());
    }
    Ok(found)
}

fn receivers(at: At<'_>, raw: &ProjectFile) -> Result<Vec<Receiver>, Fault> {
    let mut receivers = Vec::new();
    for (index, notify) in raw.notify.iter().enumerate() {
        let index = index.to_string();
        let ids = [
            notify.webhook.as_ref().map(|w| ("webhook", &w.connection)),
            notify.mail.as_ref().map(|m| ("mail", &m.connection)),
        ];
        let mut ids = ids.into_iter().flatten();
        let (Some((key, id)), None) = (ids.next(), ids.next()) else {
            return Err(at.fault(&["notify", &index], "expected exactly one of webhook, mail"));
        };
        at.id(&["notify", &index, key, "connection"], id)?;
        let mail_to = notify.mail.as_ref().map(|mail| mail.to.clone()).unwrap_or_default();
        if notify.mail.is_some() && mail_to.is_empty() {
            return Err(at.fault(&["notify", &index, "mail", "to"], "expected at least one address"));
        }
        receivers.push(Receiver { connection: id.clone(), mail_to, when: notify.when.clone() });
    }
    Ok(receivers)
}
