//! `cargo xtask stress`: stresses the built driver and says what was done to it.

use std::process::ExitCode;
use std::time::Duration;

use commands::Stress;
use rig::image;
use rig::stress::{self, Load};

fn main() -> ExitCode {
    let (arguments, quiet) = commands::program::<Stress>("stress");
    let image = arguments.image.file.unwrap_or_else(image::built);
    let load = Load {
        time: Duration::from_secs(arguments.seconds),
        disks: usize::try_from(arguments.disks).unwrap_or(1),
        threads: usize::try_from(arguments.threads).unwrap_or(1),
        seed: arguments.seed,
        // Each level in its turn.
        watch: (arguments.seed % 3) as u32,
    };
    let (disks, threads, seconds) = (load.disks, load.threads, load.time.as_secs());
    if !quiet {
        let (seed, watch) = (load.seed, load.watch);
        eprintln!("{threads} threads on {disks} disks for {seconds} s, seed {seed}, Watch {watch}");
    }
    match stress::run(&image, load) {
        Ok(counts) => {
            println!(
                "{} requests, {} SRBs of disk.sys's own, {} commands",
                counts.requests(),
                counts.srbs,
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
