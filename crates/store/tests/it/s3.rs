//! A real S3 server on loopback: moto's, if `ONIONSKIN_MOTO` names its program.

use std::{
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use store::{Access, OpenError, Snapshot, Store, WriteError};

use crate::common::{Image, Rng, gc_late, meta, options, write};

/// Set in the process that runs the test proper, with the server's address in `AWS_*`.
const INSIDE: &str = "ONIONSKIN_S3_TEST_INSIDE";
const BUCKET: &str = "snapshots";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn snapshots_live_in_an_s3_server() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let Some(program) = std::env::var_os("ONIONSKIN_MOTO") else {
        println!("skipped: ONIONSKIN_MOTO does not name the moto_server program");
        return;
    };
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let server = Command::new(program)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the server does not listen"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    make_bucket(port);
    // The store takes the server's address from the environment, which only a process of its own
    // can have without disturbing the other tests.
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "s3::snapshots_live_in_an_s3_server",
            "--nocapture",
        ])
        .env(INSIDE, "1")
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env_remove("HTTP_PROXY")
        .env_remove("http_proxy")
        .env("NO_PROXY", "127.0.0.1")
        .status()
        .unwrap();
    assert!(status.success());
}

fn make_bucket(port: u16) {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(
        stream,
        "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn inside() {
    let address = format!("s3://{BUCKET}/some/prefix");
    let missing = Store::open(&address, Access::Existing);
    assert!(matches!(missing, Err(OpenError::Missing(_))), "{missing:?}");
    let store = Store::open(&address, Access::Create).unwrap();
    let mut rng = Rng(21);
    let mut image = Image::default();
    let mut kept: Vec<(Snapshot, Image)> = Vec::new();
    for _ in 0..5 {
        let parent = kept.last().map(|(snapshot, _)| snapshot.id());
        let snapshot = write(&store, parent, &mut image, &mut rng, 12).unwrap();
        kept.push((snapshot, image.clone()));
    }
    let again = Store::open(&address, Access::Existing).unwrap();
    for (snapshot, image) in &kept {
        image.check(&again.load_id(snapshot.id()).unwrap());
    }
    assert!(again.verify(&[], &mut |_| {}).unwrap().is_clean());
    let named = again.begin(options(Some("one"), None)).unwrap();
    let twice = store.begin(options(Some("one"), None)).unwrap_err();
    assert!(matches!(twice, WriteError::NameLeased { .. }), "{twice}");
    named.commit(meta(9)).unwrap();

    again.diff(kept[0].0.id(), kept[4].0.id()).unwrap();
    for number in [0, 1, 3] {
        again.remove(kept[number].0.id()).unwrap();
    }
    again.gc(gc_late()).unwrap();
    for number in [2, 4] {
        kept[number]
            .1
            .check(&store.load_id(kept[number].0.id()).unwrap());
    }
    assert!(again.verify(&[], &mut |_| {}).unwrap().is_clean());
    for summary in again.list().unwrap().snapshots {
        again.remove(summary.id).unwrap();
    }
    let report = again.gc(gc_late()).unwrap();
    assert!(!report.packs_deleted.is_empty());
    assert!(again.list().unwrap().snapshots.is_empty());
}
