//! The store that a database's `store:` names, opened.
//!
//! In:    a resolved place, where secrets are asked for.
//! Out:   a [`Store`]. Holds: nothing but this file knows which kinds of stores there are.
//! Not here: what a store does (`store`), what lies in it (`backup::inventory`).

use crate::config::model::StorePlace;
use crate::secret::Resolver;
use crate::store::Store;
use crate::store::b2::B2;
use crate::store::directory::Directory;
use crate::store::s3::S3;
use anyhow::Result;
use std::sync::Arc;

/// Opens the store at `place`: with the key of connection `prune` in the place of its own, if one is
/// given. A directory has no key.
///
/// # Errors
/// 77 for a connection that is not there; 78 for one that holds no key.
pub async fn open(place: &StorePlace, prune: Option<&str>, resolver: &Resolver) -> Result<Arc<dyn Store>> {
    match place {
        StorePlace::Directory(root) => Ok(Arc::new(Directory::new(root))),
        StorePlace::B2(bucket) => {
            let connection = resolver.connection(prune.unwrap_or(&bucket.connection)).await?;
            Ok(Arc::new(B2::open(&connection, &bucket.bucket, bucket.prefix.as_deref())?))
        }
        StorePlace::S3(bucket) => {
            let connection = resolver.connection(prune.unwrap_or(&bucket.connection)).await?;
            Ok(Arc::new(S3::open(&connection, &bucket.bucket, bucket.prefix.as_deref())?))
        }
    }
}
