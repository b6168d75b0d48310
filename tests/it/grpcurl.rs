//! The first steps of the README with grpcurl, on both databases. (`documents` runs the pages themselves.)

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::{
    process::{run, said, tool},
    *,
};

struct Shell<'a> {
    process: &'a Process,
}

impl Shell<'_> {
    async fn grpcurl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(tool("TOPE_TEST_GRPCURL"));
        let (flags, rest): (Vec<&str>, Vec<&str>) =
            arguments.iter().partition(|argument| argument.starts_with('-') || argument.starts_with('{'));
        command.arg("-plaintext").args(flags).arg(self.process.address().to_string()).args(rest);
        run(command).await
    }

    async fn says(&self, arguments: &[&str]) -> String {
        let output = self.grpcurl(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    }

    async fn call(&self, method: &str, body: Value) -> Value {
        let answer = self.says(&["-d", &body.to_string(), method]).await;
        serde_json::from_str(&answer).expect("JSON")
    }

    async fn refused(&self, method: &str, body: Value) -> String {
        let output = self.grpcurl(&["-d", &body.to_string(), method]).await;
        assert!(!output.status.success(), "{}", said(&output));
        said(&output)
    }
}

fn reserve(tokens: i64) -> Value {
    json!({"tenant": "acme", "amounts": [{"resource": "tokens", "quantity": tokens}]})
}

on_both! {
    async fn the_first_steps_of_the_readme_work_with_grpcurl(kind: Kind) {
        let database = Database::fresh(kind);
        let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
        let shell = Shell { process: &process };

        let services = shell.says(&["list"]).await;
        for service in ["tope.v1.QuotaService", "tope.v1.AdminService", "grpc.health.v1.Health"] {
            assert!(services.lines().any(|line| line == service), "{service}: {services}");
        }
        let described = shell.says(&["describe", "tope.v1.QuotaService"]).await;
        assert!(described.contains("rpc Reserve"), "{described}");
        let described = shell.says(&["describe", "tope.v1.ReserveRequest"]).await;
        assert!(described.contains("request_id"), "{described}");
        let health = shell.call("grpc.health.v1.Health/Check", json!({})).await;
        assert_eq!(health["status"], "SERVING");

        let held = shell.call("tope.v1.QuotaService/Reserve", reserve(1_000)).await;
        let name = held["reservation"]["name"].as_str().expect("it has a name").to_owned();
        let amounts = json!([{"resource": "tokens", "quantity": 800}]);
        let commit = json!({"reservation": name, "amounts": amounts});
        let settled = shell.call("tope.v1.QuotaService/Commit", commit).await;
        assert_eq!(settled["reservation"]["state"], "RESERVATION_STATE_COMMITTED");
        let usage = shell.call("tope.v1.QuotaService/GetUsage", json!({"tenant": "acme"})).await;
        let balances = usage["balances"].as_array().expect("there are some");
        let day = balances.iter().find(|balance| balance["period"] == "PERIOD_DAY").expect("a limit a day");
        assert_eq!(day["committed"], "800");
        // JSON may leave out a field that is zero.
        assert!(day["reserved"].is_null() || day["reserved"] == "0", "{day}");

        let refusal = shell.refused("tope.v1.QuotaService/Reserve", reserve(99_500)).await;
        for word in ["ResourceExhausted", "QuotaFailure", "ErrorInfo", "RetryInfo", "QUOTA_EXCEEDED"] {
            assert!(refusal.contains(word), "{word}: {refusal}");
        }
        let never = shell.refused("tope.v1.QuotaService/Reserve", reserve(100_001)).await;
        assert!(never.contains("QuotaFailure") && !never.contains("RetryInfo"), "{never}");

        let before = Clients::of(channel).books("acme").await;
        process.stop().await;
        let (process, channel) = Process::serving(database.url(), &database.path(""), &["--demo"]).await;
        assert_eq!(Clients::of(channel).books("acme").await, before, "a second start keeps it all");
        process.stop().await;
    }
}
