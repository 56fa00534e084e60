//! The stand-in for B2 refuses what B2 refuses: each refusal once, over plain HTTP.

use crate::support::b2::*;
use base64::Engine;
use reqwest::{Body, Client, RequestBuilder};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::sync::OnceLock;
use std::time::Duration;

const BUCKET: &str = "school-backups";

/// A client as plain as can be: it repeats nothing and checks nothing.
struct Caller {
    http: Client,
    account: Value,
}

/// Status, code and JSON of an answer.
type Said = (u16, String, Value);

fn sha1(bytes: &[u8]) -> String {
    Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One for all tests: making it reads the machine's certificates. It keeps no connection, for each test
/// has a runtime of its own.
fn http() -> Client {
    static HTTP: OnceLock<Client> = OnceLock::new();
    let make = || Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    HTTP.get_or_init(make).clone()
}

async fn said(request: RequestBuilder) -> Said {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    let json: Value = serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default();
    (status, json["code"].as_str().unwrap_or_default().to_owned(), json)
}

/// Status and code alone.
fn short(said: &Said) -> (u16, &str) {
    (said.0, said.1.as_str())
}

async fn authorize(b2: &B2, key: &Key, version: u32) -> Said {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", key.id, key.secret));
    let url = b2.endpoint().replace("/v4/", &format!("/v{version}/"));
    said(http().get(url).header("Authorization", format!("Basic {basic}"))).await
}

impl Caller {
    async fn new(b2: &B2, key: &Key) -> Caller {
        let (status, _, account) = authorize(b2, key, 4).await;
        assert_eq!(status, 200, "{account}");
        Caller { http: http(), account }
    }

    fn token(&self) -> &str {
        self.account["authorizationToken"].as_str().expect("a token")
    }

    fn storage(&self, field: &str) -> &str {
        self.account["apiInfo"]["storageApi"][field].as_str().expect("a field of storageApi")
    }

    async fn call(&self, call: &str, json: Value) -> Said {
        let url = format!("{}/b2api/v4/{call}", self.storage("apiUrl"));
        said(self.http.post(url).header("Authorization", self.token()).body(json.to_string())).await
    }

    async fn list(&self, call: &str, mut json: Value) -> Value {
        json["bucketId"] = json!(self.bucket_id());
        let said = self.call(call, json).await;
        assert_eq!(said.0, 200, "{said:?}");
        said.2
    }

    fn bucket_id(&self) -> String {
        let first = &self.account["apiInfo"]["storageApi"]["allowed"]["buckets"][0]["id"];
        first.as_str().expect("a key for one bucket").to_owned()
    }

    async fn url(&self) -> Value {
        self.list("b2_get_upload_url", json!({})).await
    }

    /// A request to an upload URL, with the headers that a good one has.
    fn upload(&self, url: &Value, name: &str, bytes: &[u8]) -> RequestBuilder {
        let (address, token) = (url["uploadUrl"].as_str(), url["authorizationToken"].as_str());
        let request =
            self.http.post(address.expect("uploadUrl")).header("Authorization", token.expect("a token"));
        let request = request.header("X-Bz-File-Name", name).header("Content-Type", "b2/x-auto");
        request.header("X-Bz-Content-Sha1", sha1(bytes)).body(bytes.to_vec())
    }

    fn part(&self, url: &Value, number: &str, bytes: &[u8]) -> RequestBuilder {
        let (address, token) = (url["uploadUrl"].as_str(), url["authorizationToken"].as_str());
        let request =
            self.http.post(address.expect("uploadUrl")).header("Authorization", token.expect("a token"));
        request
            .header("X-Bz-Part-Number", number)
            .header("X-Bz-Content-Sha1", sha1(bytes))
            .body(bytes.to_vec())
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Value {
        let said = said(self.upload(&self.url().await, name, bytes)).await;
        assert_eq!(said.0, 200, "{said:?}");
        said.2
    }

    async fn start(&self, name: &str) -> String {
        let row =
            self.list("b2_start_large_file", json!({"fileName": name, "contentType": "b2/x-auto"})).await;
        row["fileId"].as_str().expect("an id").to_owned()
    }

    /// A large file of these parts, not finished; its id and the hashes.
    async fn parts(&self, name: &str, parts: &[&[u8]]) -> (String, Vec<String>) {
        let id = self.start(name).await;
        let url = self.call("b2_get_upload_part_url", json!({"fileId": id})).await.2;
        for (bytes, number) in parts.iter().zip(1..) {
            let said = said(self.part(&url, &format!("{number}"), bytes)).await;
            assert_eq!(said.0, 200, "{said:?}");
        }
        (id, parts.iter().map(|bytes| sha1(bytes)).collect())
    }

    async fn finish(&self, id: &str, hashes: &[String]) -> Said {
        self.call("b2_finish_large_file", json!({"fileId": id, "partSha1Array": hashes})).await
    }

    fn get(&self, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.storage("downloadUrl"));
        self.http.get(url).header("Authorization", self.token())
    }

    async fn range(&self, path: &str, range: &str) -> (u16, String, Vec<u8>) {
        let answer = self.get(path).header("Range", range).send().await.expect("an answer");
        let named =
            answer.headers().get("content-range").map(|value| value.to_str().unwrap_or("?").to_owned());
        (answer.status().as_u16(), named.unwrap_or_default(), answer.bytes().await.expect("bytes").to_vec())
    }
}

/// A stand-in whose parts may be small, a bucket, and a key for it that may do everything.
async fn one() -> (B2, Caller) {
    with(BucketOptions::default()).await
}

async fn with(options: BucketOptions) -> (B2, Caller) {
    let b2 = B2::start();
    b2.switch(|switches| switches.min_part_bytes = 5);
    b2.bucket(BUCKET, options);
    let key = b2.key(KeySpec::all().bucket(BUCKET));
    let caller = Caller::new(&b2, &key).await;
    (b2, caller)
}

async fn limited(b2: &B2, spec: KeySpec) -> Caller {
    Caller::new(b2, &b2.key(spec.bucket(BUCKET))).await
}

#[tokio::test]
async fn a_small_file_and_a_large_one_come_back_as_they_went() {
    let (b2, caller) = one().await;
    let row = caller.put("a/%C3%BC+b.bin", b"hello").await;
    assert_eq!((&row["action"], &row["contentSha1"]), (&json!("upload"), &json!(sha1(b"hello"))));
    let (id, hashes) = caller.parts("a/large", &[b"first", b"second", b"3"]).await;
    assert_eq!(b2.unfinished(BUCKET), ["a/large"]);
    let finished = caller.finish(&id, &hashes).await;
    assert_eq!((&finished.2["contentLength"], &finished.2["contentSha1"]), (&json!(12), &json!("none")));
    let names: Vec<String> = b2.versions(BUCKET).into_iter().map(|version| version.name).collect();
    assert_eq!(names, ["a/large", "a/ü b.bin"]);
    let path = format!("/b2api/v4/b2_download_file_by_id?fileId={id}");
    assert_eq!(caller.get(&path).send().await.unwrap().bytes().await.unwrap(), "firstsecond3");
    let by_name = caller.get("/file/school-backups/a/%C3%BC%20b.bin").send().await.unwrap();
    assert_eq!(by_name.headers()["x-bz-content-sha1"], sha1(b"hello").as_str());
    assert_eq!(by_name.bytes().await.unwrap(), "hello");
    assert_eq!(b2.bytes(BUCKET, "a/large"), b"firstsecond3");
    assert!(b2.unfinished(BUCKET).is_empty());
}

// --- authorize -----------------------------------------------------------------------------------

#[tokio::test]
async fn authorize_answers_in_the_shape_of_its_version_or_always_in_that_of_version_3() {
    let b2 = B2::start();
    let id = b2.bucket(BUCKET, BucketOptions::default());
    let key = b2.key(KeySpec::new(&["listFiles"]).bucket(BUCKET).prefix("prod/"));
    let storage = |said: Said| said.2["apiInfo"]["storageApi"].clone();
    let v4 = storage(authorize(&b2, &key, 4).await);
    let allowed = json!({"buckets": [{"id": id, "name": BUCKET}], "capabilities": ["listFiles"], "namePrefix": "prod/"});
    assert_eq!((&v4["allowed"], &v4["bucketId"], &v4["infoType"]), (&allowed, &Value::Null, &Value::Null));
    let v3 = storage(authorize(&b2, &key, 3).await);
    assert_eq!(
        (&v3["bucketId"], &v3["namePrefix"], &v3["allowed"]),
        (&json!(id), &json!("prod/"), &Value::Null)
    );
    assert_eq!(v3["absoluteMinimumPartSize"], 5_000_000);
    b2.switch(|switches| switches.shape = Shape::V3);
    assert_eq!(storage(authorize(&b2, &key, 4).await)["bucketName"], BUCKET);
    b2.drop_bucket(BUCKET);
    b2.switch(|switches| switches.shape = Shape::AsAsked);
    assert_eq!(storage(authorize(&b2, &key, 4).await)["allowed"]["buckets"][0]["name"], Value::Null);
}

#[tokio::test]
async fn a_key_for_several_buckets_is_refused_before_version_4() {
    let b2 = B2::start();
    for name in ["bucket-one", "bucket-two", "bucket-three"] {
        b2.bucket(name, BucketOptions::default());
    }
    let key = b2.key(KeySpec::new(&["listFiles"]).bucket("bucket-one").bucket("bucket-two"));
    assert_eq!(authorize(&b2, &key, 3).await.0, 400);
    let account = authorize(&b2, &key, 4).await.2;
    assert_eq!(account["apiInfo"]["storageApi"]["allowed"]["buckets"][1]["name"], "bucket-two");
}

#[tokio::test]
async fn a_wrong_key_an_unpadded_credential_and_a_key_past_its_end_are_401() {
    let b2 = B2::start();
    let key = b2.key(KeySpec::all());
    let wrong = Key { secret: "K004wrong".to_owned(), ..key.clone() };
    assert_eq!(short(&authorize(&b2, &wrong, 4).await), (401, "bad_auth_token"));
    let unpadded =
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(format!("{}:{}", key.id, key.secret));
    let asked = http().get(b2.endpoint()).header("Authorization", format!("Basic {unpadded}"));
    assert_eq!(short(&said(asked).await), (401, "bad_auth_token"));
    let old = b2.key(KeySpec::all().until_ms(1));
    assert_eq!(authorize(&b2, &old, 4).await.0, 401);
    b2.revoke(&key);
    assert_eq!(authorize(&b2, &key, 4).await.0, 401);
}

#[tokio::test]
async fn account_tokens_expire_by_the_clock_and_on_demand_and_unknown_ones_are_bad() {
    let (b2, mut caller) = one().await;
    let list = json!({"bucketId": caller.bucket_id()});
    b2.expire_tokens();
    assert_eq!(short(&caller.call("b2_list_file_names", list.clone()).await), (401, "expired_auth_token"));
    let caller_2 = limited(&b2, KeySpec::all()).await;
    assert_eq!(caller_2.call("b2_list_file_names", list.clone()).await.0, 200);
    b2.advance(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(short(&caller_2.call("b2_list_file_names", list.clone()).await), (401, "expired_auth_token"));
    caller.account["authorizationToken"] = json!("nonsense");
    assert_eq!(short(&caller.call("b2_list_file_names", list).await), (401, "bad_auth_token"));
}

#[tokio::test]
async fn a_call_at_the_wrong_address_is_404_and_an_unknown_one_400() {
    let (b2, caller) = one().await;
    let url = b2.endpoint().replace("b2_authorize_account", "b2_list_buckets");
    let asked = caller.http.post(url).header("Authorization", caller.token()).body("{}");
    assert_eq!(said(asked).await.0, 404);
    assert_eq!(caller.call("b2_make_coffee", json!({})).await.0, 400);
}

// --- uploads -------------------------------------------------------------------------------------

#[tokio::test]
async fn an_upload_url_takes_one_upload_at_a_time() {
    let (b2, caller) = one().await;
    let url = caller.url().await;
    b2.fault(Fault::on("b2_upload_file").first(1).does(What::TrickleIn(40)));
    let slow = tokio::spawn(said(caller.upload(&url, "slow", b"0123456789")));
    while b2.count("b2_upload_file") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = said(caller.upload(&url, "second", b"x")).await;
    assert_eq!(short(&second), (400, "auth_token_limit"));
    assert!(second.2["message"].as_str().unwrap().starts_with("more than one upload using auth token"));
    assert_eq!(slow.await.unwrap().0, 200);
    assert_eq!((b2.peak_uploads(), b2.versions(BUCKET).len()), (1, 1));
}

#[tokio::test]
async fn an_upload_url_is_good_for_many_and_dies_with_the_first_error() {
    let (b2, caller) = one().await;
    let url = caller.url().await;
    for name in ["one", "two"] {
        assert_eq!(said(caller.upload(&url, name, b"x")).await.0, 200);
    }
    assert_eq!(said(caller.upload(&url, "/bad", b"x")).await.0, 400);
    assert_eq!(short(&said(caller.upload(&url, "three", b"x")).await), (401, "expired_auth_token"));
    for what in [What::Reset, What::ResetBefore, What::LostAnswer] {
        let url = caller.url().await;
        b2.fault(Fault::on("b2_upload_file").first(1).does(what));
        assert!(caller.upload(&url, "x", b"x").send().await.is_err());
        assert_eq!(said(caller.upload(&url, "x", b"x")).await.0, 401);
        b2.heal();
    }
    let url = caller.url().await;
    b2.advance(Duration::from_secs(24 * 3600 + 1));
    assert_eq!(said(caller.upload(&url, "late", b"x")).await.0, 401);
}

#[tokio::test]
async fn an_upload_url_wants_its_own_token() {
    let (_b2, caller) = one().await;
    let (one, mut two) = (caller.url().await, caller.url().await);
    two["authorizationToken"] = one["authorizationToken"].clone();
    assert_eq!(short(&said(caller.upload(&two, "x", b"x")).await), (401, "bad_auth_token"));
    two["authorizationToken"] = json!(caller.token());
    assert_eq!(short(&said(caller.upload(&two, "x", b"x")).await), (401, "bad_auth_token"));
}

#[tokio::test]
async fn a_body_without_content_length_is_refused() {
    let (b2, caller) = one().await;
    let pieces = futures_util::stream::iter([Ok::<_, std::io::Error>("he"), Ok("llo")]);
    let chunked = caller.upload(&caller.url().await, "x", b"hello").body(Body::wrap_stream(pieces));
    assert_eq!(short(&said(chunked).await), (400, "bad_request"));
    assert!(b2.versions(BUCKET).is_empty());
}

#[tokio::test]
async fn the_sha1_must_be_there_and_right_in_front_or_at_the_end() {
    let (b2, caller) = one().await;
    for bad in [sha1(b"other"), "abc".to_owned(), String::new()] {
        let url = caller.url().await;
        let plain = caller.http.post(url["uploadUrl"].as_str().unwrap());
        let plain = plain.header("Authorization", url["authorizationToken"].as_str().unwrap());
        let asked = plain.header("X-Bz-File-Name", "x").header("Content-Type", "b2/x-auto");
        let asked = if bad.is_empty() { asked } else { asked.header("X-Bz-Content-Sha1", &bad) };
        assert_eq!(short(&said(asked.body("hello")).await), (400, "bad_request"), "{bad}");
    }
    for (end, status) in [(sha1(b"hello"), 200), (sha1(b"other"), 400), ("short".to_owned(), 400)] {
        let url = caller.url().await;
        let plain = caller.http.post(url["uploadUrl"].as_str().unwrap());
        let plain = plain.header("Authorization", url["authorizationToken"].as_str().unwrap());
        let asked = plain.header("X-Bz-File-Name", "x").header("Content-Type", "b2/x-auto");
        let asked = asked.header("X-Bz-Content-Sha1", "hex_digits_at_end").body(format!("hello{end}"));
        let said = said(asked).await;
        assert_eq!(said.0, status, "{said:?}");
    }
    assert_eq!(b2.bytes(BUCKET, "x"), b"hello");
    assert_eq!(b2.versions(BUCKET).len(), 1);
}

#[tokio::test]
async fn names_that_b2_does_not_take_are_refused() {
    let (b2, caller) = one().await;
    let long = "a".repeat(1025);
    let segment = format!("a/{}/b", "s".repeat(251));
    for bad in [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a%0Ab",
        "a%7F",
        "a%zz",
        "a%ff",
        "%",
        long.as_str(),
        segment.as_str(),
    ] {
        let url = caller.url().await;
        assert_eq!(said(caller.upload(&url, bad, b"x")).await.0, 400, "{bad:?}");
    }
    for bad in ["/a", "a/", "a//b", "a\nb"] {
        let json = json!({"bucketId": caller.bucket_id(), "fileName": bad, "contentType": "b2/x-auto"});
        assert_eq!(caller.call("b2_start_large_file", json).await.0, 400, "{bad:?}");
    }
    assert!(b2.versions(BUCKET).is_empty() && b2.unfinished(BUCKET).is_empty());
}

#[tokio::test]
async fn headers_of_an_upload_are_known_small_and_encoded() {
    let (b2, caller) = one().await;
    let big = "v".repeat(7000);
    let long_key = format!("X-Bz-Info-{}", "k".repeat(51));
    let bad = [
        ("Content-Encoding", "gzip"),
        ("Content-Disposition", "inline"),
        ("Expires", "0"),
        ("X-Bz-Surprise", "1"),
        ("X-Bz-Info-b2-mine", "1"),
        ("X-Bz-Info-big", &big),
        (&long_key, "1"),
        ("X-Bz-Info-a", "%zz"),
        ("X-Bz-Server-Side-Encryption", "{}"),
        ("X-Bz-File-Legal-Hold", "maybe"),
    ];
    for (name, value) in bad {
        let asked = caller.upload(&caller.url().await, "x", b"x").header(name, value);
        assert_eq!(said(asked).await.0, 400, "{name}");
    }
    let good = caller.upload(&caller.url().await, "x", b"x").header("X-Bz-Info-Colour", "dark%20red");
    assert_eq!(said(good).await.2["fileInfo"], json!({"colour": "dark red"}));
    assert_eq!(b2.versions(BUCKET)[0].info["colour"], "dark red");
}

#[tokio::test]
async fn info_is_smaller_in_a_bucket_with_object_lock() {
    let (_b2, caller) = with(BucketOptions { has_lock: true, ..BucketOptions::default() }).await;
    for (size, status) in [(2100, 400), (1900, 200)] {
        let asked = caller.upload(&caller.url().await, "x", b"x").header("X-Bz-Info-a", "v".repeat(size));
        assert_eq!(said(asked).await.0, status, "{size}");
    }
}

// --- large files ---------------------------------------------------------------------------------

#[tokio::test]
async fn part_numbers_go_from_1_to_10000_and_the_later_of_two_wins() {
    let (b2, caller) = one().await;
    let id = caller.start("large").await;
    for (number, status) in
        [("0", 400), ("10001", 400), ("-1", 400), ("one", 400), ("10000", 200), ("1", 200)]
    {
        let url = caller.call("b2_get_upload_part_url", json!({"fileId": id})).await.2;
        assert_eq!(said(caller.part(&url, number, b"abcde")).await.0, status, "{number}");
    }
    let url = caller.call("b2_get_upload_part_url", json!({"fileId": id})).await.2;
    assert_eq!(said(caller.part(&url, "1", b"")).await.0, 400, "an empty part");
    let (id, _) = caller.parts("twice", &[b"12345", b"6"]).await;
    let url = caller.call("b2_get_upload_part_url", json!({"fileId": id})).await.2;
    assert_eq!(said(caller.part(&url, "1", b"abcde")).await.0, 200);
    assert_eq!(caller.finish(&id, &[sha1(b"abcde"), sha1(b"6")]).await.0, 200);
    assert_eq!(b2.bytes(BUCKET, "twice"), b"abcde6");
}

#[tokio::test]
async fn finish_checks_count_order_hashes_and_sizes() {
    let (b2, caller) = one().await;
    let (id, hashes) = caller.parts("large", &[b"first", b"second", b"3"]).await;
    let swapped = [hashes[1].clone(), hashes[0].clone(), hashes[2].clone()];
    assert_eq!(short(&caller.finish(&id, &swapped).await), (400, "part_sha1_mismatch"));
    let more = [hashes.clone(), vec![sha1(b"4")]].concat();
    assert_eq!(short(&caller.finish(&id, &more).await), (400, "missing_part"));
    assert_eq!(short(&caller.finish(&id, &hashes[..2]).await), (400, "bad_request"));
    assert_eq!(short(&caller.finish(&id, &[]).await), (400, "bad_request"));
    assert_eq!(caller.finish(&id, &hashes).await.0, 200);
    let (one_part, hashes) = caller.parts("one", &[b"first"]).await;
    assert_eq!(caller.finish(&one_part, &hashes).await.0, 400);
    let (small, hashes) = caller.parts("small", &[b"1234", b"56789"]).await;
    assert_eq!(short(&caller.finish(&small, &hashes).await), (400, "bad_request"));
    b2.switch(|switches| switches.min_part_bytes = 4);
    assert_eq!(caller.finish(&small, &hashes).await.0, 200);
}

#[tokio::test]
async fn a_part_below_five_million_bytes_is_refused_at_finish_unless_it_is_the_last() {
    let (b2, caller) = one().await;
    b2.switch(|switches| *switches = Switches::default());
    let (large, small) = (vec![7; 5_000_000], vec![7; 4_999_999]);
    let (id, hashes) = caller.parts("good", &[&large, &small]).await;
    assert_eq!(caller.finish(&id, &hashes).await.0, 200);
    let (id, hashes) = caller.parts("bad", &[&small, &large]).await;
    assert_eq!(short(&caller.finish(&id, &hashes).await), (400, "bad_request"));
}

#[tokio::test]
async fn a_file_that_is_finished_or_cancelled_is_over() {
    let (b2, caller) = one().await;
    let (finished, hashes) = caller.parts("large", &[b"first", b"2"]).await;
    assert_eq!(caller.finish(&finished, &hashes).await.0, 200);
    let cancelled = caller.start("other").await;
    let url = caller.call("b2_get_upload_part_url", json!({"fileId": cancelled})).await.2;
    assert_eq!(
        caller.call("b2_cancel_large_file", json!({"fileId": cancelled})).await.2["fileName"],
        "other"
    );
    for id in [finished, cancelled, "4_znonsense".to_owned()] {
        let again = caller.finish(&id, &hashes).await;
        assert_eq!(short(&again), (400, "bad_request"));
        assert_eq!(again.2["message"], format!("No active upload for: {id}"));
        for call in ["b2_cancel_large_file", "b2_list_parts", "b2_get_upload_part_url"] {
            assert_eq!(
                short(&caller.call(call, json!({"fileId": id})).await),
                (400, "bad_request"),
                "{call}"
            );
        }
    }
    assert!(said(caller.part(&url, "1", b"late")).await.0 >= 400);
    assert_eq!(b2.versions(BUCKET).len(), 1);
}

#[tokio::test]
async fn parts_and_unfinished_files_are_listed_page_by_page() {
    let (b2, caller) = one().await;
    let (id, _) = caller.parts("prod/b", &[b"first", b"second", b"3"]).await;
    caller.start("prod/a").await;
    caller.start("test/c").await;
    b2.switch(|switches| switches.page_rows = Some(1));
    let (mut lengths, mut next) = (Vec::new(), json!(1));
    while !next.is_null() {
        let json = json!({"fileId": id, "startPartNumber": next, "maxPartCount": 1000});
        let page = caller.call("b2_list_parts", json).await.2;
        lengths.extend(page["parts"].as_array().unwrap().iter().map(|row| row["contentLength"].clone()));
        next = page["nextPartNumber"].clone();
    }
    assert_eq!(lengths, [5, 6, 1]);
    let (mut names, mut next) = (Vec::new(), Value::Null);
    loop {
        let json = json!({"namePrefix": "prod/", "startFileId": next, "maxFileCount": 100});
        let page = caller.list("b2_list_unfinished_large_files", json).await;
        names.extend(page["files"].as_array().unwrap().iter().map(|row| row["fileName"].clone()));
        next = page["nextFileId"].clone();
        if next.is_null() {
            break;
        }
    }
    assert_eq!(names, ["prod/b", "prod/a"]);
    let many = json!({"bucketId": caller.bucket_id(), "maxFileCount": 101});
    assert_eq!(short(&caller.call("b2_list_unfinished_large_files", many).await), (400, "out_of_range"));
}

// --- rights --------------------------------------------------------------------------------------

#[tokio::test]
async fn each_call_needs_its_capability_and_b2_does_not_say_which() {
    let (b2, all) = one().await;
    let row = all.put("file", b"x").await;
    let (id, bucket) = (row["fileId"].clone(), all.bucket_id());
    let account = all.account["accountId"].clone();
    let large = all.start("large").await;
    let calls = [
        ("b2_list_buckets", "listBuckets", json!({"accountId": account, "bucketId": bucket})),
        ("b2_update_bucket", "writeBuckets", json!({"accountId": account, "bucketId": bucket})),
        ("b2_get_upload_url", "writeFiles", json!({"bucketId": bucket})),
        ("b2_get_upload_part_url", "writeFiles", json!({"fileId": large})),
        (
            "b2_start_large_file",
            "writeFiles",
            json!({"bucketId": bucket, "fileName": "a", "contentType": "b2/x-auto"}),
        ),
        ("b2_list_parts", "writeFiles", json!({"fileId": large})),
        ("b2_list_unfinished_large_files", "listFiles", json!({"bucketId": bucket})),
        ("b2_list_file_names", "listFiles", json!({"bucketId": bucket})),
        ("b2_list_file_versions", "listFiles", json!({"bucketId": bucket})),
        ("b2_get_file_info", "readFiles", json!({"fileId": id})),
        ("b2_hide_file", "writeFiles", json!({"bucketId": bucket, "fileName": "file"})),
        ("b2_cancel_large_file", "writeFiles", json!({"fileId": large})),
        ("b2_delete_file_version", "deleteFiles", json!({"fileId": id, "fileName": "file"})),
    ];
    for (call, capability, json) in calls {
        let without = limited(&b2, KeySpec::all().without(capability)).await;
        let refused = without.call(call, json.clone()).await;
        assert_eq!(short(&refused), (401, "unauthorized"), "{call}");
        assert!(!refused.2.to_string().contains(capability), "{call}");
        let only = limited(&b2, KeySpec::new(&[capability])).await;
        assert_eq!(only.call(call, json).await.0, 200, "{call}");
    }
    let blind = limited(&b2, KeySpec::all().without("readFiles")).await;
    assert_eq!(said(blind.get("/file/school-backups/file")).await.0, 401);
}

#[tokio::test]
async fn a_key_ends_at_its_bucket_and_its_prefix() {
    let (b2, all) = one().await;
    let other = b2.bucket("other-bucket", BucketOptions::default());
    let outside = all.put("test/a", b"x").await["fileId"].clone();
    let caller = limited(&b2, KeySpec::all().prefix("prod/")).await;
    let bucket = caller.bucket_id();
    let refused = [
        ("b2_list_file_versions", json!({"bucketId": bucket})),
        ("b2_list_file_names", json!({"bucketId": bucket, "prefix": "test/"})),
        ("b2_list_unfinished_large_files", json!({"bucketId": bucket, "namePrefix": "pro"})),
        ("b2_list_file_versions", json!({"bucketId": other, "prefix": "prod/"})),
        ("b2_get_upload_url", json!({"bucketId": other})),
        (
            "b2_start_large_file",
            json!({"bucketId": bucket, "fileName": "test/b", "contentType": "b2/x-auto"}),
        ),
        ("b2_hide_file", json!({"bucketId": bucket, "fileName": "test/a"})),
        ("b2_delete_file_version", json!({"fileId": outside, "fileName": "test/a"})),
        ("b2_get_file_info", json!({"fileId": outside})),
        ("b2_list_buckets", json!({"accountId": caller.account["accountId"]})),
        ("b2_list_buckets", json!({"accountId": caller.account["accountId"], "bucketId": other})),
    ];
    for (call, json) in refused {
        assert_eq!(short(&caller.call(call, json.clone()).await), (401, "unauthorized"), "{call} {json}");
    }
    assert_eq!(said(caller.upload(&caller.url().await, "test/b", b"x")).await.0, 401);
    assert_eq!(said(caller.get("/file/school-backups/test/a")).await.0, 401);
    assert_eq!(said(caller.upload(&caller.url().await, "prod/b", b"x")).await.0, 200);
    let none = caller.call("b2_list_file_versions", json!({"bucketId": "0123", "prefix": "prod/"})).await;
    assert_eq!(short(&none), (400, "bad_bucket_id"));
}

// --- what is asked -------------------------------------------------------------------------------

#[tokio::test]
async fn unknown_fields_wrong_types_missing_fields_and_broken_json_are_400() {
    let (_b2, caller) = one().await;
    let bucket = caller.bucket_id();
    for (call, json) in [
        ("b2_list_file_names", json!({"bucketId": bucket, "colour": 1})),
        ("b2_list_file_names", json!({"bucketId": bucket, "maxFileCount": "10"})),
        ("b2_list_file_names", json!({"bucketId": bucket, "startFileId": "x", "startFileName": "x"})),
        ("b2_list_file_versions", json!({"bucketId": bucket, "startFileId": "x"})),
        ("b2_list_file_versions", json!({"bucketId": bucket, "maxFileCount": 10_001})),
        ("b2_get_upload_url", json!({})),
        ("b2_get_upload_url", json!({"bucketId": null})),
        ("b2_start_large_file", json!({"bucketId": bucket, "fileName": "a"})),
        (
            "b2_start_large_file",
            json!({"bucketId": bucket, "fileName": "a", "contentType": "b2/x-auto", "fileInfo": {"a": 1}}),
        ),
        ("b2_finish_large_file", json!({"fileId": "x", "partSha1Array": "x"})),
        (
            "b2_update_bucket",
            json!({"accountId": caller.account["accountId"], "bucketId": bucket, "lifeCycleRules": []}),
        ),
    ] {
        assert_eq!(caller.call(call, json.clone()).await.0, 400, "{call} {json}");
    }
    let url = format!("{}/b2api/v4/b2_get_upload_url", caller.storage("apiUrl"));
    let post = |body: &'static str| caller.http.post(&url).header("Authorization", caller.token()).body(body);
    for body in ["{", "[]", ""] {
        assert_eq!(short(&said(post(body)).await), (400, "bad_json"), "{body}");
    }
    let get =
        |query: String| caller.http.get(format!("{url}?{query}")).header("Authorization", caller.token());
    assert_eq!(said(get(format!("bucketId={bucket}"))).await.0, 200);
    assert_eq!(said(get(format!("bucketId={bucket}&colour=1"))).await.0, 400);
    let url = url.replace("b2_get_upload_url", "b2_hide_file");
    assert_eq!(said(caller.http.get(url).header("Authorization", caller.token())).await.0, 405);
}

// --- lists, hide, delete -------------------------------------------------------------------------

/// Every row of a list by pages, as (name, action).
async fn pages(caller: &Caller, call: &str, prefix: &str, delimiter: Option<&str>) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let (mut name, mut id) = (Value::Null, Value::Null);
    loop {
        let mut json =
            json!({"prefix": prefix, "startFileName": name, "delimiter": delimiter, "maxFileCount": 1000});
        if !id.is_null() {
            json["startFileId"] = id;
        }
        let page = caller.list(call, json).await;
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let files = page["files"].as_array().unwrap();
        rows.extend(files.iter().map(|row| (text(row, "fileName"), text(row, "action"))));
        (name, id) = (page["nextFileName"].clone(), page["nextFileId"].clone());
        if name.is_null() {
            return rows;
        }
    }
}

fn named(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter().map(|(name, action)| ((*name).to_owned(), (*action).to_owned())).collect()
}

#[tokio::test]
async fn versions_come_by_name_then_newest_first_whatever_the_page() {
    let (b2, caller) = one().await;
    for name in ["a/1", "a/1", "a/2", "b"] {
        caller.put(name, b"x").await;
    }
    assert_eq!(
        caller.call("b2_hide_file", json!({"bucketId": caller.bucket_id(), "fileName": "a/1"})).await.0,
        200
    );
    caller.start("a/3").await;
    let versions = [
        ("a/1", "hide"),
        ("a/1", "upload"),
        ("a/1", "upload"),
        ("a/2", "upload"),
        ("a/3", "start"),
        ("b", "upload"),
    ];
    for rows in [None, Some(1), Some(2)] {
        b2.switch(|switches| switches.page_rows = rows);
        assert_eq!(pages(&caller, "b2_list_file_versions", "", None).await, named(&versions));
        assert_eq!(pages(&caller, "b2_list_file_versions", "a/1", None).await, named(&versions[..3]));
        assert_eq!(
            pages(&caller, "b2_list_file_names", "", None).await,
            named(&[("a/2", "upload"), ("b", "upload")])
        );
        let folders = pages(&caller, "b2_list_file_versions", "", Some("/")).await;
        assert_eq!(folders, named(&[("a/", "folder"), ("b", "upload")]));
    }
}

#[tokio::test]
async fn a_new_file_may_be_missing_from_lists_for_a_while_and_strange_things_be_in_them() {
    let (b2, caller) = one().await;
    b2.switch(|switches| (switches.list_lag, switches.has_unknowns) = (2, true));
    caller.put("a", b"x").await;
    for rows in [1, 1, 2] {
        let page = caller.list("b2_list_file_versions", json!({})).await;
        assert_eq!(page["files"].as_array().unwrap().len(), rows, "with one from the future");
        assert!(page["moonPhase"].is_object());
        assert_eq!(page["files"][rows - 1]["action"], "teleport");
        assert_eq!(page["files"][rows - 1]["fileId"], Value::Null);
    }
}

#[tokio::test]
async fn hiding_what_is_not_there_or_hidden_is_refused() {
    let (_b2, caller) = one().await;
    let hide =
        |name: &str| caller.call("b2_hide_file", json!({"bucketId": caller.bucket_id(), "fileName": name}));
    assert_eq!(short(&hide("a").await), (400, "no_such_file"));
    caller.put("a", b"x").await;
    let marker = hide("a").await.2;
    assert_eq!(
        (&marker["action"], &marker["contentSha1"], &marker["contentLength"]),
        (&json!("hide"), &Value::Null, &json!(0))
    );
    assert_eq!(short(&hide("a").await), (400, "already_hidden"));
    assert_eq!(said(caller.get("/file/school-backups/a")).await.0, 404);
}

#[tokio::test]
async fn a_delete_wants_name_and_id_of_one_version_and_works_once() {
    let (b2, caller) = one().await;
    let one = caller.put("a", b"1").await["fileId"].clone();
    let two = caller.put("a", b"2").await["fileId"].clone();
    let delete = |name: &str, id: &Value| {
        caller.call("b2_delete_file_version", json!({"fileName": name, "fileId": id}))
    };
    assert_eq!(short(&delete("b", &two).await), (400, "file_not_present"));
    assert_eq!(delete("a", &two).await.0, 200);
    assert_eq!(short(&delete("a", &two).await), (400, "file_not_present"));
    assert_eq!(b2.bytes(BUCKET, "a"), b"1");
    let missing = caller.call("b2_delete_file_version", json!({"fileId": one})).await;
    assert_eq!(missing.0, 400);
    assert_eq!(short(&caller.call("b2_get_file_info", json!({"fileId": two})).await), (404, "not_found"));
}

// --- downloads -----------------------------------------------------------------------------------

#[tokio::test]
async fn ranges_are_cut_at_the_end_and_refused_past_it_and_odd_ones_give_all() {
    let (_b2, caller) = one().await;
    let (id, hashes) = caller.parts("a", &[b"01234", b"56789", b"abc"]).await;
    caller.finish(&id, &hashes).await;
    let path = format!("/b2api/v4/b2_download_file_by_id?fileId={id}");
    for (range, wanted) in [
        ("bytes=0-3", (206, "bytes 0-3/13", "0123")),
        ("bytes=4-10", (206, "bytes 4-10/13", "456789a")),
        ("bytes=10-", (206, "bytes 10-12/13", "abc")),
        ("bytes=10-999", (206, "bytes 10-12/13", "abc")),
        ("bytes=-2", (206, "bytes 11-12/13", "bc")),
        ("bytes=3-1", (200, "", "0123456789abc")),
        ("bytes=0-1,3-4", (200, "", "0123456789abc")),
        ("lines=0-1", (200, "", "0123456789abc")),
    ] {
        let (status, named, bytes) = caller.range(&path, range).await;
        assert_eq!((status, named.as_str(), std::str::from_utf8(&bytes).unwrap()), wanted, "{range}");
    }
    assert_eq!(caller.range(&path, "bytes=13-").await.0, 416);
    let named = caller.range("/file/school-backups/a", "bytes=1-1").await;
    assert_eq!((named.0, named.2), (206, b"1".to_vec()));
    let bare = said(caller.http.get(format!("{}{path}", caller.storage("downloadUrl")))).await;
    assert_eq!(bare.0, 401, "a private bucket wants a token");
    assert_eq!(short(&said(caller.get("/file/school-backups/none")).await), (404, "not_found"));
    let head = caller.http.head(format!("{}/file/school-backups/a", caller.storage("downloadUrl")));
    let head = head.header("Authorization", caller.token()).send().await.unwrap();
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].to_str().unwrap()), (200, "13"));
}

