//! `cargo xtask report`: measures the built driver and makes the page, or prints one part of it for programs.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::prelude::*;
use rig::image;
use rig::report::{self, Options, PARTS};

const USAGE: &str = "report [--image FILE] [--out FILE] [--full] [--targets] [--model FILE] [--bench FILE] [--compiler TEXT] [--only PART]";

struct Order {
    options: Options,
    out: PathBuf,
    only: Option<String>,
}

fn order() -> Result<Order, lexopt::Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut order = Order {
        out: root.join("target/report/index.html"),
        options: Options {
            image: image::built(),
            root,
            compiler: "a compiler that was not named".into(),
            ..Options::default()
        },
        only: None,
    };
    let options = &mut order.options;
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => options.image = arguments.value()?.into(),
            Long("out") => order.out = arguments.value()?.into(),
            Long("full") => options.full = true,
            Long("targets") => options.targets = true,
            Long("model") => options.model = Some(arguments.value()?.into()),
            Long("bench") => options.bench = Some(arguments.value()?.into()),
            Long("compiler") => options.compiler = arguments.value()?.string()?,
            Long("only") => order.only = Some(arguments.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(order)
}

fn main() -> ExitCode {
    let order = match order() {
        Ok(order) => order,
        Err(error) => {
            eprintln!("report: {error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(order: &Order) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(part) = &order.only {
        let lines = report::part(part, &order.options.image)?;
        let lines = lines.ok_or_else(|| format!("the parts are {}", PARTS.join(", ")))?;
        let mut out = std::io::stdout().lock();
        return match lines.iter().try_for_each(|line| writeln!(out, "{line}")) {
            // Nobody reads any further.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            end => Ok(end?),
        };
    }
    let page = report::make(&order.options)?;
    if let Some(folder) = order.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&order.out, page)?;
    println!("{}", order.out.canonicalize()?.display());
    Ok(())
}
