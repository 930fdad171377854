//! `cargo xtask demo`: plays the main job and shows it, as a timeline or as JSON lines.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use commands::{Demo, Target as Where};
use rig::demo::{self, Scene};
use rig::disk::Disk;
use rig::image;
use rig::timeline::Timeline;

/// The initiator names of the two nodes.
const INITIATORS: [&str; 2] = [
    "iqn.2001-04.com.example:node-a",
    "iqn.2001-04.com.example:node-b",
];

fn main() -> ExitCode {
    let (arguments, _) = commands::program::<Demo>("demo");
    let image = arguments.image.file.clone().unwrap_or_else(image::built);
    match run(&arguments, &image) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Demo, image: &Path) -> Result<bool, demo::DemoError> {
    if arguments.target == Where::Embedded {
        let unit = demo::unit();
        let disks = INITIATORS.map(|initiator| Arc::new(unit.connect(initiator)) as Arc<dyn Disk>);
        return show(
            arguments.json,
            image,
            disks,
            "a SCSI disk inside this process",
        );
    }
    over_iscsi(arguments.json, image)
}

#[cfg(feature = "iscsi")]
fn over_iscsi(json: bool, image: &Path) -> Result<bool, demo::DemoError> {
    use rig::disk::{SenseFormat, tgt::Target};

    eprintln!("starting tgtd on a loopback port of its own");
    let target = Target::start(SenseFormat::Fixed)?;
    let disks: [Arc<dyn Disk>; 2] = [
        Arc::new(target.connect(INITIATORS[0])?),
        Arc::new(target.connect(INITIATORS[1])?),
    ];
    let unit = format!("a disk of tgtd at {}, over iSCSI", target.portal());
    show(json, image, disks, &unit)
}

#[cfg(not(feature = "iscsi"))]
fn over_iscsi(_: bool, _: &Path) -> Result<bool, demo::DemoError> {
    let why = "built without the feature `iscsi`; `cargo xtask demo --target iscsi` builds with it";
    Err(rig::disk::DiskError::Failed(why.into()).into())
}

fn show(
    json: bool,
    image: &Path,
    disks: [Arc<dyn Disk>; 2],
    unit: &str,
) -> Result<bool, demo::DemoError> {
    if json {
        let mut good = true;
        demo::play(image, disks, |scene| {
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
    let file = image.file_name().unwrap_or_default().display();
    timeline.head(&format!("{file} on two nodes; {unit}"))?;
    demo::play(image, disks, |scene| match scene {
        Scene::Step(step) => timeline.step(step),
        Scene::Aside(node, what) => timeline.event(node, &format!("{node}: {what}"), None),
    })?;
    Ok(timeline.finish()?)
}