// --- Object Lock ---------------------------------------------------------------------------------

fn locked() -> BucketOptions {
    BucketOptions { has_lock: true, ..BucketOptions::default() }
}

fn in_days(days: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as u64 + days * 24 * 3600 * 1000
}

impl Caller {
    async fn put_locked(&self, name: &str, mode: &str, until: u64) -> Said {
        let asked = self.upload(&self.url().await, name, b"x").header("X-Bz-File-Retention-Mode", mode);
        said(asked.header("X-Bz-File-Retention-Retain-Until-Timestamp", until.to_string())).await
    }

    async fn delete(&self, name: &str, id: &Value, bypasses: bool) -> Said {
        let json = json!({"fileName": name, "fileId": id, "bypassGovernance": bypasses});
        self.call("b2_delete_file_version", json).await
    }
}

#[tokio::test]
async fn a_locked_version_stays_until_its_day_and_governance_until_somebody_bypasses_it() {
    let (b2, caller) = with(locked()).await;
    let kept = caller.put_locked("c", "compliance", in_days(2)).await.2;
    let value = json!({"isClientAuthorizedToRead": true, "value": {"mode": "compliance", "retainUntilTimestamp": b2.versions(BUCKET)[0].retention.as_ref().unwrap().1}});
    assert_eq!(kept["fileRetention"], value);
    for bypasses in [false, true] {
        assert_eq!(short(&caller.delete("c", &kept["fileId"], bypasses).await), (403, "access_denied"));
    }
    let soft = caller.put_locked("g", "governance", in_days(2)).await.2["fileId"].clone();
    assert_eq!(caller.delete("g", &soft, false).await.0, 403);
    let weak = limited(&b2, KeySpec::all().without("bypassGovernance")).await;
    assert_eq!(weak.delete("g", &soft, true).await.0, 401);
    assert_eq!(caller.delete("g", &soft, true).await.0, 200);
    b2.switch(|switches| switches.locked_is_400 = true);
    assert_eq!(short(&caller.delete("c", &kept["fileId"], false).await), (400, "file_lock_conflict"));
    b2.advance(Duration::from_secs(3 * 24 * 3600));
    let later = limited(&b2, KeySpec::all()).await;
    assert_eq!(later.delete("c", &kept["fileId"], false).await.0, 200);
}

