//! The calls whose request and answer are JSON: which there are, how they are read, who does them.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::{Answer, Outcome, Refusal};
use super::keys::Rights;
use super::server::Doors;
use super::state::State;

/// Calls that take their arguments in the query of a GET as well.
const READ_ONLY: [&str; 7] = [
    "b2_get_upload_url",
    "b2_get_upload_part_url",
    "b2_list_file_names",
    "b2_list_file_versions",
    "b2_list_parts",
    "b2_list_unfinished_large_files",
    "b2_get_file_info",
];
const NUMBERS: [&str; 3] = ["maxFileCount", "maxPartCount", "startPartNumber"];

/// The fields of a request; one that B2 does not know is refused.
pub fn parse<T: DeserializeOwned>(json: Value) -> Outcome<T> {
    serde_json::from_value(json).map_err(|error| Refusal::bad_request(error.to_string()))
}

/// The arguments of a call: the body of a POST, the query of a GET.
pub fn arguments(call: &str, is_get: bool, query: &str, body: &[u8]) -> Outcome<Value> {
    if is_get {
        return if READ_ONLY.contains(&call) { from_query(query) } else { Err(no_get(call)) };
    }
    if !query.is_empty() {
        return Err(Refusal::bad_request("a POST has no query"));
    }
    let json: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::new(400, "bad_json", error.to_string()))?;
    json.is_object().then_some(json).ok_or_else(|| Refusal::new(400, "bad_json", "not an object"))
}

fn no_get(call: &str) -> Refusal {
    Refusal::new(405, "method_not_allowed", format!("{call} wants POST"))
}

/// The pairs of a query.
pub fn from_query(query: &str) -> Outcome<Value> {
    let mut fields = Map::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = super::names::decode_header(value)?;
        let value = match value.parse::<u64>() {
            Ok(number) if NUMBERS.contains(&key) => Value::from(number),
            _ => Value::String(value),
        };
        if fields.insert(key.to_owned(), value).is_some() {
            return Err(Refusal::bad_request(format!("{key} is given twice")));
        }
    }
    Ok(Value::Object(fields))
}

/// Does a call that [`is_known`] knows.
pub fn act(state: &mut State, doors: &Doors, call: &str, rights: &Rights, json: Value) -> Outcome<Answer> {
    let answer = match call {
        "b2_list_buckets" => state.list_buckets(rights, json),
        "b2_update_bucket" => state.update_bucket(rights, json),
        "b2_get_upload_url" => state.upload_url(rights, json, &doors.upload),
        "b2_get_upload_part_url" => state.part_url(rights, json, &doors.upload),
        "b2_start_large_file" => state.start_large(rights, json),
        "b2_finish_large_file" => state.finish_large(rights, json),
        "b2_cancel_large_file" => state.cancel_large(rights, json),
        "b2_list_parts" => state.list_parts(rights, json),
        "b2_list_unfinished_large_files" => state.list_unfinished(rights, json),
        "b2_list_file_names" => state.list_files(rights, json, true),
        "b2_list_file_versions" => state.list_files(rights, json, false),
        "b2_get_file_info" => state.file_info(rights, json),
        "b2_hide_file" => state.hide_file(rights, json),
        "b2_delete_file_version" => state.delete_version(rights, json),
        "b2_update_file_retention" => state.update_retention(rights, json),
        "b2_update_file_legal_hold" => state.update_legal_hold(rights, json),
        _ => Err(Refusal::bad_request(format!("unknown API call {call}"))),
    };
    let mut answer = answer?;
    if state.switches.has_unknowns {
        answer["moonPhase"] = serde_json::json!({"name": "gibbous", "days": [1, null]});
    }
    Ok(Answer::json(answer))
}
