//! `cargo xtask faults`: walks everything that can go wrong, and shows what did not hold.

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rig::faults::{self, Options, Report, WalkError};
use rig::image;

fn main() -> ExitCode {
    let (arguments, quiet) = commands::program::<commands::Faults>("faults");
    let options = Options {
        image: arguments.image.file.unwrap_or_else(image::built),
        quick: arguments.quick,
        only: arguments.only,
        from: arguments.from,
    };
    match walk(&options, quiet) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::from(2)
        }
    }
}

/// Walks, and gives the number of cases that don't hold.
fn walk(options: &Options, quiet: bool) -> Result<usize, WalkError> {
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(0);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
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
            if !quiet {
                bar.suspend(|| println!("{name:12} {count:8} cases {seconds:6.1} s  {about}"));
            }
        }
    })?;
    bar.finish_and_clear();
    println!("{cases} cases, {failures} don't hold");
    Ok(failures)
}
