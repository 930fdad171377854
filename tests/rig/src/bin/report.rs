//! `cargo xtask report`: measures the built driver and makes the page, or prints one part of it for programs.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use rig::image;
use rig::report::{self, Options, PARTS};

fn main() -> ExitCode {
    let (arguments, _) = commands::program::<commands::Report>("report");
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: commands::Report) -> Result<(), Box<dyn std::error::Error>> {
    let image = arguments.image.file.unwrap_or_else(image::built);
    if let Some(part) = &arguments.only {
        let lines = report::part(part, &image)?;
        let lines = lines.ok_or_else(|| format!("the parts are {}", PARTS.join(", ")))?;
        let mut out = std::io::stdout().lock();
        return match lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
            // Nobody reads any further.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            end => Ok(end?),
        };
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let out = arguments
        .out
        .unwrap_or_else(|| root.join("target/report/index.html"));
    let compiler = arguments.compiler;
    let page = report::make(&Options {
        image,
        root,
        compiler: compiler.unwrap_or_else(|| "a compiler that was not named".into()),
        model: arguments.model,
        bench: arguments.bench,
        full: arguments.full,
        targets: arguments.targets,
    })?;
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&out, page)?;
    println!("{}", out.canonicalize()?.display());
    Ok(())
}
