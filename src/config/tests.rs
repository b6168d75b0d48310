//! Tests of the settings: precedence, ranges, errors, and the printed form.

use super::*;

#[test]
fn a_fault_names_the_setting_and_where_it_was_given() {
    let directory = tempfile::tempdir().expect("a folder");
    let cases = [
        ("listen = \"nonsense\"", "setting \"listen\" in "),
        ("http = \"nowhere\"", "must be an IP address and a port, such as 127.0.0.1:50052, or off"),
        ("http = true", "must be an IP address and a port, such as 127.0.0.1:50052, or off"),
        ("lanes = \"two\"", "must be a number, 1 to 64, but is string \"two\""),
        ("lanes = 65", "lanes must be 1 to 64, but is 65"),
        ("lsten = \"127.0.0.1:1\"", "\"lsten\" in "),
        ("log_format = \"xml\"", "must be text or json"),
        ("drain_seconds = -1", "must be a number of seconds, at most 86400"),
        ("drain_seconds = 86401", "drain_seconds must be at most 86400, but is 86401"),
        ("lanes = [", "tope.toml cannot be read: TOML parse error at line 1, column 10; "),
        (
            "lanes = 1\nlanes = 2",
            "tope.toml cannot be read: TOML parse error at line 2, column 1; duplicate key",
        ),
        ("reservation_retention_days = 0", "reservation_retention_days must be 1 to 36500, but is 0"),
        ("reservation_retention_days = \"x\"", "must be a number of days"),
        ("event_retention_days = 1", "event_retention_days must be 2 to 36500, but is 1"),
        ("event_retention_days = \"x\"", "must be a number of days"),
        ("request_id_retention_hours = -1", "must be a number of hours"),
        ("webhook_allow_http = \"yes\"", "must be true or false"),
        ("webhook_allow_private = 1", "must be true or false"),
        ("request_id_retention_hours = 23", "request_id_retention_hours must be at least 24, but is 23"),
        ("counter_retention_days = 35", "counter_retention_days must be 36 to 36500, but is 35"),
        (
            "reservation_retention_days = 401",
            "counter_retention_days must be at least reservation_retention_days, which is 401, but is 400",
        ),
        ("metrics_auth = \"keys\"", "metrics_auth is keys, but auth is off"),
        ("jwt_issuer = \"a\"", "jwt_issuer is set, but jwt_audience is not; JWTs need both"),
        ("jwt_jwks = \"a\"", "jwt_jwks is set, but jwt_issuer is not; JWTs need both"),
        ("jwt_issuer = \"a\"\njwt_audience = \"b\"\njwt_jwks = \"c\"", "jwt_issuer is set, but auth is off"),
        ("counters_per_tenant_max = 0", "counters_per_tenant_max must be 1 to 100000000, but is 0"),
        (
            "request_id_retention_hours = 49\nreservation_retention_days = 2",
            "request_id_retention_hours must be at most reservation_retention_days, which is 2 (48 hours), but is 49",
        ),
    ];
    for (text, said) in cases {
        let file = directory.path().join("tope.toml");
        std::fs::write(&file, text).expect("written");
        let error = load(Some(&file), &Flags::default()).expect_err(text);
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains('\n'), "{text}: {error}");
    }
    std::fs::write(directory.path().join("bytes"), [0xff, 0xfe]).expect("written");
    let bytes = load(Some(&directory.path().join("bytes")), &Flags::default()).expect_err("no text");
    assert!(bytes.contains("bytes cannot be read: "), "{bytes}");
    let missing = load(Some(&directory.path().join("none")), &Flags::default()).expect_err("missing");
    assert!(missing.ends_with("does not exist"), "{missing}");
    let folder = load(Some(directory.path()), &Flags::default()).expect_err("a folder");
    assert!(folder.ends_with("is not a file"), "{folder}");
}

