//! The receiver in Python that README shows.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use aforo::clock::system_now;

use crate::{
    harness::{clients::done, postgres::free_port, process::tool, v1::*, *},
    webhooks::webhook,
};

/// It runs until it is dropped.
struct Python(Child);

impl Python {
    fn receiving(port: u16, secret: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/receiver.py");
        let child = Command::new(tool("AFORO_TEST_PYTHON"))
            .arg(script)
            .arg(port.to_string())
            .env("AFORO_WEBHOOK_SECRET", secret)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("python can be started");
        Self(child)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn status(world: &World) -> i32 {
    eventually("it listens", async || {
        let request = TestWebhookRequest { id: "here".into() };
        let tested = done(world.admin.clone().test_webhook(request).await).expect("it is there");
        (tested.response_status != 0).then_some(tested.response_status)
    })
    .await
}

both! {
    async fn it_takes_what_is_genuine_and_nothing_else(world: World) {
        world.clock.set(system_now());
        let port = free_port();
        let made = webhook(world, "here", &format!("http://127.0.0.1:{port}/"), &[]).await;
        let python = Python::receiving(port, &made.secret);
        assert_eq!(status(world).await, 204);
        // One that was recorded and is played again later.
        world.clock.advance(-10 * MINUTE);
        assert_eq!(status(world).await, 401);
        world.clock.set(system_now());
        let request = RotateWebhookSecretRequest { id: "here".into(), ..Default::default() };
        done(world.admin.clone().rotate_webhook_secret(request).await).expect("it is there");
        assert_eq!(status(world).await, 204, "the secret before is valid for a day");
        drop(python);
        let _other = Python::receiving(port, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        assert_eq!(status(world).await, 401);
    }
}
