//! The `piaogen` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    piaogen_node::cli::main()
}
