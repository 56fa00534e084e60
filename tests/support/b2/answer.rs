//! What goes back to a client: an answer, or a refusal in B2's words.

use serde_json::{Value, json};

use super::body::Outflow;

/// An answer before it is made HTTP.
pub struct Answer {
    /// Status line.
    pub status: u16,
    /// Beside Content-Length.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub body: Outflow,
    /// The JSON that `body` holds, where it is JSON.
    pub json: Option<Value>,
}

impl Answer {
    /// 200 with JSON.
    pub fn json(value: Value) -> Answer {
        Answer::of(200, value)
    }

    fn of(status: u16, value: Value) -> Answer {
        let headers = vec![("content-type".to_owned(), "application/json;charset=UTF-8".to_owned())];
        Answer { status, headers, body: Outflow::text(value.to_string()), json: Some(value) }
    }

    /// The same with other JSON.
    pub fn with_json(mut self, value: Value) -> Answer {
        self.body = Outflow::text(value.to_string());
        self.json = Some(value);
        self
    }
}

/// A refusal: `{status, code, message}`.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// B2's code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a step of a call gives.
pub type Outcome<T> = Result<T, Refusal>;

impl Refusal {
    /// A refusal of any kind.
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal { status, code: code.to_owned(), message: message.into() }
    }

    /// 400 bad_request.
    pub fn bad_request(message: impl Into<String>) -> Refusal {
        Refusal::new(400, "bad_request", message)
    }

    /// 401 unauthorized; B2 does not say which right is missing.
    pub fn unauthorized() -> Refusal {
        Refusal::new(401, "unauthorized", "unauthorized")
    }

    /// 401 bad_auth_token.
    pub fn bad_token() -> Refusal {
        Refusal::new(401, "bad_auth_token", "Invalid authorization token")
    }

    /// 401 expired_auth_token.
    pub fn expired_token() -> Refusal {
        Refusal::new(401, "expired_auth_token", "Authorization token has expired")
    }

    /// As it is sent.
    pub fn answer(&self) -> Answer {
        let Refusal { status, code, message } = self;
        Answer::of(*status, json!({"status": status, "code": code, "message": message}))
    }
}
