//! The command `cordon`.

fn main() -> std::process::ExitCode {
    filter_user::cli::main()
}
