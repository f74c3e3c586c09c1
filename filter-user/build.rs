//! Builds the BPF objects and puts them where `kernel::object` embeds them from.
//!
//! The objects are built by the toolchain that builds this crate, into a target folder of their own: cargo holds the
//! lock of the outer one. Without the BPF tools the build goes on with empty objects, which say so when loaded.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use object::{Object as _, ObjectSymbol as _};

const TARGET: &str = "bpfel-unknown-none";

/// Binaries of filter-ebpf. One that the package does not have becomes an empty object.
const OBJECTS: [&str; 3] = ["cordon", "bench", "live"];

fn main() -> Result<(), Box<dyn Error>> {
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().ok_or("the package lies outside its workspace")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let linker = workspace.join("target/tools/bin/bpf-linker");
    for path in ["filter-ebpf", "filter-common", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo:rerun-if-changed={}", linker.display());

    for name in OBJECTS {
        fs::write(out.join(name), [])?;
    }
    if let Some(missing) = missing_tool(&linker)? {
        // Cargo runs the script at each build while a file that it depends on is not there: until the tools are.
        println!("cargo:rerun-if-changed={}", out.join("bpf-tools").display());
        println!("cargo:warning=built without the XDP program, because {missing} is missing: run `cargo xtask setup`");
        return Ok(());
    }
    let built = build(workspace, &linker)?;
    for name in OBJECTS {
        let binary = built.join(name);
        if binary.exists() {
            let object = fs::read(&binary)?;
            refuse_panics(name, &object)?;
            fs::write(out.join(name), object)?;
        }
    }
    Ok(())
}

fn missing_tool(linker: &Path) -> Result<Option<&'static str>, Box<dyn Error>> {
    if !linker.exists() {
        return Ok(Some("bpf-linker"));
    }
    let output = Command::new(env::var("RUSTC")?).args(["--print", "sysroot"]).output()?;
    let sysroot = String::from_utf8(output.stdout)?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    Ok((!source.exists()).then_some("rust-src"))
}

/// Builds all of the package's binaries; returns the folder that has them.
fn build(workspace: &Path, linker: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let target_dir = workspace.join("target/bpf");
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        // Read by aya-ebpf, for the layout of registers.
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        format!("-Clinker={}", linker.display()),
        // BTF is made from debug information; bpf_loop needs its func_info.
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
        // Values are copied and zeroed word by word in place: otherwise by calls of functions that go octet by octet.
        "-Clink-arg=--disable-expand-memcpy-in-order".into(),
        // 32-bit arithmetic and jumps.
        "-Ctarget-cpu=v3".into(),
    ];
    let features = if env::var_os("CARGO_FEATURE_BPF_LOG").is_some() { "log" } else { "" };
    let output = Command::new(env::var("CARGO")?)
        .current_dir(workspace)
        .args(["build", "--package", "filter-ebpf", "--bins", "--release", "--target", TARGET])
        .args(["--features", features])
        .args(["-Z", "build-std=core", "--color", "never", "--target-dir"])
        .arg(&target_dir)
        // Only for the BPF build: build-std is not stable.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // clippy and the like are for the host.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .output()?;
    if !output.status.success() {
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        return Err("the XDP program does not build; cargo's messages are above".into());
    }
    Ok(target_dir.join(TARGET).join("release"))
}

/// A call of a panic function ends the program without an exit, which the verifier reports as "last insn is not an
/// exit or jmp" and nothing more.
fn refuse_panics(name: &str, data: &[u8]) -> Result<(), Box<dyn Error>> {
    let file = object::File::parse(data)?;
    let symbols: Vec<_> =
        file.symbols().filter_map(|symbol| symbol.name().ok()).filter(|name| name.contains("panicking")).collect();
    if symbols.is_empty() {
        return Ok(());
    }
    Err(format!("the XDP object `{name}` can panic (an index, a slice or a division that is not checked): {symbols:?}")
        .into())
}