#[tokio::test]
async fn retention_needs_a_bucket_with_lock_a_right_a_mode_and_a_future() {
    let (_b2, plain) = one().await;
    assert_eq!(short(&plain.put_locked("a", "governance", in_days(1)).await), (400, "file_lock_not_enabled"));
    let retention = json!({"mode": "governance", "retainUntilTimestamp": in_days(1)});
    let start = json!({"bucketId": plain.bucket_id(), "fileName": "a", "contentType": "b2/x-auto", "fileRetention": retention});
    assert_eq!(short(&plain.call("b2_start_large_file", start).await), (400, "file_lock_not_enabled"));
    let (b2, caller) = with(locked()).await;
    assert_eq!(caller.put_locked("a", "forever", in_days(1)).await.0, 400);
    assert_eq!(caller.put_locked("a", "governance", 1).await.0, 400);
    let half = caller.upload(&caller.url().await, "a", b"x").header("X-Bz-File-Retention-Mode", "governance");
    assert_eq!(said(half).await.0, 400);
    let weak = limited(&b2, KeySpec::all().without("writeFileRetentions")).await;
    assert_eq!(weak.put_locked("a", "governance", in_days(1)).await.0, 401);
    let blind = limited(&b2, KeySpec::all().without("readFileRetentions")).await;
    let row = blind.put_locked("a", "governance", in_days(1)).await.2;
    assert_eq!(row["fileRetention"], json!({"isClientAuthorizedToRead": false, "value": null}));
}

