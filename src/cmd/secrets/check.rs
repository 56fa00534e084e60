//! `sankofa secrets check`: where each id is found, what kind it is, how long it lives, what it opens.

use super::{beyond, pipelines};
use crate::cmd::Context;
use crate::config::model::Project;
use crate::config::needs::{self, Class, Needed};
use crate::error::{Failure, classify, most_serious, nearest_hint};
use crate::report::lines::{columns, span};
use crate::report::{ErrorFields, Report};
use crate::secret::{Asked, Beyond, Resolver};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// Ask every place for every id that the project names, and say what came of it; never a value
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Only this id; may be repeated [default: all that the project and its pipelines name]
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Only what this class asks for, as its identity
    #[arg(long, value_enum)]
    pub class: Option<Class>,
}

/// What came of one id.
struct Checked {
    needed: Needed,
    answer: Result<Told, Failure>,
}

/// What may be told of an answer.
struct Told {
    place: String,
    kind: String,
    life_s: Option<u64>,
    beyond: Beyond,
}

/// Runs the command.
///
/// # Errors
/// 78 for files that cannot be read, 2 for an id that they (or the class) do not name; the most serious of what is
/// missing stands in the report.
pub async fn run(args: &Args, context: &Context) -> anyhow::Result<Report> {
    let project = context.project()?;
    let wanted = wanted(args, &project, context)?;
    let resolver = context.resolver(&project)?;
    let asked: Vec<Asked<'_>> = wanted.iter().map(Needed::asked).collect();
    resolver.fetch_ahead(asked.iter().copied()).await;
    let checked = join_all(wanted.iter().map(|needed| check(needed, &resolver))).await;
    let places =
        join_all(resolver.places().iter().map(|place| async { (place.name(), place.beyond(&asked).await) }));
    let places = places.await;
    let mut report = context.report();
    report.extra.insert("secrets".into(), checked.iter().map(to_json).collect());
    let of_place = |(name, beyond): &(String, Beyond)| json!({"place": name, "beyond": words(beyond)});
    report.extra.insert("places".into(), places.iter().map(of_place).collect());
    let failures: Vec<Failure> =
        checked.iter().filter_map(|one| one.answer.as_ref().err().cloned()).collect();
    let report = report.for_person(to_text(&checked, &places));
    Ok(match most_serious(&failures) {
        Some(worst) => report.failed(&summed(worst, failures.len())),
        None => report,
    })
}

fn summed(worst: &Failure, count: usize) -> Failure {
    let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
    Failure { what: format!("{}{more}", worst.what), ..worst.clone() }
}

/// The ids that are asked about.
fn wanted(args: &Args, project: &Project, context: &Context) -> anyhow::Result<Vec<Needed>> {
    let pipelines = pipelines(project, context)?;
    let all = match args.class {
        Some(class) => needs::of_class(project, &pipelines, class),
        None => needs::all(project, &pipelines),
    };
    let known = |id: &&String| !all.iter().any(|one| one.id == **id);
    if let Some(unknown) = args.ids.iter().find(known) {
        let hint = nearest_hint(unknown, all.iter().map(|one| one.id.as_str()));
        let what = "cannot check an id that neither sankofa.yaml nor a pipeline names";
        return Err(Failure::usage(what).hint(hint).into());
    }
    Ok(all.into_iter().filter(|one| args.ids.is_empty() || args.ids.contains(&one.id)).collect())
}

async fn check(needed: &Needed, resolver: &Resolver) -> Checked {
    let answer = async {
        anyhow::Ok(if needed.is_connection {
            let (answer, place) = resolver.connection_told(&needed.id).await?;
            let beyond = beyond::of(&answer.value, needed).await;
            Told { place, kind: answer.kind, life_s: answer.life.map(|life| life.as_secs()), beyond }
        } else {
            let (answer, place) = resolver.variable_told(&needed.id).await?;
            let life_s = answer.life.map(|life| life.as_secs());
            Told { place, kind: answer.kind, life_s, beyond: Beyond::Unknown(None) }
        })
    };
    let answer = answer.await.map_err(|error| classify(&error));
    Checked { needed: needed.clone(), answer }
}

fn words(beyond: &Beyond) -> Value {
    match beyond {
        Beyond::Unknown(None) => json!("unknown"),
        Beyond::Unknown(Some(why)) => json!(format!("unknown: {why}")),
        Beyond::Known(found) => json!(found),
    }
}

fn to_json(checked: &Checked) -> Value {
    let needed = &checked.needed;
    let uses: Vec<&str> = needed.uses.iter().map(|(what, _)| what.as_str()).collect();
    let what = if needed.is_connection { "connection" } else { "variable" };
    let mut one = json!({"id": needed.id, "what": what, "for": uses});
    match &checked.answer {
        Ok(told) => {
            one["place"] = json!(told.place);
            one["kind"] = json!(told.kind);
            one["life_s"] = json!(told.life_s);
            one["beyond"] = words(&told.beyond);
        }
        Err(failure) => one["error"] = json!(ErrorFields::from(failure)),
    }
    one
}

fn to_text(checked: &[Checked], places: &[(String, Beyond)]) -> String {
    let shown = |beyond: &Beyond| match beyond {
        Beyond::Unknown(_) => "unknown".to_owned(),
        Beyond::Known(found) if found.is_empty() => "nothing".to_owned(),
        Beyond::Known(found) => found.join(", "),
    };
    let row = |one: &Checked| {
        let uses: Vec<&str> = one.needed.uses.iter().map(|(what, _)| what.as_str()).collect();
        let mut cells = vec![one.needed.id.clone(), uses.join(", ")];
        match &one.answer {
            Ok(told) => {
                let life = told.life_s.map_or("until changed".to_owned(), span);
                cells.extend([told.place.clone(), told.kind.clone(), life, shown(&told.beyond)]);
            }
            Err(failure) => cells.extend(["MISSING".to_owned(), failure.what.clone()]),
        }
        cells
    };
    let rows: Vec<_> = checked.iter().map(row).collect();
    let mut text = columns(&["id", "for", "found in", "kind", "lives", "opens beyond its need"], &rows);
    for (name, beyond) in places {
        text.push_str(&format!("asking {name}, we may read beyond that: {}\n", shown(beyond)));
    }
    text
}
