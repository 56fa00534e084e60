//! Project files -> resolved values. Nothing else reads settings.
pub mod model;