#[tokio::test]
async fn a_bucket_default_locks_what_comes_in_and_legal_hold_has_no_end() {
    let options = BucketOptions { default_lock: Some(("governance", 7)), ..BucketOptions::default() };
    let (b2, caller) = with(options).await;
    let id = caller.put("a", b"x").await["fileId"].clone();
    assert_eq!(caller.delete("a", &id, false).await.0, 403);
    let hold = |value: &str| {
        caller.call("b2_update_file_legal_hold", json!({"fileName": "a", "fileId": id, "legalHold": value}))
    };
    assert_eq!(hold("on").await.0, 200);
    assert_eq!(caller.delete("a", &id, true).await.0, 403);
    assert_eq!((hold("off").await.0, caller.delete("a", &id, true).await.0), (200, 200));
    assert!(b2.versions(BUCKET).is_empty());
}

#[tokio::test]
async fn compliance_can_only_be_made_longer() {
    let (_b2, caller) = with(locked()).await;
    let id = caller.put_locked("a", "compliance", in_days(2)).await.2["fileId"].clone();
    let update = |mode: &str, until: u64| {
        let retention = json!({"mode": mode, "retainUntilTimestamp": until});
        let json =
            json!({"fileName": "a", "fileId": id, "fileRetention": retention, "bypassGovernance": true});
        caller.call("b2_update_file_retention", json)
    };
    assert_eq!(update("compliance", in_days(1)).await.0, 403);
    assert_eq!(update("governance", in_days(9)).await.0, 403);
    assert_eq!(update("compliance", in_days(9)).await.0, 200);
}

