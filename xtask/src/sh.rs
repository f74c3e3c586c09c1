//! Running other programs: each is echoed, and a failure names it.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The folder for what is built; filter-user's build script looks for its tools here.
pub fn target() -> PathBuf {
    workspace().join("target")
}

/// A command that runs in the workspace's folder.
pub fn command<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(workspace());
    command
}

/// The cargo that started this program.
pub fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// A command with root's rights: as it is where we have them, else through sudo.
pub fn as_root<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = A>) -> Result<Command> {
    if is_root()? {
        return Ok(command(program.as_ref(), arguments));
    }
    let mut sudo = command("sudo", [program.as_ref()]);
    sudo.args(arguments);
    ensure!(found("sudo"), "{} needs root: run this as root, or install sudo", shown(&sudo));
    Ok(sudo)
}

/// Lets cargo start what it builds through sudo, so that only the built programs run as root, and not the build.
/// `settings` is what they find in their environment.
pub fn run_built_as_root(cargo: &mut Command, settings: &[(&str, &str)]) -> Result<()> {
    if is_root()? {
        cargo.envs(settings.iter().copied());
        return Ok(());
    }
    ensure!(found("sudo"), "{} needs root: run this as root, or install sudo", shown(cargo));
    let settings: String = settings.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let triple = env!("XTASK_HOST").to_uppercase().replace('-', "_");
    cargo.env(format!("CARGO_TARGET_{triple}_RUNNER"), format!("sudo env{settings}"));
    Ok(())
}

fn is_root() -> Result<bool> {
    Ok(std::fs::metadata("/proc/self").context("/proc/self")?.uid() == 0)
}

/// Whether a program is in the search path.
pub fn found(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs a command to its end; its output is shown.
pub fn run(command: &mut Command) -> Result<()> {
    echo(command);
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// Runs a command to its end and hands each line of its standard output over, which is shown too. Tells whether the
/// command succeeded.
pub fn run_lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool> {
    echo(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let output = child.stdout.take().context("no standard output")?;
    for bytes in BufReader::new(output).split(b'\n') {
        let bytes = bytes.with_context(|| format!("reading from {}", shown(command)))?;
        let text = String::from_utf8_lossy(&bytes);
        println!("{text}");
        line(&text);
    }
    Ok(child.wait().with_context(|| shown(command))?.success())
}

/// Runs a command silently and returns its standard output.
pub fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!("{} failed: {}: {}", shown(command), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| shown(command))
}

fn echo(command: &Command) {
    eprintln!("+ {}", shown(command));
}

/// The command as one would type it: what is set in its environment, then its words.
fn shown(command: &Command) -> String {
    let set = command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", name.display(), quoted(value?))));
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args()).map(quoted);
    set.chain(words).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    if word.is_empty() || word.contains(char::is_whitespace) { format!("'{word}'") } else { word.into_owned() }
}
