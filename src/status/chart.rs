//! Small bar charts as SVG, for people who look and for people who listen.
//!
//! In:    bars in the order of time. Out: one `<figure>`.
//! Holds: everything is escaped; a bar of another kind differs by its pattern, not by its colour alone;
//!        the numbers are in a text that a screen reader reads.
//! Not here: the page around it (`html`).

use super::html::escape;
use crate::report::lines::minute;
use jiff::Timestamp;
use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// When.
    pub at: Timestamp,
    /// How much.
    pub value: f64,
    /// The value with its unit.
    pub said: String,
    /// It is of a run that failed.
    pub failed: bool,
}

/// What is drawn.
pub struct Chart<'a> {
    /// A name that is unique on the page, letters and digits.
    pub id: String,
    /// What it shows, such as `Run time of hr`.
    pub title: String,
    /// Oldest first.
    pub bars: &'a [Bar],
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 72.0;
/// The least height of a bar that is not nothing, so that it can be seen.
const LEAST: f64 = 1.5;

impl Chart<'_> {
    /// The figure; empty without bars.
    pub fn to_html(&self) -> String {
        let (Some(first), Some(last)) = (self.bars.first(), self.bars.last()) else { return String::new() };
        let most = self.bars.iter().max_by(|one, other| one.value.total_cmp(&other.value)).unwrap_or(last);
        let failed = self.bars.iter().filter(|bar| bar.failed).count();
        let (id, title) = (escape(&self.id), escape(&self.title));
        let failures = if failed > 0 { format!(" {failed} of them failed.") } else { String::new() };
        let summary = format!(
            "{}, from {} to {}. The newest is {}, the highest {}.{failures}",
            if self.bars.len() == 1 { "1 bar".to_owned() } else { format!("{} bars", self.bars.len()) },
            minute(first.at),
            minute(last.at),
            escape(&last.said),
            escape(&most.said),
        );
        let mut svg = format!(
            "<figure><figcaption>{title}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-labelledby=\"{id}-t {id}-d\" preserveAspectRatio=\"none\"><title id=\"{id}-t\">{title}</title>\
             <desc id=\"{id}-d\">{summary}</desc>\n"
        );
        self.draw(&mut svg, most.value);
        let _ = write!(
            svg,
            "</svg>\n<p class=\"axis\"><span>{}</span><span>highest {}</span><span>{}</span></p></figure>\n",
            first.at.strftime("%d %b"),
            escape(&most.said),
            last.at.strftime("%d %b")
        );
        svg
    }

    fn draw(&self, svg: &mut String, most: f64) {
        let step = WIDTH / self.bars.len().max(8) as f64;
        let (gap, base) = (step * 0.2, HEIGHT - 1.0);
        for (at, bar) in self.bars.iter().enumerate() {
            let share = if most > 0.0 { (bar.value / most).clamp(0.0, 1.0) } else { 0.0 };
            let tall = if bar.value > 0.0 || bar.failed { (share * (HEIGHT - 4.0)).max(LEAST) } else { 0.0 };
            let (x, y, wide) = (at as f64 * step + gap / 2.0, base - tall, step - gap);
            let (class, word) = if bar.failed { ("bad", ", failed") } else { ("bar", "") };
            let _ = writeln!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\">\
                 <title>{}: {}{word}</title></rect>",
                minute(bar.at),
                escape(&bar.said)
            );
        }
        let _ = writeln!(svg, "<line class=\"base\" x1=\"0\" y1=\"{base}\" x2=\"{WIDTH}\" y2=\"{base}\"/>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_its_numbers_and_tells_failures_without_colour() {
        let bar = |hour: i64, value: f64, failed| Bar {
            at: Timestamp::from_second(hour * 3600).unwrap(),
            value,
            said: format!("{value} <s>"),
            failed,
        };
        let bars = [bar(1, 2.0, false), bar(2, 4.0, true), bar(3, 0.0, false)];
        let text = Chart { id: "a1".into(), title: "Run time of \"x\"".into(), bars: &bars }.to_html();
        assert!(text.contains("3 bars, from 1970-01-01 01:00 UTC to 1970-01-01 03:00 UTC"), "{text}");
        assert!(text.contains("1 of them failed") && text.contains("4 &lt;s&gt;, failed"), "{text}");
        assert!(!text.contains("<s>") && text.contains("Run time of &quot;x&quot;"), "{text}");
        assert_eq!(Chart { id: "a".into(), title: "x".into(), bars: &[] }.to_html(), "");
    }
}