// --- buckets -------------------------------------------------------------------------------------

impl Caller {
    async fn update(&self, mut json: Value) -> Said {
        json["accountId"] = self.account["accountId"].clone();
        json["bucketId"] = json!(self.bucket_id());
        self.call("b2_update_bucket", json).await
    }
}

#[tokio::test]
async fn lifecycle_rules_are_checked_kept_and_applied() {
    let (b2, caller) = one().await;
    let rule = |prefix: &str, hide: Option<u32>, delete: Option<u32>, cancel: Option<u32>| {
        json!({"fileNamePrefix": prefix, "daysFromUploadingToHiding": hide, "daysFromHidingToDeleting": delete,
            "daysFromStartingToCancelingUnfinishedLargeFiles": cancel})
    };
    for bad in [
        json!([rule("a", Some(0), None, None)]),
        json!([rule("a", None, None, None)]),
        json!([rule("a", Some(1), None, None), rule("ab", Some(1), None, None)]),
        json!([{"fileNamePrefix": "a", "daysFromHidingToDeletion": 1}]),
        json!(vec![rule("a", Some(1), None, None); 101]),
    ] {
        assert_eq!(caller.update(json!({"lifecycleRules": bad})).await.0, 400, "{bad}");
    }
    let good = json!([rule("a", Some(2), Some(1), Some(1)), rule("b", None, Some(1), None)]);
    assert_eq!(caller.update(json!({"lifecycleRules": good})).await.2["lifecycleRules"], good);
    assert_eq!(b2.bucket_json(BUCKET)["lifecycleRules"], good);
    caller.put("a", b"x").await;
    caller.put("b", b"1").await;
    caller.put("b", b"2").await;
    caller.start("a/large").await;
    for (days, left) in [
        (1, vec!["a upload", "b upload"]),
        (1, vec!["a hide", "a upload", "b upload"]),
        (1, vec!["a hide", "b upload"]),
    ] {
        b2.advance(Duration::from_secs(days * 24 * 3600 + 1));
        b2.run_lifecycle();
        let found =
            b2.versions(BUCKET).into_iter().map(|version| format!("{} {}", version.name, version.action));
        assert_eq!(found.collect::<Vec<_>>(), left);
        assert!(b2.unfinished(BUCKET).is_empty());
    }
}

