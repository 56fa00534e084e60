//! No secret stands in a project file, and no message ever shows one.

use super::secrets_refused::PLANTED;
use super::*;
use proptest::prelude::*;

/// Shows every key and every value of `node` to `see`, with the key it stands under.
fn walk(node: &mut Node, under: &str, see: &mut impl FnMut(&mut String, Option<&str>)) {
    match &mut node.value {
        Value::Scalar { text, .. } => see(text, Some(under)),
        Value::List(items) => items.iter_mut().for_each(|item| walk(item, under, see)),
        Value::Map(entries) => {
            for (key, item) in entries {
                walk(item, &key.text.clone(), see);
                see(&mut key.text, None);
            }
        }
    }
}

/// `file` of the design with `text` instead of the `at`th key or value that `place` chooses by the key
/// it stands under (`None`: it is a key itself).
fn planted(file: &str, at: usize, text: &str, place: impl Fn(Option<&str>) -> bool) -> String {
    let original = std::fs::read(design().project_dir.join(file)).unwrap();
    let mut tree = yaml::parse(&original).unwrap();
    let mut count = 0;
    walk(&mut tree, "", &mut |_, under| count += usize::from(place(under)));
    let mut next = 0;
    walk(&mut tree, "", &mut |old, under| {
        if place(under) {
            if next == at % count {
                text.clone_into(old);
            }
            next += 1;
        }
    });
    compile::plain(&tree).to_string()
}

/// Loads both files with one of them planted, everything that is told or shown as one text.
pub(super) fn everything_told(file: &str, text: &str) -> (bool, String) {
    let home = design().project_dir;
    let read = |path: &str| std::fs::read_to_string(home.join(path)).unwrap();
    let (mut project, mut pipeline) = (read("sankofa.yaml"), read("pipelines/hr.yaml"));
    if file == "sankofa.yaml" {
        project = text.into()
    } else {
        pipeline = text.into()
    }
    let d = dir(&[
        ("sankofa.yaml", project.as_bytes()),
        ("pipelines/hr.yaml", pipeline.as_bytes()),
        ("sql/hr_marts.sql", read("sql/hr_marts.sql").as_bytes()),
    ]);
    let files = Files { project_dir: d.directory.path().to_owned(), ..design() };
    let loaded = load_project(&files).and_then(|project| {
        let pipeline = load_pipeline(&files, &project, "hr")?;
        show(&project, &[pipeline])
    });
    match loaded {
        Ok(text) => (true, text),
        Err(error) => (false, format!("{error:?} {error:#} {:?}", classify(&error))),
    }
}

#[test]
fn a_secret_anywhere_in_either_file_is_refused_and_never_shown() {
    for file in ["sankofa.yaml", "pipelines/hr.yaml"] {
        for secret in PLANTED {
            for at in (0..120).step_by(7) {
                let (accepted, told) = everything_told(file, &planted(file, at, secret, |_| true));
                assert!(!accepted, "{file} {at} {secret}");
                assert!(told.contains("this looks like"), "{told}");
                assert!(!told.contains(secret) && !told.contains("hunter2"), "{told}");
            }
        }
    }
}

#[test]
fn a_secret_that_a_variable_brings_is_refused_and_never_shown() {
    let text = format!("{PROJECT}stores: {{a: {{directory: '${{X}}'}}}}\n");
    let mut d = dir(&[("sankofa.yaml", text.as_bytes())]);
    for secret in PLANTED {
        d.files.variables.insert("X".into(), (*secret).to_owned());
        let (what, hint) = told(load_project(&d.files));
        assert!(what.starts_with("cannot read sankofa.yaml:3:25: this looks like"), "{what}");
        assert!(!what.contains(secret) && !hint.contains(secret));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// A password has no shape that could be known: it may be accepted where any word is, but a
    /// message about a value never repeats it.
    #[test]
    fn no_message_about_a_value_repeats_it(at in 0usize..150, word in "[a-zA-Z0-9!#%^*]{4}-Zq7[a-z0-9 !]{4,20}") {
        // What names something may be repeated, so that a person finds it.
        let names = ["store", "schema", "source", "replication_key", "after", "target", "hr_db"];
        let value = |under: Option<&str>| under.is_some_and(|under| !names.contains(&under));
        for file in ["sankofa.yaml", "pipelines/hr.yaml"] {
            let (accepted, told) = everything_told(file, &planted(file, at, &word, value));
            prop_assert!(accepted || !told.contains(&word), "{}", told);
        }
    }
}
