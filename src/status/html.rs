//! How everything stands, as one page that needs nothing else.
//!
//! In:    the lines, what was asked, the time.
//! Out:   HTML with its style and charts in it: no script, nothing fetched.
//! Holds: everything is escaped; each verdict is a word and a mark beside its colour; tables have headers
//!        and captions; nothing that names a person is asked for.
//! Not here: what is late (`judge`).

use super::chart::{Bar, Chart};
use super::{Line, Part, Question, Seen, Verdict};
use crate::ledger::overview::Run;
use crate::report::lines::ago;
use crate::report::lines::minute;
use crate::report::{duration, grouped, size};
use jiff::Timestamp;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");
/// Lines of one part that are shown one by one; more good ones are folded away.
const SHOWN: usize = 20;
/// Things that want attention and are named at the top.
const FIRST: usize = 6;
/// Bars of one chart.
const BARS: usize = 30;

/// `text` as it may stand in HTML, in quotes too; what steers a terminal or a page is replaced.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            c if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c) =>
            {
                safe.push('\u{fffd}');
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The whole page.
pub fn page(lines: &[Line], seen: &Seen, question: &Question<'_>) -> String {
    let environment = escape(&question.project.environment);
    let now = question.now;
    let (class, sum) = summary(lines);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"robots\" content=\"noindex\">\n<title>Sankofa, {environment}: {sum}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Sankofa, {environment}</h1>\n<p class=\"soft\">As of {}, by sankofa {}. Times are UTC.</p>\n\
         <p class=\"sum {class}\">{sum}</p>\n",
        time(now),
        env!("CARGO_PKG_VERSION"),
    );
    let there: Vec<Part> =
        Part::ALL.into_iter().filter(|part| lines.iter().any(|line| line.part == *part)).collect();
    first(&mut page, lines);
    page.push_str("<nav aria-label=\"Parts of this page\"><ul>");
    for part in &there {
        let _ = write!(page, "<li><a href=\"#{0}\">{1}</a></li>", part.word(), heading(*part));
    }
    page.push_str("</ul></nav>\n</header>\n<main>\n");
    for part in there {
        section(&mut page, part, lines, seen, now);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn summary(lines: &[Line]) -> (&'static str, String) {
    let count = |is: fn(&Line) -> bool| lines.iter().filter(|line| is(line)).count();
    let (bad, unknown) =
        (count(|line| line.verdict.is_bad()), count(|line| line.verdict == Verdict::Unknown));
    let unasked = match unknown {
        0 => String::new(),
        1 => ", 1 part could not be asked".to_owned(),
        more => format!(", {more} parts could not be asked"),
    };
    match (bad, unknown) {
        (0, 0) => ("", "all is as it should be".into()),
        (0, _) => ("unsure", format!("nothing is known to be wrong{unasked}")),
        (1, _) => ("bad", format!("1 thing wants attention{unasked}")),
        (more, _) => ("bad", format!("{more} things want attention{unasked}")),
    }
}

/// What wants attention most, before everything else.
fn first(page: &mut String, lines: &[Line]) {
    let mut worst: Vec<&Line> = lines.iter().filter(|line| line.verdict <= Verdict::Unknown).collect();
    if worst.is_empty() {
        return;
    }
    worst.sort_by_key(|line| line.verdict);
    page.push_str("<ul class=\"first\">\n");
    for line in worst.iter().take(FIRST) {
        let (part, state) = (line.part.word(), line.verdict.word());
        let _ = writeln!(
            page,
            "<li><span class=\"{state}\">{} {state}</span>: <a href=\"#{part}\">{part} {}</a></li>",
            mark(line.verdict),
            escape(&line.name)
        );
    }
    if worst.len() > FIRST {
        let _ = writeln!(page, "<li>and {} more</li>", worst.len() - FIRST);
    }
    page.push_str("</ul>\n");
}

fn heading(part: Part) -> String {
    let word = part.word();
    format!("{}{}", word[..1].to_uppercase(), &word[1..])
}

/// A time, with its age for a program that reads the page.
fn time(at: Timestamp) -> String {
    format!("<time datetime=\"{}\">{}</time>", at.strftime("%Y-%m-%dT%H:%M:%SZ"), minute(at))
}

fn section(page: &mut String, part: Part, lines: &[Line], seen: &Seen, now: Timestamp) {
    let of: Vec<&Line> = lines.iter().filter(|line| line.part == part).collect();
    let (id, heading) = (part.word(), heading(part));
    let _ = write!(page, "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{heading}</h2>\n");
    let shown = of.iter().filter(|line| line.verdict != Verdict::Good).count().max(SHOWN).min(of.len());
    table(page, &heading, &of[..shown], now);
    if shown < of.len() {
        let _ = writeln!(page, "<details><summary>{} more that are good</summary>", of.len() - shown);
        table(page, &format!("{heading} that are good"), &of[shown..], now);
        page.push_str("</details>\n");
    }
    let charts = match part {
        Part::Pipelines => of_pipelines(seen),
        Part::Backups => of_backups(seen),
        Part::Drills => of_drills(seen),
        _ => String::new(),
    };
    if !charts.is_empty() {
        let _ = writeln!(page, "<div class=\"charts\">\n{charts}</div>");
    }
    page.push_str("</section>\n");
}

/// A table whose roles are written out: on a phone its rows are laid out as blocks, and browsers would forget them.
fn table(page: &mut String, caption: &str, lines: &[&Line], now: Timestamp) {
    let _ = write!(
        page,
        "<table role=\"table\">\n<caption>{caption}, the worst first</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">"
    );
    for name in ["Name", "State", "As of", "What is known"] {
        let _ = write!(page, "<th role=\"columnheader\" scope=\"col\">{name}</th>");
    }
    page.push_str("</tr></thead>\n<tbody role=\"rowgroup\">\n");
    for line in lines {
        let at = line.at.map_or("-".into(), |at| {
            format!(
                "{} <span class=\"soft\">({})</span>",
                time(at),
                ago(now.duration_since(at).as_secs().max(0))
            )
        });
        let _ = writeln!(
            page,
            "<tr role=\"row\"><th role=\"rowheader\" scope=\"row\">{}</th><td role=\"cell\" class=\"state {1}\">{2} {1}</td>\
             <td role=\"cell\" class=\"when\">{at}</td><td role=\"cell\">{3}</td></tr>",
            escape(&line.name),
            line.verdict.word(),
            mark(line.verdict),
            escape(&line.said)
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

/// A shape that is told apart in grey; a screen reader reads the word beside it.
fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Failed => "<span aria-hidden=\"true\">\u{2716}</span>",
        Verdict::Missing => "<span aria-hidden=\"true\">\u{25cb}</span>",
        Verdict::Late => "<span aria-hidden=\"true\">\u{25f7}</span>",
        Verdict::Unknown => "<span aria-hidden=\"true\">?</span>",
        Verdict::Warned => "<span aria-hidden=\"true\">!</span>",
        Verdict::Good => "<span aria-hidden=\"true\">\u{2713}</span>",
    }
}

fn of_pipelines(seen: &Seen) -> String {
    let Some(Ok(ledger)) = &seen.ledger else { return String::new() };
    let mut charts = String::new();
    let known = seen.pipelines.iter().filter_map(|(name, _)| Some((name, ledger.runs.get(name)?)));
    for (number, (name, runs)) in known.enumerate() {
        let ended: Vec<&Run> = runs.iter().filter(|run| run.ended_at.is_some()).take(BARS).collect();
        let failed = |run: &Run| run.status != "published";
        let times = ended.iter().rev().map(|run| {
            let ended_at = run.ended_at.unwrap_or(run.started_at);
            let ms = u64::try_from(ended_at.duration_since(run.started_at).as_millis()).unwrap_or(0);
            Bar { at: run.started_at, value: ms as f64, said: duration(ms), failed: failed(run) }
        });
        let times: Vec<Bar> = times.collect();
        let rows: Vec<Bar> = ended
            .iter()
            .rev()
            .map(|run| {
                let rows = u64::try_from(run.rows_written).unwrap_or(0);
                Bar {
                    at: run.started_at,
                    value: rows as f64,
                    said: format!("{} rows", grouped(rows)),
                    failed: failed(run),
                }
            })
            .collect();
        let title = |what: &str| format!("{what} of {name}");
        charts += &Chart { id: format!("t{number}"), title: title("Run time"), bars: &times }.to_html();
        charts +=
            &Chart { id: format!("r{number}"), title: title("Rows written by runs"), bars: &rows }.to_html();
    }
    charts
}

fn of_backups(seen: &Seen) -> String {
    let mut charts = String::new();
    let known = seen.stores.iter().filter_map(|(name, stored)| Some((name, stored.as_ref().ok()?)));
    for (number, (name, stored)) in known.enumerate() {
        let bar = |one: &super::Kept| Bar {
            at: one.at,
            value: one.stored_bytes as f64,
            said: size(one.stored_bytes),
            failed: false,
        };
        let bars: Vec<Bar> = stored.backups.iter().take(BARS).rev().map(bar).collect();
        charts +=
            &Chart { id: format!("b{number}"), title: format!("Size of backups of {name}"), bars: &bars }
                .to_html();
    }
    charts
}

fn of_drills(seen: &Seen) -> String {
    let mut charts = String::new();
    let known = seen.stores.iter().filter_map(|(name, stored)| Some((name, stored.as_ref().ok()?)));
    for (number, (name, stored)) in known.enumerate() {
        let bar = |one: &super::Proof| Bar {
            at: one.at,
            value: one.took_ms.0 as f64,
            said: duration(one.took_ms.0),
            failed: !one.proven,
        };
        let bars: Vec<Bar> = stored.drills.iter().take(BARS).rev().map(bar).collect();
        charts += &Chart { id: format!("d{number}"), title: format!("Restore time of {name}"), bars: &bars }
            .to_html();
    }
    charts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_name_holds_becomes_markup_or_turns_the_line_around() {
        let hostile = "<script>alert('x')</script>\u{202e}\"&\u{1b}[31m";
        let safe = escape(hostile);
        assert!(!safe.contains(['<', '>', '"', '\'', '\u{1b}', '\u{202e}']), "{safe}");
        assert!(safe.starts_with("&lt;script&gt;alert(&#39;x&#39;)"), "{safe}");
    }

    #[test]
    fn the_style_needs_nothing_from_elsewhere() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"));
    }

    /// How far apart two colours are, from 1 to 21, as WCAG 2 counts it.
    fn contrast(one: &str, other: &str) -> f64 {
        let light = |colour: &str| {
            let hex = colour.trim_start_matches('#');
            let wide = if hex.len() == 3 { 1 } else { 2 };
            let part = |at: usize| {
                let digits = &hex[at * wide..(at + 1) * wide];
                let level = f64::from(u8::from_str_radix(&digits.repeat(3 - wide), 16).unwrap()) / 255.0;
                if level <= 0.04045 { level / 12.92 } else { ((level + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * part(0) + 0.7152 * part(1) + 0.0722 * part(2)
        };
        let (one, other) = (light(one) + 0.05, light(other) + 0.05);
        one.max(other) / one.min(other)
    }

    #[test]
    fn every_colour_of_text_stands_out_from_the_paper_in_light_and_in_dark() {
        assert!((contrast("#000", "#ffffff") - 21.0).abs() < 0.01);
        let schemes: Vec<&str> = STYLE.lines().filter(|line| line.contains("--paper:")).collect();
        assert_eq!(schemes.len(), 2, "light and dark");
        for scheme in schemes {
            let colour = |name: &str| {
                let rest = &scheme[scheme.find(name).unwrap() + name.len()..];
                rest[..rest.find(';').unwrap()].trim()
            };
            for text in ["--ink:", "--soft:", "--bad:", "--late:", "--good:", "--bar:"] {
                let apart = contrast(colour(text), colour("--paper:"));
                assert!(apart >= 4.5, "{text} {apart:.1} in {scheme}");
            }
        }
    }
}
