//! The packages of `scripts/package`: each is installed into a fresh place, and serves from there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::harness::{
    database::scratch_folder,
    process::{PROGRAM, run, said, tool, tope_at},
    *,
};

/// Maximum time from the end of an install command to the reply of the first Reserve.
const FIRST_CALL_MAX: Duration = Duration::from_secs(10);

/// What a terminal shows after `tope res` and the tab key.
const TAB: &str = r#"source "$1"
COMP_WORDS=(tope "$2")
COMP_CWORD=1
_tope tope "$2" tope
printf '%s\n' "${COMPREPLY[@]}""#;

fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text_of(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a command that must succeed, and returns its output.
async fn succeed(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command).await;
    assert!(output.status.success(), "{shown}: {}", said(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn order<'a>(program: impl AsRef<Path>, arguments: impl IntoIterator<Item = &'a Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.args(arguments);
    command
}

/// Packs the program, and returns the path of the package.
async fn pack(format: &str, folder: &Path) -> PathBuf {
    let script = of_repository("scripts/package");
    let mut command = order(tool("TOPE_TEST_PYTHON"), [script.as_path()]);
    command.args([format, "--fast", "--binary", PROGRAM, "--out"]).arg(folder.join("packages"));
    succeed(command).await.trim().into()
}

/// Serves from an installed program, as its user would do at once.
async fn assert_serves(program: &Path) {
    let installed = Instant::now();
    let folder = scratch_folder();
    let mut command = tope_at(program);
    command.current_dir(folder.path());
    let process = Process::start_as(command, "sqlite://tope.db", folder.path(), &["--demo"]);
    let target = process.target();
    let printed = eventually("the first Reserve succeeds", async || {
        let mut command = tope_at(program);
        command.args(["reserve", "acme", "tokens=1000", "--request-id", "call-1", "--target", &target]);
        let output = run(command).await;
        output.status.success().then(|| said(&output))
    })
    .await;
    let passed = installed.elapsed();
    assert!(printed.contains("RESERVED"), "{printed}");
    assert!(passed < FIRST_CALL_MAX, "{passed:?}: {}", process.log());
    assert!(folder.path().join("tope.db").is_file(), "the data is in the current folder");
    process.stop().await;
}

/// Checks that `man` shows each page without a complaint, and that hidden commands have no page.
async fn assert_man_pages(folder: &Path) {
    let pages = fs::read_dir(folder).expect("the folder exists").map(|entry| entry.expect("an entry").path());
    let mut names = Vec::new();
    for page in pages {
        names.push(page.file_name().expect("a name").to_string_lossy().trim_end_matches(".gz").to_owned());
        let mut command = order("man", [Path::new("--warnings"), Path::new("-l"), &page]);
        command.env("LC_ALL", "C.UTF-8").env("MANPAGER", "cat");
        let output = run(command).await;
        let shown = said(&output);
        assert!(output.status.success() && output.stderr.is_empty(), "{}: {shown}", page.display());
        assert!(shown.contains("NAME") && shown.contains("SYNOPSIS"), "{}: {shown}", page.display());
    }
    for name in ["tope.1", "tope-serve.1", "tope-jobs-run.1", "tope-completions.1"] {
        assert!(names.iter().any(|page| page == name), "{name}: {names:?}");
    }
    for name in ["tope-man.1", "tope-bench-empty.1"] {
        assert!(!names.iter().any(|page| page == name), "{name} is hidden: {names:?}");
    }
}

async fn assert_completions(bash: &Path, zsh: &Path, fish: &Path) {
    succeed(order("bash", [Path::new("-n"), bash])).await;
    for (begun, want) in [("res", "reserve\n"), ("comm", "commit\n"), ("man", "\n"), ("bench-", "\n")] {
        let mut command = order("bash", ["--norc", "-c", TAB, "tab"].map(Path::new));
        command.arg(bash).arg(begun);
        assert_eq!(succeed(command).await, want, "{begun}");
    }
    assert!(text_of(zsh).starts_with("#compdef tope"));
    assert!(text_of(fish).contains("complete -c tope"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pip_installs_the_wheel_without_an_index() {
    let folder = scratch_folder();
    let wheel = pack("wheel", folder.path()).await;
    let venv = folder.path().join("venv");
    succeed(order(tool("TOPE_TEST_PYTHON"), [Path::new("-m"), Path::new("venv"), &venv])).await;
    let mut command = order(venv.join("bin/pip"), []);
    command.args(["--isolated", "--disable-pip-version-check", "install", "--no-index"]).arg(&wheel);
    succeed(command).await;
    assert_serves(&venv.join("bin/tope")).await;
    assert_man_pages(&venv.join("share/man/man1")).await;
    let completions = [
        "share/bash-completion/completions/tope",
        "share/zsh/site-functions/_tope",
        "share/fish/vendor_completions.d/tope.fish",
    ];
    let [bash, zsh, fish] = completions.map(|path| venv.join(path));
    assert_completions(&bash, &zsh, &fish).await;
    let mut command = order(venv.join("bin/pip"), []);
    command.args(["--isolated", "--disable-pip-version-check", "show", "--files", "tope"]);
    let shown = succeed(command).await;
    for file in ["licenses/LICENSE", "licenses/THIRD-PARTY.txt", "bin/tope"] {
        assert!(shown.contains(file), "{file}: {shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_installs_the_package_offline() {
    let folder = scratch_folder();
    let package = pack("npm", folder.path()).await;
    let project = folder.path().join("project");
    let mut command = Command::new("npm");
    command.args(["install", "--offline", "--no-audit", "--no-fund", "--no-update-notifier", "--prefix"]);
    command.arg(&project).arg(&package).env("npm_config_cache", folder.path().join("cache"));
    succeed(command).await;
    assert_serves(&project.join("node_modules/.bin/tope")).await;
    let module = project.join("node_modules/tope");
    assert_man_pages(&module.join("man")).await;
    let [bash, zsh, fish] =
        ["bash", "zsh", "fish"].map(|shell| module.join(format!("completions/tope.{shell}")));
    assert_completions(&bash, &zsh, &fish).await;
    for file in ["LICENSE", "README.md", "THIRD-PARTY.txt"] {
        assert!(module.join(file).is_file(), "{file}");
    }
}

/// Makes a command of dpkg whose packages are those of a folder. The host's settings must not leave out man pages.
fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("fakeroot");
    command.args(["dpkg", "--force-script-chrootless", "--force-depends", "--force-bad-path"]);
    command.args(["--path-include=/usr/share/*", "--root"]).arg(root);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dpkg_installs_the_deb_and_systemd_accepts_its_unit() {
    let folder = scratch_folder();
    let deb = pack("deb", folder.path()).await;
    let root = folder.path().join("root");
    for path in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(path)).expect("a new folder");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("a new file");
    let mut command = dpkg(&root);
    command.arg("--install").arg(&deb);
    succeed(command).await;
    assert_serves(&root.join("usr/bin/tope")).await;
    assert_man_pages(&root.join("usr/share/man/man1")).await;
    let completions = [
        "usr/share/bash-completion/completions/tope",
        "usr/share/zsh/vendor-completions/_tope",
        "usr/share/fish/vendor_completions.d/tope.fish",
    ];
    let [bash, zsh, fish] = completions.map(|path| root.join(path));
    assert_completions(&bash, &zsh, &fish).await;
    for file in ["copyright", "README.md", "THIRD-PARTY.txt.gz"] {
        assert!(root.join("usr/share/doc/tope").join(file).is_file(), "{file}");
    }
    let settings = fs::metadata(root.join("etc/tope/tope.env")).expect("the file of settings");
    assert_eq!(settings.permissions().mode() & 0o777, 0o600, "it may contain a password");
    assert_unit(&root).await;

    let mut command = dpkg(&root);
    command.args(["--verify", "tope"]);
    assert_eq!(succeed(command).await, "", "no file differs from its checksum");
    let mut command = dpkg(&root);
    command.args(["--purge", "tope"]);
    succeed(command).await;
    assert!(!root.join("usr/bin").exists() && !root.join("etc/tope").exists(), "nothing is left");
}

/// The targets that the unit names are those of this machine.
async fn assert_unit(root: &Path) {
    let units = root.join("usr/lib/systemd/system");
    let ours = fs::read_dir("/usr/lib/systemd/system").or_else(|_| fs::read_dir("/lib/systemd/system"));
    for unit in ours.expect("systemd is installed").map(|entry| entry.expect("an entry").path()) {
        if unit.extension().is_some_and(|extension| extension == "target") {
            let copy = units.join(unit.file_name().expect("a name"));
            fs::write(copy, fs::read(&unit).expect("it can be read")).expect("a new file");
        }
    }
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg("--root").arg(root).arg("tope.service");
        command.env("MANPATH", root.join("usr/share/man"));
        run(command)
    };
    let output = analyze(&["verify"]).await;
    assert!(output.status.success() && output.stderr.is_empty(), "{}", said(&output));
    // 10 is a service without any protection, and 0 a service that can do nothing. The threshold is 10 times as large.
    let output = analyze(&["security", "--offline=true", "--threshold=20"]).await;
    assert!(output.status.success(), "{}", said(&output));
    for entry in fs::read_dir(&units).expect("the folder exists").map(|entry| entry.expect("an entry").path())
    {
        if entry.extension().is_some_and(|extension| extension == "target") {
            fs::remove_file(entry).expect("our copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_program_makes_the_same_package() {
    let folder = scratch_folder();
    let script = of_repository("scripts/package");
    let pack = async |zone: &str, mask: &str| {
        let mut command = Command::new("bash");
        command.args(["-c", "umask $1; shift; exec \"$@\"", "umask", mask]);
        command
            .arg(tool("TOPE_TEST_PYTHON"))
            .arg(&script)
            .args(["deb", "--fast", "--binary", PROGRAM, "--out"]);
        command.arg(folder.path().join(mask)).env("TZ", zone);
        fs::read(succeed(command).await.trim()).expect("the package is there")
    };
    let (here, there) = tokio::join!(pack("UTC", "022"), pack("Asia/Tokyo", "077"));
    assert!(here == there, "{} bytes and {} bytes", here.len(), there.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_script_names_what_it_cannot_pack() {
    let rows: [(&[&str], &str); 3] = [
        (&["rpm"], "rpm must be one of wheel, npm, deb"),
        (&["--binary", "/nowhere/tope"], "/nowhere/tope (--binary) is not a file"),
        (
            &["--binary", concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")],
            "README.md is not a program for Linux",
        ),
    ];
    for (arguments, want) in rows {
        let mut command = order(tool("TOPE_TEST_PYTHON"), [of_repository("scripts/package").as_path()]);
        command.args(arguments);
        let output = run(command).await;
        assert!(!output.status.success() && said(&output).contains(want), "{want}: {}", said(&output));
    }
}

/// Returns the objects of a file of `packaging/kubernetes`.
async fn kubernetes(file: &str) -> Vec<Value> {
    let read = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let path = of_repository("packaging/kubernetes").join(file);
    let text = succeed(order(tool("TOPE_TEST_PYTHON"), [Path::new("-c"), Path::new(read), &path])).await;
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_for_kubernetes_fit_each_other_and_the_server() {
    let deployment = kubernetes("deployment.yaml").await.remove(0);
    let pod = &deployment["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let variable = |name: &str| {
        let all = container["env"].as_array().expect("variables");
        all.iter().find(|variable| variable["name"] == name).expect("the variable").clone()
    };
    let drain: u64 =
        variable("TOPE_DRAIN_SECONDS")["value"].as_str().expect("text").parse().expect("a number");
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().expect("a number");
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(grace >= pause + drain + 10, "Kubernetes kills the server {grace} s after the pause begins");
    assert!(variable("TOPE_DATABASE")["valueFrom"]["secretKeyRef"].is_object(), "no secret in the manifest");
    assert_eq!(container["image"], concat!("tope:", env!("CARGO_PKG_VERSION")));
    let port = |name: &str| {
        let ports = container["ports"].as_array().expect("ports");
        let port = ports.iter().find(|port| port["name"] == name).expect("the port");
        port["containerPort"].to_string()
    };
    for (name, variable) in [("grpc", variable("TOPE_LISTEN")), ("http", variable("TOPE_HTTP"))] {
        assert_eq!(variable["value"], format!("0.0.0.0:{}", port(name)));
    }
    assert_eq!(container["readinessProbe"]["grpc"]["port"].to_string(), port("grpc"));
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], port("http"));
    let labels = &pod["metadata"]["labels"];
    let service = kubernetes("service.yaml").await.remove(0);
    let budget = kubernetes("poddisruptionbudget.yaml").await.remove(0);
    let selectors = [&service["spec"]["selector"], &budget["spec"]["selector"]["matchLabels"]];
    for selector in [&deployment["spec"]["selector"]["matchLabels"]].into_iter().chain(selectors) {
        assert_eq!(selector, labels);
    }
    assert_eq!(
        manifests(),
        ["deployment.yaml", "poddisruptionbudget.yaml", "service.yaml"],
        "each is checked here"
    );
}

/// Lists the files of `packaging/kubernetes`, sorted by name.
fn manifests() -> Vec<String> {
    let entries = fs::read_dir(of_repository("packaging/kubernetes")).expect("the folder exists");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_image_is_built_with_the_pinned_compiler() {
    let toolchain = text_of(&of_repository("rust-toolchain.toml"));
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).expect("a channel");
    let from = format!("FROM rust:{}-", version.trim_end_matches('"'));
    let dockerfile = text_of(&of_repository("packaging/Dockerfile"));
    assert!(dockerfile.lines().any(|line| line.starts_with(&from)), "{from}");
}
