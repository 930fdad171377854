//! `cargo xtask demo`: plays the main job and shows it, as a timeline or as JSON lines.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use lexopt::prelude::*;
use rig::demo::{self, Scene};
use rig::disk::Disk;
use rig::image;
use rig::timeline::Timeline;

const USAGE: &str = "demo [--image FILE] [--target embedded|iscsi] [--json]";
/// The initiator names of the two nodes.
const INITIATORS: [&str; 2] = [
    "iqn.2001-04.com.example:node-a",
    "iqn.2001-04.com.example:node-b",
];

struct Options {
    image: PathBuf,
    iscsi: bool,
    json: bool,
}

fn options() -> Result<Options, lexopt::Error> {
    let mut options = Options {
        image: image::built(),
        iscsi: false,
        json: false,
    };
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("image") => options.image = arguments.value()?.into(),
            Long("json") => options.json = true,
            Long("target") => match arguments.value()?.to_str() {
                Some("embedded") => options.iscsi = false,
                Some("iscsi") => options.iscsi = true,
                _ => return Err("--target takes embedded or iscsi".into()),
            },
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("demo: {error}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<bool, demo::DemoError> {
    if !options.iscsi {
        let unit = demo::unit();
        let disks = INITIATORS.map(|initiator| Arc::new(unit.connect(initiator)) as Arc<dyn Disk>);
        return show(options, disks, "a SCSI disk inside this process");
    }
    over_iscsi(options)
}

#[cfg(feature = "iscsi")]
fn over_iscsi(options: &Options) -> Result<bool, demo::DemoError> {
    use rig::disk::{SenseFormat, tgt::Target};

    eprintln!("starting tgtd on a loopback port of its own");
    let target = Target::start(SenseFormat::Fixed)?;
    let disks: [Arc<dyn Disk>; 2] = [
        Arc::new(target.connect(INITIATORS[0])?),
        Arc::new(target.connect(INITIATORS[1])?),
    ];
    let unit = format!("a disk of tgtd at {}, over iSCSI", target.portal());
    show(options, disks, &unit)
}

#[cfg(not(feature = "iscsi"))]
fn over_iscsi(_: &Options) -> Result<bool, demo::DemoError> {
    let why = "built without the feature `iscsi`; `cargo xtask demo --target iscsi` builds with it";
    Err(rig::disk::DiskError::Failed(why.into()).into())
}

fn show(options: &Options, disks: [Arc<dyn Disk>; 2], unit: &str) -> Result<bool, demo::DemoError> {
    if options.json {
        let mut good = true;
        demo::play(&options.image, disks, |scene| {
            match scene {
                Scene::Step(step) => {
                    good &= step.as_expected();
                    writeln!(std::io::stdout(), "{}", step.json())?;
                }
                Scene::Aside(node, what) => eprintln!("node {node}: {what}"),
            }
            Ok(())
        })?;
        return Ok(good);
    }
    let mut timeline = Timeline::stdout();
    let file = options.image.file_name().unwrap_or_default().display();
    timeline.head(&format!("{file} on two nodes; {unit}"))?;
    demo::play(&options.image, disks, |scene| match scene {
        Scene::Step(step) => timeline.step(step),
        Scene::Aside(node, what) => timeline.event(node, &format!("{node}: {what}"), None),
    })?;
    Ok(timeline.finish()?)
}
