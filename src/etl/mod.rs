//! Rows: source -> stage -> warehouse; modules in the order of a row.

pub mod cancel;
pub mod contract;
pub mod create;
pub mod extract;
pub mod explain;
pub mod extracted;
pub mod inspect;
pub mod layout;
pub mod merge;
pub mod plan;
pub mod predicate;
pub mod prepare;
pub mod preview;
pub mod prune;
pub mod publish;
pub mod quality;
pub mod reset;
pub mod run;
pub mod source;
pub mod stage;
pub mod staging;
pub mod standing;
pub mod steps;
pub mod target;
pub mod types;
pub mod window;
