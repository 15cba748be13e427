//! Answers of commands as records.

use serde_json::Value;

use super::session::Session;

/// What `line`, which ends with `--json`, answers.
pub fn records(session: &mut Session, line: &str) -> Vec<Value> {
    let answer = session.command(line);
    let parsed: Value = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{line}: {error}: {answer}"));
    parsed.as_array().unwrap_or_else(|| panic!("{line}: no array: {answer}")).clone()
}

/// Those of one kind.
pub fn of_kind(records: Vec<Value>, kind: &str) -> Vec<Value> {
    records.into_iter().filter(|record| record["kind"] == kind).collect()
}
