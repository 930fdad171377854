//! The demo's scenario on every disk that there is.

use std::sync::Arc;

use rig::demo::{self, Scene};
use rig::disk::Disk;
use rig::disk::logical_unit::Forms;
use rig::image;

fn every_step_ends_as_it_should(disks: [Arc<dyn Disk>; 2]) -> Vec<String> {
    let (mut lines, mut asides) = (Vec::new(), Vec::new());
    demo::play(&image::built(), disks, |scene| {
        match scene {
            Scene::Step(step) => {
                assert!(step.as_expected(), "{step:?}");
                lines.push(step.json());
            }
            Scene::Aside(node, what) => asides.push(format!("{node}: {what}")),
        }
        Ok(())
    })
    .expect("the demo plays");
    // B was told that it holds the unit, and that it does not.
    assert_eq!(asides[4..], ["B: READ RESERVATION: A's"; 2]);
    lines
}

/// What any two nodes and any unit give, as `--json` prints it.
const LINES: [&str; 11] = [
    r#"{"node":"A","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"B","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":24,"ntstatus":"0x80000011","information":0}"#,
    r#"{"node":"B","op":"foreign","ioctl":"0x00041018","cdb":"","scsi_status":null,"ntstatus":"0x00000000","information":8}"#,
    r#"{"node":"A","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"B","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"A","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"B","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"A","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"A","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"B","op":"reserve","ioctl":"0x002d4810","cdb":"160000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
    r#"{"node":"B","op":"release","ioctl":"0x002d4814","cdb":"170000000000","scsi_status":0,"ntstatus":"0x00000000","information":0}"#,
];

#[test]
fn two_nodes_share_the_embedded_unit() {
    for quiet in [false, true] {
        let unit = demo::unit();
        unit.configure(|options| options.quiet = quiet);
        let disks = ["a", "b"].map(|name| Arc::new(unit.connect(name)) as Arc<dyn Disk>);
        assert_eq!(every_step_ends_as_it_should(disks), LINES);
    }
}

#[test]
fn two_nodes_share_a_unit_that_has_only_the_10_byte_form() {
    let unit = demo::unit();
    unit.configure(|options| options.forms = Forms::Ten);
    let disks = ["a", "b"].map(|name| Arc::new(unit.connect(name)) as Arc<dyn Disk>);
    let ten = |line: &&str| {
        line.replace("\"160", "\"560")
            .replace("\"170", "\"570")
            .replace("00000000\",\"scsi", "0000000000000000\",\"scsi")
    };
    assert_eq!(
        every_step_ends_as_it_should(disks),
        LINES.iter().map(ten).collect::<Vec<_>>()
    );
}

#[test]
#[cfg(feature = "iscsi")]
fn two_nodes_share_a_unit_of_tgt_over_iscsi() {
    use rig::disk::{SenseFormat, tgt::Target};
    for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
        let target = Target::start(format).expect("tgtd starts");
        let connect =
            |name: &str| Arc::new(target.connect(name).expect("a login")) as Arc<dyn Disk>;
        let disks = [
            connect("iqn.2001-04.com.example:a"),
            connect("iqn.2001-04.com.example:b"),
        ];
        assert_eq!(every_step_ends_as_it_should(disks), LINES);
    }
}
