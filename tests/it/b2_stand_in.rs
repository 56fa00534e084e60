//! The stand-in for B2 refuses what B2 refuses: each refusal once, over plain HTTP.

use crate::support::b2::*;
use base64::Engine;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
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
    said(Client::new().get(url).header("Authorization", format!("Basic {basic}"))).await
}

impl Caller {
    async fn new(b2: &B2, key: &Key) -> Caller {
        let (status, _, account) = authorize(b2, key, 4).await;
        assert_eq!(status, 200, "{account}");
        Caller { http: Client::new(), account }
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
