//! What a receiver wants to be told in: our own object, Slack's text, a card for Teams.
//!
//! In:    a notice. Out: JSON.
//! Holds: pure; nothing in it is taken for markup or a mention by the receiver.

use super::{Event, Notice};
use serde_json::{Value, json};

/// Characters of a sentence that are told.
const LONGEST: usize = 1500;

/// What a body looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Our own fields.
    Json,
    /// An incoming webhook of Slack (Mattermost and Rocket.Chat take it, too).
    Slack,
    /// A workflow of Microsoft Teams: an adaptive card.
    Teams,
}

impl Shape {
    pub fn named(word: &str) -> Option<Shape> {
        match word {
            "json" => Some(Shape::Json),
            "slack" => Some(Shape::Slack),
            "teams" => Some(Shape::Teams),
            _ => None,
        }
    }

    pub fn of_host(host: &str) -> Shape {
        let is = |name: &str| host == name || host.ends_with(&format!(".{name}"));
        match () {
            () if is("hooks.slack.com") => Shape::Slack,
            () if is("webhook.office.com") || is("logic.azure.com") || is("api.powerplatform.com") => {
                Shape::Teams
            }
            () => Shape::Json,
        }
    }

    /// The body.
    pub fn of(self, notice: &Notice) -> Value {
        match self {
            Shape::Json => own(notice),
            Shape::Slack => json!({"text": slack(&text(notice))}),
            Shape::Teams => teams(notice),
        }
    }
}

fn own(notice: &Notice) -> Value {
    json!({
        "schema": 1, "event": notice.event.word(), "subject": notice.subject, "environment": notice.environment,
        "run_id": notice.run_id, "exit": notice.exit, "message": cut(&notice.said), "hint": notice.hint,
        "missed": notice.missed, "at": notice.at.to_string(), "text": text(notice),
    })
}

/// What has happened to what.
pub(super) fn head(notice: &Notice) -> String {
    let head = match notice.event {
        Event::Failure => "failed",
        Event::Late => "is late",
        Event::Recovered => "is well again",
        Event::Success => "is done",
    };
    format!("Sankofa ({}): {} {head}", notice.environment, notice.subject)
}

/// One paragraph for a person.
pub(super) fn text(notice: &Notice) -> String {
    let mut text = head(notice);
    if !notice.said.is_empty() {
        text.push_str(&format!(": {}", cut(&notice.said)));
    }
    for missed in &notice.missed {
        text.push_str(&format!("\n- {missed}"));
    }
    for (word, more) in [("hint", &notice.hint), ("run", &notice.run_id)] {
        if let Some(more) = more {
            text.push_str(&format!("\n{word}: {more}"));
        }
    }
    text
}

fn cut(said: &str) -> String {
    match said.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &said[..end]),
        None => said.to_owned(),
    }
}

/// Slack takes `<!channel>` and links from angle brackets.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn teams(notice: &Notice) -> Value {
    // RichTextBlock is shown as it is: a TextBlock would read Markdown in it.
    let run = |text: &str, bold: bool| {
        let weight = if bold { "Bolder" } else { "Default" };
        json!({"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": text, "weight": weight}]})
    };
    let told = text(notice);
    let body: Vec<Value> = told.lines().enumerate().map(|(number, line)| run(line, number == 0)).collect();
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard", "version": "1.4", "body": body,
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(said: &str) -> Notice {
        Notice {
            event: Event::Failure,
            subject: "backup hr".into(),
            environment: "prod".into(),
            run_id: Some("one".into()),
            exit: 75,
            said: said.into(),
            hint: None,
            missed: Vec::new(),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_receiver_gets_its_own_shape_by_its_host() {
        assert_eq!(Shape::of_host("hooks.slack.com"), Shape::Slack);
        assert_eq!(Shape::of_host("prod-1.westeurope.logic.azure.com"), Shape::Teams);
        assert_eq!(Shape::of_host("hooks.slack.com.example.org"), Shape::Json);
        let text = "Sankofa (prod): backup hr failed: cannot dump hr\nrun: one";
        assert_eq!(Shape::Slack.of(&notice("cannot dump hr")), json!({"text": text}));
        assert_eq!(Shape::Json.of(&notice("cannot dump hr"))["text"], text);
        let card = Shape::Teams.of(&notice("cannot dump hr"));
        let first = &card["attachments"][0]["content"]["body"][0]["inlines"][0]["text"];
        assert_eq!(first, "Sankofa (prod): backup hr failed: cannot dump hr");
    }

    #[test]
    fn a_name_calls_nobody_and_a_long_sentence_is_cut() {
        let body = Shape::Slack.of(&notice("<!channel> & more")).to_string();
        assert!(body.contains("&lt;!channel&gt; &amp; more"), "{body}");
        assert!(
            Shape::Json.of(&notice(&"ɛ".repeat(9000)))["message"].as_str().unwrap().chars().count() < 1510
        );
    }
}
