//! The scripts of `scenarios/`, whose expectations held on Microsoft's framework: what is played otherwise here, the rig has
//! wrong.

use std::path::Path;

use rig::world::Schedule;
use rig::{image, scenario};

#[test]
fn each_script_plays_as_it_did_on_the_framework() {
    let file = image::built();
    let bytes = image::read(&file).expect("the driver was built");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(folder).expect("the scripts are there");
    let paths = entries.map(|entry| entry.expect("a script").path());
    let mut scripts: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 46, "{} scripts", scripts.len());
    let (mut runs, mut wrong) = (0, Vec::new());
    for path in scripts {
        let script = std::fs::read_to_string(&path).expect("text");
        let seeds =
            (1..=scenario::seeds(&script)).map(|seed| Schedule::Shuffled { seed, one_in: 3 });
        for schedule in [Schedule::Orderly].into_iter().chain(seeds) {
            runs += 1;
            let name = path.file_name().unwrap_or_default().display();
            let name = format!("{name}, {schedule:?}");
            if let Err(why) = scenario::play(&file, &bytes, &script, schedule) {
                wrong.push(format!("{name}: {why}"));
                break;
            }
        }
    }
    println!("{runs} runs");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
