//! Rows: source -> stage -> warehouse.
pub mod contract;
pub mod layout;
pub mod types;
pub mod window;
