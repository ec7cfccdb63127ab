//! moto's server of S3 on loopback. The tests of the command use it, too.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The bucket that it has.
pub(crate) const BUCKET: &str = "snapshots";

/// A server, which is ended when dropped.
pub(crate) struct Moto {
    server: Child,
    port: u16,
}

impl Moto {
    /// Starts the program that `ONIONSKIN_MOTO` names, if it names one.
    pub(crate) fn start() -> Option<Self> {
        let program = std::env::var_os("ONIONSKIN_MOTO")?;
        let any = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = any.local_addr().unwrap().port();
        drop(any);
        let server = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { server, port };
        moto.make_bucket();
        Some(moto)
    }

    /// What a process must have in its environment so that it finds the server.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |text: &str| text.to_owned();
        vec![
            (
                "AWS_ENDPOINT_URL",
                format!("http://127.0.0.1:{}", self.port),
            ),
            ("AWS_ALLOW_HTTP", text("true")),
            ("AWS_ACCESS_KEY_ID", text("test")),
            ("AWS_SECRET_ACCESS_KEY", text("test")),
            ("AWS_REGION", text("us-east-1")),
            ("NO_PROXY", text("127.0.0.1")),
        ]
    }

    /// Waits until it listens, and asks for the bucket.
    fn make_bucket(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        let mut stream = loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => break stream,
                Err(error) => assert!(
                    Instant::now() < until,
                    "the server does not listen: {error}"
                ),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        write!(
            stream,
            "PUT /{BUCKET} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            self.port
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}