#[test]
fn the_keys_of_jwts_come_from_a_file_or_a_url_that_nobody_can_change_on_the_way() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("tope.toml");
    let load_with = |more: &str| {
        let text = format!("auth = \"keys\"\njwt_issuer = \"i\"\njwt_audience = \"a\"\n{more}\n");
        std::fs::write(&file, text).expect("written");
        load(Some(&file), &Flags::default())
    };
    let right = [
        "keys.json",
        "/etc/tope/keys.json",
        "https://idp.example/keys?a=b",
        "http://localhost:1/keys",
        "http://127.9.9.9/keys",
        "http://[::1]:8080/keys",
    ];
    for jwks in right {
        load_with(&format!("jwt_jwks = \"{jwks}\"")).expect(jwks);
    }
    let cases = [
        ("http://idp.example/keys", "must be an https URL"),
        ("http://localhost.example/keys", "must be an https URL"),
        ("http://[2001:db8::1]/keys", "must be an https URL"),
        ("https://me:secret@idp.example/keys", "without user and password"),
        ("http://127.0.0.1@idp.example/keys", "without user and password"),
        ("ftp://idp.example/keys", "must be the name of a file, or an https URL"),
        ("https://", "must be the name of a file, or an https URL"),
        ("https://a b/secret", "must be the name of a file, or an https URL"),
    ];
    for (jwks, said) in cases {
        let error = load_with(&format!("jwt_jwks = \"{jwks}\"")).expect_err(jwks);
        assert!(error.starts_with("jwt_jwks ") && error.contains(said), "{jwks}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
    for claim in ["jwt_role_claim", "jwt_tenants_claim", "jwt_agents_claim"] {
        let error = load_with(&format!("jwt_jwks = \"a\"\n{claim} = \"\"")).expect_err(claim);
        assert!(error.starts_with(claim), "{error}");
    }
}

#[test]
fn a_warning_names_the_unknown_variable_and_the_most_similar_variable() {
    let given = ["TOPE_DATABSE", "TOPE_LANES", "TOPE_CONFIG", "TOPE_XYZ", "HOME"].map(str::to_owned);
    assert_eq!(
        unknown_variables(given.into_iter()),
        [
            "the environment variable TOPE_DATABSE has no effect; did you mean TOPE_DATABASE?",
            "the environment variable TOPE_XYZ has no effect",
        ]
    );
}

#[test]
fn printed_settings_can_be_read_back() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("tope.toml");
    let config = Config {
        lanes: 7,
        http: HttpAddress(None),
        database: "sqlite://a \"b\".db".to_owned(),
        ..Config::default()
    };
    std::fs::write(&file, print(&config, &config.database).expect("printed")).expect("written");
    let read = load(Some(&file), &Flags::default()).expect("loaded");
    assert_eq!(format!("{read:?}"), format!("{config:?}"));
}

#[test]
fn the_help_of_a_flag_has_its_range_and_its_default() {
    let command = describe(<Flags as clap::Args>::augment_args(clap::Command::new("serve")));
    let help = |id: &str| {
        let argument = command.get_arguments().find(|argument| argument.get_id() == id);
        argument.and_then(clap::Arg::get_help).map(ToString::to_string).unwrap_or_default()
    };
    for (id, end) in [
        ("drain_seconds", " [at most 86400] [default: 10] [env: TOPE_DRAIN_SECONDS]"),
        ("request_id_retention_hours", " [at least 24] [default: 24] [env: TOPE_REQUEST_ID_RETENTION_HOURS]"),
        ("event_retention_days", " [2 to 36500] [default: 30] [env: TOPE_EVENT_RETENTION_DAYS]"),
        ("log_format", " the log contains [default: text] [env: TOPE_LOG_FORMAT]"),
    ] {
        assert!(help(id).ends_with(end), "{id}: {}", help(id));
    }
}

#[test]
fn flags_come_before_the_file() {
    let directory = tempfile::tempdir().expect("a folder");
    let file = directory.path().join("tope.toml");
    std::fs::write(&file, "lanes = 3\ndrain_seconds = 4").expect("written");
    let config = load(Some(&file), &Flags { lanes: Some(5), ..Flags::default() }).expect("loaded");
    assert_eq!((config.lanes, config.drain_seconds), (5, 4));
}
