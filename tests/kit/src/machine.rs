//! What a machine answers when a program is run on it: all that the choice of tools knows of it.

use std::process::{Command, Stdio};

/// What a program said, and how it ended.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Its exit status; none if it could not be started, or was killed.
    pub status: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

impl Said {
    /// Ended with 0.
    #[must_use]
    pub fn good(&self) -> bool {
        self.status == Some(0)
    }
}

/// Runs programs, tells the reader, and waits.
pub trait Machine {
    /// Runs a program to its end, with nothing on stdin.
    fn run(&mut self, program: &str, arguments: &[&str]) -> Said;
    /// Tells the person at the terminal.
    fn tell(&mut self, line: &str);
    /// Waits.
    fn wait(&mut self, seconds: u64);
}

/// This machine.
#[derive(Debug, Default)]
pub struct Here {
    /// Tells nothing.
    pub quiet: bool,
}

impl Machine for Here {
    fn run(&mut self, program: &str, arguments: &[&str]) -> Said {
        let output = Command::new(program)
            .args(arguments)
            // What is said is read by a program, and what `cargo run` left belongs to another toolchain.
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env_remove("LD_LIBRARY_PATH")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .output();
        output.map_or_else(
            |_| Said::default(),
            |output| Said {
                status: output.status.code(),
                out: String::from_utf8_lossy(&output.stdout).into_owned(),
                err: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
        )
    }

    fn tell(&mut self, line: &str) {
        if !self.quiet {
            eprintln!("{line}");
        }
    }

    fn wait(&mut self, seconds: u64) {
        std::thread::sleep(std::time::Duration::from_secs(seconds));
    }
}
