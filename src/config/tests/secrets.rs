//! No secret stands in a project file, and no message ever shows one.

use super::secrets_refused::PLANTED;
use super::*;
use proptest::prelude::*;

/// Every scalar and key of `node`, by number.
fn plant(node: &mut Node, next: &mut usize, at: usize, text: &str) {
    let mut here = |target: &mut String| {
        if *next == at {
            text.clone_into(target);
        }
        *next += 1;
    };
    match &mut node.value {
        Value::Scalar { text: old, plain } => {
            here(old);
            *plain = *plain && *next != at + 1;
        }
        Value::List(items) => items.iter_mut().for_each(|item| plant(item, next, at, text)),
        Value::Map(entries) => {
            for (key, item) in entries {
                let mut here = |target: &mut String| {
                    if *next == at {
                        text.clone_into(target);
                    }
                    *next += 1;
                };
                here(&mut key.text);
                plant(item, next, at, text);
            }
        }
    }
}

/// The examples of the design with `text` instead of their `at`th key or value.
fn planted(file: &str, at: usize, text: &str) -> (String, bool) {
    let original = std::fs::read(design().project_dir.join(file)).unwrap();
    let mut tree = yaml::parse(&original).unwrap();
    let mut count = 0;
    plant(&mut tree, &mut count, usize::MAX, "");
    let mut next = 0;
    plant(&mut tree, &mut next, at % count, text);
    (compile::plain(&tree).to_string(), count > 0)
}

/// Loads both files with one of them planted, everything that is told or shown as one text.
fn everything_told(file: &str, text: &str) -> (bool, String) {
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
                let (text, _) = planted(file, at, secret);
                let (accepted, told) = everything_told(file, &text);
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
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// A password has no shape that could be known: it may be accepted where any word is, but a
    /// message about a value never repeats it.
    #[test]
    fn no_message_about_a_value_repeats_it(at in 0usize..150, word in "[a-zA-Z0-9!#%^*]{4}-Zq7[a-z0-9 !]{4,20}") {
        for file in ["sankofa.yaml", "pipelines/hr.yaml"] {
            let original = std::fs::read(design().project_dir.join(file)).unwrap();
            let mut tree = yaml::parse(&original).unwrap();
            let mut values = Vec::new();
            numbered(&tree, &mut 0, &mut values);
            let at = values[at % values.len()];
            plant(&mut tree, &mut 0, at, &word);
            let (accepted, told) = everything_told(file, &compile::plain(&tree).to_string());
            if !accepted {
                prop_assert!(!told.contains(&word), "{}", told);
            }
        }
    }
}

/// Numbers of those scalars whose values are no names: a message may repeat a name.
fn numbered(node: &Node, next: &mut usize, found: &mut Vec<usize>) {
    match &node.value {
        Value::Scalar { .. } => {
            found.push(*next);
            *next += 1;
        }
        Value::List(items) => items.iter().for_each(|item| numbered(item, next, found)),
        Value::Map(entries) => {
            for (key, item) in entries {
                *next += 1;
                let name = ["store", "schema", "source", "replication_key", "after", "target"];
                if name.contains(&key.text.as_str()) {
                    numbered(item, next, &mut Vec::new());
                } else {
                    numbered(item, next, found);
                }
            }
        }
    }
}
