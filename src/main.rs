//! `tulga`: see `tulga --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    tulga::cli::main()
}