#[tokio::test]
async fn a_bucket_is_changed_only_at_the_revision_that_was_read_and_never_unlocked() {
    let (b2, caller) = one().await;
    let json = json!({"accountId": caller.account["accountId"], "bucketName": BUCKET});
    let bucket = caller.call("b2_list_buckets", json).await.2["buckets"][0].clone();
    let lock = json!({"isClientAuthorizedToRead": true,
        "value": {"isFileLockEnabled": false, "defaultRetention": {"mode": null, "period": null}}});
    assert_eq!(bucket["fileLockConfiguration"], lock);
    let revision = bucket["revision"].as_u64().unwrap();
    let info = json!({"ifRevisionIs": revision, "bucketInfo": {"a": "b"}});
    assert_eq!(caller.update(info.clone()).await.2["revision"], revision + 1);
    assert_eq!(short(&caller.update(info).await), (409, "conflict"));
    let retention = json!({"mode": "governance", "period": {"duration": 7, "unit": "days"}});
    let update = json!({"defaultRetention": retention});
    assert_eq!(short(&caller.update(update.clone()).await), (400, "file_lock_not_enabled"));
    assert_eq!(caller.update(json!({"fileLockEnabled": true})).await.0, 200);
    let changed = caller.update(update).await.2;
    assert_eq!(changed["fileLockConfiguration"]["value"]["defaultRetention"], retention);
    assert_eq!(short(&caller.update(json!({"fileLockEnabled": false})).await), (400, "file_lock_conflict"));
    for bad in [
        json!({"mode": "governance", "period": null}),
        json!({"mode": "soft", "period": {"duration": 1, "unit": "days"}}),
    ] {
        assert_eq!(caller.update(json!({"defaultRetention": bad})).await.0, 400);
    }
    let weak = limited(&b2, KeySpec::all().without("writeBucketRetentions")).await;
    assert_eq!(weak.update(json!({"fileLockEnabled": true})).await.0, 401);
    let blind = limited(&b2, KeySpec::all().without("readBucketRetentions")).await;
    let shown = blind.update(json!({})).await.2;
    assert_eq!(shown["fileLockConfiguration"], json!({"isClientAuthorizedToRead": false, "value": null}));
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_bad_bucket_id() {
    let (b2, caller) = one().await;
    let (bucket, url) = (caller.bucket_id(), caller.url().await);
    let all = Caller::new(&b2, &b2.key(KeySpec::all())).await;
    b2.drop_bucket(BUCKET);
    assert_eq!(
        short(&all.call("b2_list_file_names", json!({"bucketId": bucket})).await),
        (400, "bad_bucket_id")
    );
    assert_eq!(short(&said(caller.upload(&url, "a", b"x")).await), (400, "bad_bucket_id"));
}

// --- faults --------------------------------------------------------------------------------------

#[tokio::test]
async fn a_fault_meets_the_calls_it_was_made_for_and_no_other() {
    let (b2, caller) = one().await;
    let list = || async {
        let json = json!({"bucketId": caller.bucket_id()});
        caller.call("b2_list_file_names", json).await.0
    };
    for (fault, wanted) in [
        (Fault::on("b2_list_file_names").nth(2), [200, 503, 200, 200]),
        (Fault::on("b2_list_file_names").first(2), [503, 503, 200, 200]),
        (Fault::on("b2_list_file_names").from(3), [200, 200, 503, 503]),
        (Fault::on("b2_list_file_names").every_nth(2), [200, 503, 200, 503]),
        (Fault::on("*"), [503; 4]),
        (Fault::on("b2_hide_file"), [200; 4]),
    ] {
        b2.fault(fault.answers(503, "service_unavailable"));
        assert_eq!([list().await, list().await, list().await, list().await], wanted);
        b2.heal();
    }
    b2.fault(Fault::on("*").answers_later(429, "too_many_requests", "3600"));
    let url = format!("{}/b2api/v4/b2_list_file_names", caller.storage("apiUrl"));
    let asked = caller.http.post(url).header("Authorization", caller.token()).body("{}");
    assert_eq!(asked.send().await.unwrap().headers()["retry-after"], "3600");
    b2.heal();
    b2.fault(Fault::on("*").does(What::NotJson { status: 502 }));
    assert_eq!(list().await, 502);
    let last = b2.seen().pop().unwrap();
    assert_eq!((last.call.as_str(), last.status, last.is_faulted), ("b2_list_file_names", Some(502), true));
    assert!(b2.seen().iter().all(|call| !call.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_lost_answer_has_stored_and_a_reset_has_not() {
    let (b2, caller) = one().await;
    for (what, stored) in [(What::Reset, 0), (What::ResetBefore, 0), (What::LostAnswer, 1)] {
        b2.fault(Fault::on("b2_upload_file").first(1).does(what));
        assert!(caller.upload(&caller.url().await, "a", b"x").send().await.is_err());
        assert_eq!(b2.versions(BUCKET).len(), stored);
        b2.heal();
    }
    let early = What::EarlyAnswer { status: 503, code: "service_unavailable".to_owned() };
    b2.fault(Fault::on("b2_upload_file").first(1).does(early));
    let big = vec![1; 8 << 20];
    let answer = caller.upload(&caller.url().await, "a", &big).send().await;
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 503));
    assert_eq!(b2.versions(BUCKET).len(), 1);
}

#[tokio::test]
async fn bytes_on_their_way_out_are_bent_as_a_fault_says() {
    let (b2, caller) = one().await;
    caller.put("a", b"0123456789").await;
    let path = "/file/school-backups/a";
    let with = |what: What| {
        b2.heal();
        b2.fault(Fault::on("b2_download_file_by_name").does(what));
        caller.range(path, "bytes=2-5")
    };
    let text = |got: (u16, String, Vec<u8>)| (got.0, got.1, String::from_utf8_lossy(&got.2).into_owned());
    let good = "bytes 2-5/10".to_owned();
    assert_eq!(with(What::FlipByte(1)).await.2, [b'2', !b'3', b'4', b'5']);
    assert_eq!(text(with(What::Resize(-1)).await), (206, good.clone(), "234".to_owned()));
    assert_eq!(text(with(What::Resize(1)).await), (206, good.clone(), "2345\0".to_owned()));
    assert_eq!(text(with(What::ShiftRange(2)).await), (206, "bytes 4-7/10".to_owned(), "4567".to_owned()));
    assert_eq!(text(with(What::IgnoreRange).await), (200, String::new(), "0123456789".to_owned()));
    assert_eq!(text(with(What::Trickle(40)).await), (206, good, "2345".to_owned()));
    b2.heal();
    b2.fault(Fault::on("b2_download_file_by_name").does(What::Truncate(3)));
    let mut answer = caller.get(path).send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "012");
    assert!(answer.chunk().await.is_err());
    b2.heal();
    b2.fault(Fault::on("b2_list_file_names").does(What::Edit(|json| json["files"] = json!([]))));
    assert_eq!(caller.list("b2_list_file_names", json!({})).await["files"], json!([]));
}

#[tokio::test]
async fn a_stall_answers_nothing_and_ends_with_the_stand_in() {
    let (b2, caller) = one().await;
    for (what, stored) in [(What::Stall, 0), (What::StallAfter, 1)] {
        b2.heal();
        b2.fault(Fault::on("b2_upload_file").does(what));
        let asked = caller.upload(&caller.url().await, "a", b"x").timeout(Duration::from_millis(150));
        assert!(asked.send().await.is_err_and(|error| error.is_timeout()));
        assert_eq!(b2.versions(BUCKET).len(), stored);
    }
    let url = caller.url().await;
    let waiting = tokio::spawn(caller.upload(&url, "b", b"x").send());
    while b2.count("b2_upload_file") < 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(b2);
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn stored_bytes_can_be_damaged_and_bodies_forgotten() {
    let (b2, caller) = one().await;
    caller.put("a", b"0123").await;
    b2.damage(BUCKET, "a", |bytes| {
        bytes[0] = b'x';
        bytes.truncate(3);
    });
    let answer = caller.get("/file/school-backups/a").send().await.unwrap();
    assert_eq!(answer.headers()["x-bz-content-sha1"], sha1(b"0123").as_str());
    assert_eq!(answer.bytes().await.unwrap(), "x12");
    b2.put(BUCKET, "foreign", b"not ours");
    b2.switch(|switches| switches.keeps_bodies = false);
    assert_eq!(caller.put("b", &[0; 100_000]).await["contentLength"], 100_000);
    assert_eq!(b2.versions(BUCKET).len(), 3);
}
