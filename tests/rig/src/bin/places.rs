//! `cargo xtask places`: what each place in a disk's stack sees of each request; prints `docs/places.md`.

use std::process::ExitCode;

use lexopt::prelude::*;
use rig::{image, places};

const USAGE: &str = "places [--image FILE] [--json]";

fn run() -> Result<String, Box<dyn std::error::Error>> {
    let (mut image, mut json) = (image::built(), false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => image = arguments.value()?.into(),
            Long("json") => json = true,
            other => return Err(format!("{}\nusage: {USAGE}", other.unexpected()).into()),
        }
    }
    let tables = places::play(&image)?;
    Ok(if json {
        places::json(&tables)
    } else {
        places::page(&tables)
    })
}

fn main() -> ExitCode {
    match run() {
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
