//! Tells people by mail: one message a person, over SMTP.
//!
//! In:    a connection, addresses, a notice.
//! Out:   messages of plain text. Holds: a password goes over TLS only, to a server whose certificate verifies; it
//!        ends within [`super::WITHIN`] whatever the server does; no text here holds the password or what the
//!        server answered.
//! Not here: what a notice says (`shape`), who is told of what (`cmd::notify`).

use super::{Notice, shape, tried};
use crate::error::Failure;
use crate::secret::Connection;
use futures_util::future::join_all;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::time::Duration;

/// How long a connection may take to be made; [`super::WITHIN`] bounds the whole.
const CONNECTING: Duration = Duration::from_secs(4);
/// Characters of a subject.
const SUBJECT: usize = 150;

/// One server and the people who are told through it. It holds secrets, so it has no `Debug`.
pub struct Mail {
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// The server of an Airflow connection of type `smtp`: host, port, login, password; extra `from_email`,
    /// `disable_ssl` (STARTTLS in the place of TLS from the start), `disable_tls` (no TLS at all, for a
    /// server that wants no password).
    ///
    /// # Errors
    /// 78 for one that makes no server, or would send its password in the clear; nothing of it is quoted.
    pub fn of(connection: &Connection, to: &[String]) -> Result<Mail, Failure> {
        let refused = |why: &str| {
            Failure::config(format!("cannot notify by connection {}: {why}", connection.id))
                .hint("It needs host, port, login, password, and in the extra `from_email`.")
        };
        let host = connection.host.as_deref().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| refused("it has no host"))?;
        let is = |name: &str| {
            let value = connection.extra.get(name);
            value.is_some_and(|value| {
                *value == Value::Bool(true)
                    || value.as_str().is_some_and(|word| word.eq_ignore_ascii_case("true"))
            })
        };
        let (plain, no_tls) = (is("disable_ssl"), is("disable_tls"));
        let login = connection.login.as_deref().filter(|login| !login.is_empty());
        let password = connection.password().filter(|password| !password.expose_secret().is_empty());
        if plain && no_tls && password.is_some() {
            return Err(refused("with `disable_ssl` and `disable_tls` its password would go in the clear"));
        }
        let tls = || TlsParameters::new(host.to_owned()).map_err(|_| refused("TLS cannot be set up"));
        let (tls, port) = match (plain, no_tls) {
            (false, _) => (Tls::Wrapper(tls()?), 465),
            (true, false) => (Tls::Required(tls()?), 25),
            (true, true) => (Tls::None, 25),
        };
        let mut server = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
            .tls(tls)
            .port(connection.port.unwrap_or(port))
            .timeout(Some(CONNECTING));
        if let (Some(login), Some(password)) = (login, password) {
            server =
                server.credentials(Credentials::new(login.to_owned(), password.expose_secret().to_owned()));
        }
        let named = connection.extra.get("from_email").and_then(Value::as_str);
        let from = named.or(login.filter(|login| login.contains('@'))).unwrap_or("sankofa@localhost");
        let from = from.parse().map_err(|_| refused("its `from_email` is no address"))?;
        let address = |text: &String| text.parse().map_err(|_| refused("`to:` names what is no address"));
        Ok(Mail { server: server.build(), from, to: to.iter().map(address).collect::<Result<_, _>>()? })
    }

    /// Tells everybody; why some could not be told, in words that may be shown.
    ///
    /// # Errors
    /// The words.
    pub async fn tell(&self, notice: &Notice) -> Result<(), String> {
        let told = join_all(self.to.iter().map(|to| tried(async || self.send(to, notice).await))).await;
        let missed: Vec<String> = told.into_iter().filter_map(Result::err).collect();
        match missed.first() {
            None => Ok(()),
            Some(why) => Err(format!("{} of {} messages: {why}", missed.len(), self.to.len())),
        }
    }

    /// One try; why it failed, and whether another may go better.
    async fn send(&self, to: &Mailbox, notice: &Notice) -> Result<(), (String, bool)> {
        let by_nobody =
            HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".into());
        let message = Message::builder()
            .from(self.from.clone())
            .to(to.clone())
            .subject(subject(notice))
            .raw_header(by_nobody)
            .header(ContentType::TEXT_PLAIN)
            .body(format!("{}\n", shape::text(notice)))
            .map_err(|_| ("it makes no message".to_owned(), false))?;
        self.server.send(message).await.map(drop).map_err(|error| match error.status() {
            Some(code) => (format!("status {code}"), error.is_transient()),
            None if error.is_tls() || is_of_tls(&error) => {
                ("TLS was refused, or its certificate does not verify".into(), false)
            }
            None if error.is_timeout() => ("no answer in time".into(), true),
            None if error.is_client() => {
                ("it offers neither STARTTLS nor a login that we know".into(), false)
            }
            None => ("no connection".into(), true),
        })
    }
}

/// Whether TLS is what broke a connection: a handshake is told as a connection that could not be made.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause.is::<rustls::Error>() || io.is_some_and(|inner| inner.is::<rustls::Error>())
    })
}

/// One line that says what has happened to what.
fn subject(notice: &Notice) -> String {
    let line = shape::head(notice).replace(char::is_control, " ");
    line.chars().take(SUBJECT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, to: &str) -> String {
        let connection = Connection::parse("mail", text).unwrap();
        Mail::of(&connection, &[to.to_owned()]).err().map(|failure| failure.what).unwrap_or_default()
    }

    #[test]
    fn a_password_in_the_clear_and_what_makes_no_address_are_refused_and_not_quoted() {
        let with = |extra: &str| {
            format!(
                r#"{{"conn_type": "smtp", "host": "mail.example", "login": "a", "password": "MARK", "extra": {extra}}}"#
            )
        };
        let clear = refused(&with(r#"{"disable_ssl": true, "disable_tls": "True"}"#), "a@b.example");
        assert!(clear.contains("in the clear") && !clear.contains("MARK"), "{clear}");
        assert!(refused(&with("{}"), "MARK MARK").ends_with("`to:` names what is no address"));
        assert!(refused(&with(r#"{"from_email": "MARK"}"#), "a@b.example").ends_with("is no address"));
        assert!(refused(r#"{"conn_type": "smtp"}"#, "a@b.example").ends_with("it has no host"));
    }
}
