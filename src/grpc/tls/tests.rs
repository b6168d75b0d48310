//! Tests of the checks of the files. The tests with clients are in `tests/it/tls.rs`.

use std::{fs, path::Path};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{
    files::{Moment, TlsFiles},
    *,
};

/// Makes a certificate for localhost that is valid in these years, and its key, as PEM.
fn made(years: [i32; 2]) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(years[0], 1, 1);
    params.not_after = date_time_ymd(years[1], 1, 1);
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

fn written(folder: &Path, (cert, key): &(String, String)) -> TlsFiles {
    let files = TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem"), client_ca: None };
    fs::write(&files.cert, cert).expect("written");
    fs::write(&files.key, key).expect("written");
    files
}

#[test]
fn the_bounds_of_a_certificate_are_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = written(folder.path(), &made([2001, 4096])).load().expect("they fit");
    assert_eq!(loaded.expires.to_string(), "4096-01-01 00:00:00 UTC");
    assert!(loaded.check_time(Moment::now()).is_ok());
    let error = loaded.check_time(Moment(loaded.expires.0 + 1)).expect_err("after its end").to_string();
    assert!(error.ends_with("cert.pem, whose certificate has expired on 4096-01-01 00:00:00 UTC"), "{error}");
    let error = loaded.check_time(Moment(978_307_199)).expect_err("before its begin").to_string();
    assert!(error.ends_with("is not valid before 2001-01-01 00:00:00 UTC"), "{error}");
}

#[test]
fn each_fault_of_a_file_names_the_setting() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = made([2001, 4096]);
    let fault = |name: &str, text: Option<&str>| {
        let mut files = written(folder.path(), &good);
        files.client_ca = Some(folder.path().join("ca.pem"));
        fs::write(folder.path().join("ca.pem"), &good.0).expect("written");
        let path = folder.path().join(name);
        match text {
            Some(text) => fs::write(&path, text).expect("written"),
            None => fs::remove_file(&path).expect("removed"),
        }
        let error = files.load().map(drop).expect_err(name).to_string();
        error.replace(&folder.path().display().to_string(), "")
    };
    let cut = &good.0[..good.0.len() - 40];
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let rows: [(&str, Option<&str>, &str); 12] = [
        ("cert.pem", None, "tls_cert names /cert.pem, which does not exist"),
        ("key.pem", None, "tls_key names /key.pem, which does not exist"),
        ("ca.pem", None, "tls_client_ca names /ca.pem, which does not exist"),
        ("cert.pem", Some("x"), "tls_cert names /cert.pem, which is not PEM: no line begins with -----BEGIN"),
        ("cert.pem", Some(cut), "tls_cert names /cert.pem, which is not PEM: a line -----END is missing"),
        ("cert.pem", Some(&good.1), "tls_cert names /cert.pem, which contains no certificate"),
        ("cert.pem", Some(empty), "tls_cert names /cert.pem, which contains a malformed certificate"),
        ("ca.pem", Some(empty), "tls_client_ca names /ca.pem, which contains a malformed certificate"),
        ("ca.pem", Some(&good.1), "tls_client_ca names /ca.pem, which contains no certificate"),
        ("key.pem", Some(&good.0), "tls_key names /key.pem, which contains no private key"),
        (
            "key.pem",
            Some(encrypted),
            "tls_key names /key.pem, whose key is encrypted; Tope needs a key without a passphrase",
        ),
        (
            "key.pem",
            Some(&made([2001, 4096]).1),
            "tls_key names /key.pem, whose key does not fit the certificate in /cert.pem",
        ),
    ];
    for (name, text, want) in rows {
        assert_eq!(fault(name, text), want);
    }
}

#[test]
fn new_files_are_used_only_if_they_are_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = Tls::load(written(folder.path(), &made([2001, 4001]))).expect("they fit");
    assert_eq!(tls.expires().to_string(), "4001-01-01 00:00:00 UTC");
    let other = made([2001, 4002]);
    for wrong in [(other.0.clone(), made([2001, 4003]).1), made([2001, 2002]), made([4001, 4002])] {
        written(folder.path(), &wrong);
        tls.look(true);
        assert_eq!(tls.expires().to_string(), "4001-01-01 00:00:00 UTC");
    }
    written(folder.path(), &other);
    tls.look(true);
    assert_eq!(tls.expires().to_string(), "4002-01-01 00:00:00 UTC");
}
