//! The one integration binary: everything that needs real servers, one module per subject.

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod b2;
mod backup;
mod b2_faults;
mod b2_stand_in;
mod backups;
mod backups_b2;
mod connect;
mod init;
mod contract;
mod copy_property;
mod deletes;
mod drill;
mod faults;
mod guard;
mod large;
mod leaks;
mod ledger;
mod pair;
mod notify;
mod ops;
mod prove;
mod public;
mod relations;
mod quality;
mod readers;
mod replay;
mod restore;
mod s3;
mod signals;
mod status;
mod stored;
mod targets;
mod testbed;
mod types;
mod warehouse;
mod window;
mod without_us;
