//! PostgreSQL: what is known of it in one place.
pub mod copy;
