//! Which rows a plan reads, as SQL: the text of its condition, and of values of replication keys.
//!
//! In:    a plan, the snapshot's xmax.
//! Out:   a condition for WHERE; a watermark as SQL and as a person reads it.
//! Holds: pure; a value is spelled to the microsecond, whatever the session's settings are.
//! Not here: where reading starts (`etl::window`).

use crate::etl::plan::{Reading, TablePlan};
use crate::etl::window::{KeyKind, ReplicationKey, Watermark, moment};
use crate::table::{literal, quote};

/// The SQL condition that selects the rows to read; `None`: all of them.
///
/// `xmax` is the snapshot's, which 32-bit row versions are compared with.
pub fn rows(plan: &TablePlan, xmax: u64) -> Option<String> {
    let mut all: Vec<String> = Vec::new();
    if let Some(key) = &plan.key {
        let column = quote(&key.name);
        match &plan.reading {
            Reading::All(_) => {}
            Reading::Window { from, to } => {
                all.push(format!("{column} >= {} AND {column} < {}", typed(from, key), typed(to, key)));
            }
            Reading::From { value, .. } if key.kind == KeyKind::Xmin => {
                let age = i128::from(xmax) - i128::from(*value);
                all.push(format!(
                    "(({}::int8 - xmin::text::int8) % 4294967296 + 4294967296) % 4294967296 <= {age}",
                    xmax % (1 << 32)
                ));
            }
            Reading::Until { value, after, until } => {
                let from = if *after { ">" } else { ">=" };
                all.extend(value.map(|value| format!("{column} {from} {}", spell(value, &key.kind))));
                all.push(format!("{column} < {}", spell(*until, &key.kind)));
            }
            Reading::From { value, after } => {
                let compare = if *after { ">" } else { ">=" };
                let newer = format!("{column} {compare} {}", spell(*value, &key.kind));
                // Rows without a key are read each time, or refused (`null_keys`): never passed over.
                all.push(if key.nullable { format!("({newer} OR {column} IS NULL)") } else { newer });
            }
        }
    }
    all.extend(plan.filter.iter().map(|sql| format!("({sql})")));
    (!all.is_empty()).then(|| all.join(" AND "))
}

/// The watermark as a person reads it.
pub fn watermark(watermark: &Watermark) -> Option<String> {
    watermark.value.map(|value| match watermark.kind {
        KeyKind::Integer | KeyKind::Xmin => value.to_string(),
        _ => text_of(value, &watermark.kind),
    })
}

/// A value of a replication key as a person reads it.
pub fn point(value: i64, kind: &KeyKind) -> String {
    text_of(value, kind)
}

fn typed(text: &str, key: &ReplicationKey) -> String {
    let sql = match key.kind {
        KeyKind::Timestamptz => "timestamptz",
        KeyKind::Timestamp { .. } => "timestamp",
        KeyKind::Date { .. } => "date",
        KeyKind::Integer | KeyKind::Xmin => "int8",
    };
    format!("{}::pg_catalog.{sql}", literal(text))
}

/// A value of a replication key as a literal of its type.
pub fn spell(value: i64, kind: &KeyKind) -> String {
    let text = literal(&text_of(value, kind));
    match kind {
        KeyKind::Integer | KeyKind::Xmin => value.to_string(),
        KeyKind::Timestamptz => format!("{text}::pg_catalog.timestamptz"),
        KeyKind::Timestamp { .. } => format!("{text}::pg_catalog.timestamp"),
        KeyKind::Date { .. } => format!("{text}::pg_catalog.date"),
    }
}

/// The value as PostgreSQL would print it in UTC; what lies before year -9999 reads `-infinity`.
fn text_of(value: i64, kind: &KeyKind) -> String {
    let epoch = jiff::civil::date(2000, 1, 1);
    let days = |days: i64| epoch.checked_add(jiff::Span::new().try_days(days)?);
    match kind {
        KeyKind::Integer | KeyKind::Xmin => value.to_string(),
        KeyKind::Date { .. } => days(value).map_or_else(|_| edge(value), |date| date.to_string()),
        _ => {
            let zone = if *kind == KeyKind::Timestamptz { "+00" } else { "" };
            let text = |at: jiff::civil::DateTime| format!("{}{zone}", at.strftime("%Y-%m-%d %H:%M:%S%.6f"));
            moment(value).map_or_else(|| edge(value), text)
        }
    }
}

fn edge(value: i64) -> String {
    if value < 0 { "-infinity" } else { "infinity" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_is_spelled_to_the_microsecond() {
        assert_eq!(text_of(1, &KeyKind::Timestamptz), "2000-01-01 00:00:00.000001+00");
        assert_eq!(text_of(-1, &KeyKind::Timestamptz), "1999-12-31 23:59:59.999999+00");
        assert_eq!(text_of(366, &KeyKind::Date { zone: "UTC".into() }), "2001-01-01");
        assert_eq!(text_of(i64::MIN, &KeyKind::Timestamptz), "-infinity");
        let (day, date) = (86_400_000_000, KeyKind::Date { zone: "UTC".into() });
        assert_eq!(text_of(8825 * day - 1, &KeyKind::Timestamptz), "2024-02-28 23:59:59.999999+00");
        for (days, text) in
            [(8825, "2024-02-29"), (8826, "2024-03-01"), (36_583, "2100-02-28"), (36_584, "2100-03-01")]
        {
            assert_eq!(text_of(days, &date), text);
            assert_eq!(&text_of(days * day, &KeyKind::Timestamptz)[..10], text);
        }
    }
}
