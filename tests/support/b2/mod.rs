//! Backblaze B2's native API in this process, and stricter: what B2 refuses, it refuses.
//!
//! In:    buckets, keys, switches and [`Fault`]s, from a test; HTTP/1.1 on four ports of 127.0.0.1.
//! Out:   [`B2::connection_uri`] for a client; calls seen, versions stored, bytes, for the test.
//! Holds: an upload URL takes one upload at a time and dies with the first error; what was acknowledged
//!        was hashed; a locked version cannot be deleted; the clock moves only as the real one and
//!        [`B2::advance`] do.
//! Not here: the Object Storage (S3) side; what no store of ours calls (copies, keys, notifications).

mod answer;
mod api;
mod body;
mod buckets;
mod downloads;
mod faults;
mod keys;
mod large;
mod lists;
mod locks;
mod names;
mod server;
mod socket;
mod state;
mod uploads;

pub use faults::{Fault, What};
pub use keys::{Key, KeySpec};
pub use state::{BucketOptions, Call, Shape, Stored, Switches};

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

use serde_json::{Value, json};
use server::Doors;
use state::World;

/// A running stand-in; dropped, it closes its connections and ends.
pub struct B2 {
    world: Arc<World>,
    doors: Doors,
    thread: Option<JoinHandle<()>>,
    stop: Option<oneshot::Sender<()>>,
}

impl B2 {
    /// Starts one with no bucket and no key, on a thread of its own.
    pub fn start() -> B2 {
        let (doors, listeners) = server::open_doors();
        let world = Arc::new(World::new(doors.clone()));
        let (stop, stopped) = oneshot::channel();
        let here = Arc::clone(&world);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime for B2").block_on(server::serve(here, listeners, stopped));
        });
        B2 { world, doors, thread: Some(thread), stop: Some(stop) }
    }

    /// Makes a bucket; its id.
    pub fn bucket(&self, name: &str, options: BucketOptions) -> String {
        self.world.state().make_bucket(name, options)
    }

    /// Removes a bucket with all that is in it, as if somebody had done so on the web page.
    pub fn drop_bucket(&self, name: &str) {
        self.world.state().drop_bucket(name);
    }

    /// Makes an application key.
    pub fn key(&self, spec: KeySpec) -> Key {
        self.world.state().make_key(spec)
    }

    /// Deletes a key: its tokens are worth nothing from now on.
    pub fn revoke(&self, key: &Key) {
        self.world.state().revoke(key);
    }

    /// The address of `b2_authorize_account`, of the version of the API that the documents name.
    pub fn endpoint(&self) -> String {
        format!("{}/b2api/v4/b2_authorize_account", self.doors.front)
    }

    /// Its address, as other clients are told it (`B2_ENVIRONMENT` of Backblaze's own).
    pub fn realm(&self) -> String {
        self.doors.front.clone()
    }

    /// An Airflow connection to it as a URI.
    pub fn connection_uri(&self, key: &Key) -> String {
        let quoted = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
        };
        format!("b2://{}:{}@/?endpoint={}", quoted(&key.id), quoted(&key.secret), quoted(&self.endpoint()))
    }

    /// An Airflow connection to it as JSON; `extra` is added to the extras.
    pub fn connection_json(&self, key: &Key, extra: Value) -> String {
        let mut extras = json!({"endpoint": self.endpoint()});
        if let (Some(extras), Value::Object(more)) = (extras.as_object_mut(), extra) {
            extras.extend(more);
        }
        json!({"conn_type": "b2", "login": key.id, "password": key.secret, "extra": extras}).to_string()
    }

    /// Adds a fault; of several that are met by one call the first added acts.
    pub fn fault(&self, fault: Fault) {
        self.world.state().faults.push(fault);
    }

    /// Forgets every fault; whether each of them has happened.
    pub fn heal(&self) -> bool {
        std::mem::take(&mut self.world.state().faults).iter().all(Fault::has_happened)
    }

    /// Changes how it behaves.
    pub fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.world.state().switches);
    }

    /// From now on every account token is expired, whoever holds it.
    pub fn expire_tokens(&self) {
        self.world.state().expire_tokens();
    }

    /// From now on every upload URL is dead.
    pub fn kill_upload_urls(&self) {
        self.world.state().kill_upload_urls();
    }

    /// Moves its clock forward.
    pub fn advance(&self, by: Duration) {
        self.world.state().advance(by);
    }

    /// Applies the lifecycle rules of every bucket, as B2 does once a day.
    pub fn run_lifecycle(&self) {
        self.world.state().run_lifecycle();
    }

    /// Every call so far, in the order in which they came.
    pub fn seen(&self) -> Vec<Call> {
        self.world.state().seen.clone()
    }

    /// How often `call` was made.
    pub fn count(&self, call: &str) -> usize {
        self.world.state().seen.iter().filter(|seen| seen.call == call).count()
    }

    /// Forgets the calls seen so far, and the peak of uploads.
    pub fn forget_seen(&self) {
        let mut state = self.world.state();
        state.seen_before += state.seen.len();
        state.seen.clear();
        state.peak_uploads = state.uploading;
    }

    /// How many uploads were under way at once, at most.
    pub fn peak_uploads(&self) -> usize {
        self.world.state().peak_uploads
    }

    /// Every version in a bucket, hide markers too: by name, then newest first.
    pub fn versions(&self, bucket: &str) -> Vec<Stored> {
        self.world.state().stored(bucket)
    }

    /// Names of the large files of a bucket that were started and neither finished nor cancelled.
    pub fn unfinished(&self, bucket: &str) -> Vec<String> {
        self.world.state().unfinished_names(bucket)
    }

    /// The bytes of the newest version of `name`.
    ///
    /// # Panics
    /// When there is none, or bodies are not kept.
    pub fn bytes(&self, bucket: &str, name: &str) -> Vec<u8> {
        self.world.state().bytes(bucket, name)
    }

    /// Changes the stored bytes of the newest version of `name`; hashes stay as they were.
    ///
    /// # Panics
    /// As [`B2::bytes`].
    pub fn damage(&self, bucket: &str, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        self.world.state().damage(bucket, name, edit);
    }

    /// Stores a small file without a call: something that is there already.
    pub fn put(&self, bucket: &str, name: &str, bytes: &[u8]) -> String {
        self.world.state().put(bucket, name, bytes)
    }

    /// Hides a name without a call.
    pub fn hide(&self, bucket: &str, name: &str) {
        let mut state = self.world.state();
        let id = state.bucket_named(bucket).expect("a bucket of this name").id.clone();
        state.hide(&id, name);
    }

    /// Starts a large file without a call, which nobody will finish; its id.
    pub fn abandon(&self, bucket: &str, name: &str) -> String {
        self.world.state().abandon(bucket, name)
    }

    /// Forgets every large file of a bucket that is not finished.
    pub fn clear_unfinished(&self, bucket: &str) {
        self.world.state().clear_unfinished(bucket);
    }

    /// The bucket as `b2_list_buckets` shows it to a key that may read everything.
    pub fn bucket_json(&self, name: &str) -> Value {
        self.world.state().bucket_json(name)
    }
}

impl Drop for B2 {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
