//! A shell into which a test types the blocks of a page. Its folder looks like a clone of the repository.

use std::{
    env, fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use tempfile::TempDir;

use super::{
    files,
    page::{Block, Page, Step, matches},
    root, text_of,
};
use crate::harness::{
    clients::{connect, serving},
    database::scratch_folder,
    eventually,
    postgres::free_port,
    process::tool,
};

/// The server's address in the pages.
const ADDRESS: &str = "127.0.0.1:50051";

/// A shell session. When it is dropped, its folder is removed and all processes that it started are killed.
pub(super) struct Session {
    shell: Child,
    orders: ChildStdin,
    folder: TempDir,
    /// Texts in the pages, each with the text that replaces it in this session.
    meant: Vec<(String, String)>,
    address: String,
    blocks: usize,
    server: Option<Started>,
    started: Vec<Started>,
}

/// A block that runs in the background, as in a new terminal.
struct Started {
    block: usize,
    /// The id of the block's process group.
    group: String,
}

impl Session {
    pub(super) fn start() -> Self {
        let folder = scratch_folder();
        let (address, hook) = (format!("127.0.0.1:{}", free_port()), free_port());
        lay_out(folder.path(), &address);
        let path = env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(folder.path());
        for (name, _) in env::vars().filter(|(name, _)| name.starts_with("TOPE_") || name == "RUST_LOG") {
            command.env_remove(name);
        }
        command.env("PATH", format!("{}:{path}", folder.path().join("bin").display()));
        let log = fs::File::create(folder.path().join("shell.log")).expect("the folder can be written to");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        let mut shell = command.spawn().expect("every system has bash");
        let mut orders = shell.stdin.take().expect("it is piped");
        // Each background process gets a process group, so that it can be killed with all its children.
        writeln!(orders, "set -m").expect("the shell reads");
        let meant = [
            (ADDRESS.to_owned(), address.clone()),
            (":8000/".to_owned(), format!(":{hook}/")),
            ("receiver.py 8000".to_owned(), format!("receiver.py {hook}")),
            ("port 8000".to_owned(), format!("port {hook}")),
        ];
        let (meant, started) = (meant.into(), Vec::new());
        Self { shell, orders, folder, meant, address, blocks: 0, server: None, started }
    }

    /// Does what a reader does in this step.
    pub(super) async fn run(&mut self, page: &Page, step: &Step) {
        match step {
            Step::Types(block, output) => {
                let (number, status) = self.order(block, false).await;
                let printed = self.printed(number);
                match output {
                    Some(output) => check(page, output, &printed),
                    None => assert_eq!(status, "0", "{}: {printed}", page.place(block)),
                }
            }
            Step::Serves(block) => {
                self.stop_server().await;
                self.server = Some(self.start_in_background(block).await);
                serving(&connect(&format!("http://{}", self.address)).await).await;
            }
            Step::Starts(block) => {
                let started = self.start_in_background(block).await;
                let place = page.place(block);
                let says = format!("{place} prints something");
                eventually(&says, async || (!self.printed(started.block).is_empty()).then_some(())).await;
                self.started.push(started);
            }
            Step::Looks(output) => self.look(page, output).await,
            Step::Skips(block) => {
                let script = block.text.split_whitespace().next().unwrap_or_default();
                assert!(root().join(script).is_file(), "{}: there is no {script}", page.place(block));
            }
            Step::Reads(block, file) => {
                let indented: String = block.text.lines().map(|line| format!("    {line}\n")).collect();
                let text = text_of(file);
                let is_part = text.contains(&block.text) || text.contains(&indented);
                assert!(is_part, "{}: not a part of {file}", page.place(block));
            }
        }
    }

    /// Waits until the block that was started last has printed this output.
    async fn look(&self, page: &Page, output: &Block) {
        let number = self.started.last().expect("something was started").block;
        let shown = async || matches(&output.text, &self.printed(number)).is_ok().then_some(());
        let looking = eventually("the terminal shows what the page says", shown);
        // After a timeout, compare once more: a mismatch has a better message than a timeout.
        if tokio::time::timeout(std::time::Duration::from_secs(30), looking).await.is_err() {
            check(page, output, &self.printed(number));
        }
    }

    async fn stop_server(&mut self) {
        let Some(server) = self.server.take() else { return };
        let text = format!("kill -INT -- -{0}\nwait {0}\n", server.group);
        self.order(&Block { line: 0, info: String::new(), text }, false).await;
    }

    async fn start_in_background(&mut self, block: &Block) -> Started {
        let (number, group) = self.order(block, true).await;
        Started { block: number, group }
    }

    /// Types a block into the shell. Returns the number of the block, and its exit status or process group.
    async fn order(&mut self, block: &Block, background: bool) -> (usize, String) {
        self.blocks += 1;
        let number = self.blocks;
        let text =
            self.meant.iter().fold(block.text.clone(), |text, (shown, meant)| text.replace(shown, meant));
        let (end, status) = if background { ("&", "$!") } else { ("", "$?") };
        write!(
            self.orders,
            "{{\n{text}}} >out-{number} 2>&1 </dev/null {end}\necho {status} >status && mv status status-{number}\n"
        )
        .expect("the shell reads");
        let status = self.folder.path().join(format!("status-{number}"));
        let what = format!("a block is done: {text}");
        let status = eventually(&what, async || fs::read_to_string(&status).ok()).await;
        (number, status.trim().to_owned())
    }

    /// Returns the output of a block so far. Texts that were replaced in this session are replaced by the texts of the
    /// page.
    fn printed(&self, block: usize) -> String {
        let bytes = fs::read(self.folder.path().join(format!("out-{block}"))).unwrap_or_default();
        let printed = String::from_utf8_lossy(&bytes).into_owned();
        self.meant.iter().fold(printed, |text, (shown, meant)| text.replace(meant, shown))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for started in self.started.iter().chain(&self.server) {
            let order = format!("kill -KILL -{}", started.group);
            // An error only means that the processes have ended already.
            let _ = Command::new("sh").args(["-c", &order]).stderr(Stdio::null()).status();
        }
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn check(page: &Page, output: &Block, printed: &str) {
    if let Err(line) = matches(&output.text, printed) {
        panic!(
            "{}: not printed: {line:?}. The page shows\n{}\nand printed was\n{printed}",
            page.place(output),
            output.text
        );
    }
}

/// Puts files into the folder like in a clone, as far as the pages use them. The program listens on the session's free
/// port without a flag. The program is built already, and the Python packages of the pages are installed already.
fn lay_out(folder: &Path, address: &str) {
    symlink(root().join("proto"), folder.join("proto")).expect("the folder can be written to");
    for name in ["bin", "examples/python", "target/debug"] {
        fs::create_dir_all(folder.join(name)).expect("the folder can be written to");
    }
    for example in files("examples/python", ".py") {
        let text = text_of(&example).replace(ADDRESS, address);
        fs::write(folder.join(example), text).expect("the folder can be written to");
    }
    let program = env!("CARGO_BIN_EXE_tope");
    script(
        &folder.join("target/debug/tope"),
        &format!(
            "export TOPE_TARGET={address}\n[ $1 = serve ] && export TOPE_LISTEN={address} TOPE_HTTP=off\nexec {program:?} \"$@\""
        ),
    );
    script(
        &folder.join("bin/cargo"),
        "case \"$*\" in\nbuild) ;;\n'run -- '*) shift 2; exec target/debug/tope \"$@\" ;;\n*) exit 1 ;;\nesac",
    );
    let python = tool("TOPE_TEST_PYTHON");
    script(
        &folder.join("bin/python3"),
        &format!(
            "case \"$1 $2\" in\n'-m venv') mkdir -p \"$3/bin\" && : >\"$3/bin/activate\" ;;\n*) exec {python:?} \"$@\" ;;\nesac"
        ),
    );
    script(
        &folder.join("bin/pip"),
        &format!(
            "[ \"$*\" = 'install grpcio-tools grpcio-status' ] && exec {python:?} -c 'import grpc_tools, grpc_status'"
        ),
    );
    symlink(tool("TOPE_TEST_GRPCURL"), folder.join("bin/grpcurl")).expect("the folder can be written to");
}

fn script(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("the folder can be written to");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the file belongs to this user");
}
