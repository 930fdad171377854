//! `cargo xtask stress`: stresses the built driver and says what was done to it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use rig::image;
use rig::stress::{self, Load};

const USAGE: &str = "stress [--image FILE] [--seconds N] [--disks N] [--threads N] [--seed N]";

fn options() -> Result<(PathBuf, Load), lexopt::Error> {
    let mut image = image::built();
    let mut load = Load {
        time: Duration::from_secs(30),
        disks: 16,
        threads: 8,
        seed: 1,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => image = arguments.value()?.into(),
            Long("seconds") => load.time = Duration::from_secs(arguments.value()?.parse()?),
            Long("disks") => load.disks = arguments.value()?.parse::<usize>()?.max(1),
            Long("threads") => load.threads = arguments.value()?.parse::<usize>()?.max(1),
            Long("seed") => load.seed = arguments.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    Ok((image, load))
}

fn main() -> ExitCode {
    let (image, load) = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("stress: {error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    let (disks, threads, seconds) = (load.disks, load.threads, load.time.as_secs());
    eprintln!(
        "{threads} threads on {disks} disks for {seconds} s, seed {}",
        load.seed
    );
    match stress::run(&image, load) {
        Ok(counts) => {
            println!(
                "{} requests, {} commands",
                counts.requests(),
                counts.commands
            );
            println!("{} cancels, {} removals", counts.cancels, counts.removals);
            for (status, count) in &counts.ends {
                let name = scsi_reserve::NtStatus(status.cast_signed())
                    .name()
                    .unwrap_or("");
                println!("  {status:#010x} {count:>9} {name}");
            }
            println!("no leak, no broken rule");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("stress: {error}");
            ExitCode::FAILURE
        }
    }
}
