//! `cargo xtask faults`: walks everything that can go wrong, and shows what did not hold.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use lexopt::prelude::*;
use rig::faults::{self, Options, Report, WalkError};
use rig::image;

const USAGE: &str = "faults [--image FILE] [--quick] [--only GROUP [--from CASE]]";

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        image: image::built(),
        quick: false,
        only: None,
        from: 0,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => options.image = arguments.value()?.into(),
            Long("quick") => options.quick = true,
            Long("only") => options.only = Some(arguments.value()?.string()?),
            Long("from") => options.from = arguments.value()?.parse()?,
            other => return Err(other.unexpected()),
        }
    }
    if options.from != 0 && options.only.is_none() {
        return Err("--from is a case of one group: --only names it".into());
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("faults: {error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match walk(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::from(2)
        }
    }
}

/// Walks, and gives the number of cases that don't hold.
fn walk(options: &Options) -> Result<usize, WalkError> {
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent:>3} %, {eta} left") {
        bar.set_style(style);
    }
    let (mut cases, mut failures) = (0, 0);
    faults::walk(options, |report| match report {
        Report::Begin(_, steps) => bar.inc_length(steps),
        Report::Step => bar.inc(1),
        Report::Failed(failure) => bar.suspend(|| println!("FAILED {failure}")),
        Report::End(group, done) => {
            cases += done.cases;
            failures += done.failures.len();
            let (name, about, count) = (group.name, group.about, done.cases);
            let seconds = done.elapsed.as_secs_f32();
            bar.suspend(|| println!("{name:12} {count:8} cases {seconds:6.1} s  {about}"));
        }
    })?;
    bar.finish_and_clear();
    println!("{cases} cases, {failures} don't hold");
    Ok(failures)
}
