//! The Python receiver of webhooks that docs/events.md shows.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tope::clock::system_now;

use crate::{
    harness::{clients::done, postgres::free_port, process::tool, v1::*, *},
    webhooks::webhook,
};

/// The running receiver. It is killed when this value is dropped.
struct Python(Child);

impl Python {
    fn receiving(port: u16, secret: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/receiver.py");
        let child = Command::new(tool("TOPE_TEST_PYTHON"))
            .arg(script)
            .arg(port.to_string())
            .env("TOPE_WEBHOOK_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python can be started");
        Self(child)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // An error only means that the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn status(world: &World) -> i32 {
    eventually("it listens", async || {
        let request = TestWebhookRequest { id: "here".into() };
        let tested = done(world.admin.clone().test_webhook(request).await).expect("the webhook exists");
        (tested.response_status != 0).then_some(tested.response_status)
    })
    .await
}

/// Sends only the head of a request, and returns the first line of the answer.
async fn first_line(port: u16, head: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.write_all(format!("POST / HTTP/1.1\r\n{head}\r\n").as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    answer.lines().next().unwrap_or_default().to_owned()
}

both! {
    async fn the_python_receiver_accepts_only_genuine_posts(world: World) {
        world.clock.set(system_now().0);
        let port = free_port();
        let made = webhook(world, "here", &format!("http://127.0.0.1:{port}/"), &[]).await;
        let python = Python::receiving(port, &made.secret);
        assert_eq!(status(world).await, 204);
        for length in ["-1", "ten", "1e3", "1048577", "99999999999999999999", ""] {
            let line = first_line(port, &format!("content-length: {length}\r\n")).await;
            assert!(line.contains(" 400 "), "{length:?}: {line:?}");
        }
        assert!(first_line(port, "").await.contains(" 400 "), "a body has a length");
        // Send an old post, as if somebody had recorded it and sent it again.
        world.clock.advance(-10 * MINUTE);
        assert_eq!(status(world).await, 401);
        world.clock.set(system_now().0);
        let request = RotateWebhookSecretRequest { id: "here".into(), ..Default::default() };
        done(world.admin.clone().rotate_webhook_secret(request).await).expect("the webhook exists");
        assert_eq!(status(world).await, 204, "the secret before is valid for a day");
        drop(python);
        let _other = Python::receiving(port, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(status(world).await, 401);
    }
}
