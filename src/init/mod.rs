//! Looks at a live source and writes a first project that a person can keep.
//!
//! In:    a session on the source; names of connections and of the pipeline.
//! Out:   `sankofa.yaml`, `pipelines/<name>.yaml` and the schemas that editors read.
//! Holds: nothing is overwritten, and all files are written or none; a file that `config` would
//!        refuse is not written.
//! The way: `look` (catalog, statistics) -> `propose` (pure) -> `text` (pure) -> `place`.

pub mod look;
pub mod personal;
pub mod place;
pub mod propose;
pub mod text;

pub use look::{Seen, look};
pub use place::{Draft, place};
