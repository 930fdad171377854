//! `cargo xtask places`: what each place in a disk's stack sees of each request; prints `docs/places.md`.

use std::process::ExitCode;

use commands::Places;
use rig::{image, places};

fn run(arguments: Places) -> Result<String, Box<dyn std::error::Error>> {
    let image = arguments.image.file.unwrap_or_else(image::built);
    let tables = places::play(&image)?;
    Ok(if arguments.json {
        places::json(&tables)
    } else {
        places::page(&tables)
    })
}

fn main() -> ExitCode {
    let (arguments, _) = commands::program("places");
    match run(arguments) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("places: {error}");
            ExitCode::FAILURE
        }
    }
}
