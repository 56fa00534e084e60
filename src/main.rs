//! Parses, runs, prints the result or the error, and exits.
fn main() {}
