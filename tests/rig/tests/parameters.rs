//! Each parameter at both of its bounds, one beyond each, of another type and of another length: what the built driver takes
//! and what it tells of it.

use std::sync::Arc;

use rig::disk::logical_unit::LogicalUnit;
use rig::etw::{Ask, Session};
use rig::fx::DiskKeys;
use rig::image;
use rig::node::{Node, SERVICE_KEY};
use rig::registry::{Hive, Value};
use rig::world::{Schedule, World};

/// A value, and what it is where it is absent or counts as absent.
struct Parameter {
    name: &'static str,
    least: u32,
    most: u32,
    absent: u32,
}

const fn parameter(name: &'static str, least: u32, most: u32, absent: u32) -> Parameter {
    Parameter {
        name,
        least,
        most,
        absent,
    }
}

/// Of the driver's own key. 0 seconds are the disk's own.
const DRIVER: [Parameter; 6] = [
    parameter("TimeoutSeconds", 1, 3_600, 0),
    parameter("MaxRetries", 0, 16, 4),
    parameter("RetryDelayMs", 10, 60_000, 1_000),
    parameter("Reserve10Fallback", 0, 1, 1),
    parameter("AttachMode", 0, 1, 0),
    parameter("Watch", 0, 2, 0),
];

/// Of a disk's hardware key; 2 says nothing.
const RESVFLT_ENABLED: Parameter = parameter("ResvFltEnabled", 0, 1, 2);

/// Of disk.sys.
const TIME_OUT_VALUE: Parameter = parameter("TimeOutValue", 1, 108_000, 10);
const DISK_SERVICE: &str = r"\Registry\Machine\System\CurrentControlSet\Services\Disk";

/// What is written, what the driver goes by, and the status and the value that the event of a rejected one has.
type Case = (Value, u32, Option<(u32, u32)>);

impl Parameter {
    fn cases(&self) -> Vec<Case> {
        const OBJECT_TYPE_MISMATCH: u32 = 0xC000_0024;
        const BUFFER_OVERFLOW: u32 = 0x8000_0005;
        let good = [self.least, self.most].map(|value| (value.into(), value, None));
        let beyond = [
            self.least.checked_sub(1),
            Some(self.most + 1),
            Some(u32::MAX),
        ];
        let beyond = beyond.into_iter().flatten();
        let beyond = beyond.map(|value| (value.into(), self.absent, Some((0, value))));
        let text = Value::Other(b"1\0".to_vec());
        let long = Value::Dword(u64::from(self.least).to_le_bytes().into());
        let odd = [(text, OBJECT_TYPE_MISMATCH), (long, BUFFER_OVERFLOW)];
        let odd = odd.map(|(value, status)| (value, self.absent, Some((status, 0))));
        good.into_iter().chain(beyond).chain(odd).collect()
    }

    /// The event of a rejected value.
    fn rejected(&self, (status, value): (u32, u32)) -> String {
        let (name, used) = (self.name, self.absent);
        format!(
            r#"ParameterRejected Name="{name}" Status={status:#010x} Value={value} Used={used}"#
        )
    }
}

/// Loads the driver with this registry, adds a disk with this hardware key; the events.
fn told(hive: Hive, keys: &DiskKeys) -> Vec<String> {
    let world = World::enter(Schedule::Orderly);
    let session = Session::new(world.world());
    session.listen(Ask::ALL);
    let node = Node::load(world.world(), "A", &image::built(), hive).expect("it loads");
    let disk = Arc::new(LogicalUnit::new().connect("iqn.2026-01.example:a"));
    let stack = node.plug(disk, keys).expect("the disk starts");
    node.unplug(stack);
    node.unload();
    session.take().iter().map(ToString::to_string).collect()
}

fn rejections(told: &[String]) -> Vec<&String> {
    let rejected = told.iter();
    rejected
        .filter(|event| event.starts_with("ParameterRejected"))
        .collect()
}

/// The event of this name.
fn event<'a>(told: &'a [String], name: &str) -> &'a str {
    let found = told.iter().find(|event| event.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {told:#?}"))
}

#[test]
fn the_drivers_parameters_are_taken_within_their_bounds_and_told_of_otherwise() {
    let key = format!(r"{SERVICE_KEY}\Parameters");
    for parameter in DRIVER {
        for (value, used, rejected) in parameter.cases() {
            let case = format!("{} {value:?}", parameter.name);
            let hive = Hive::default();
            hive.set(&key, parameter.name, value);
            let told = told(hive, &DiskKeys::default());
            let loaded = format!("{} ", event(&told, "DriverLoaded"));
            let field = format!(" {}={used} ", parameter.name);
            assert!(loaded.contains(&field), "{case}: {loaded}");
            let expected: Vec<_> = rejected
                .map(|found| parameter.rejected(found))
                .into_iter()
                .collect();
            assert_eq!(
                rejections(&told),
                expected.iter().collect::<Vec<_>>(),
                "{case}"
            );
        }
    }
}

#[test]
fn a_hardware_keys_word_counts_within_its_bounds_and_is_told_of_otherwise() {
    for (value, used, rejected) in RESVFLT_ENABLED.cases() {
        let case = format!("{value:?}");
        let (hive, keys) = (Hive::default(), DiskKeys::default());
        hive.set(&keys.hardware_key, RESVFLT_ENABLED.name, value);
        let told = told(hive, &keys);
        let end = if used == 0 {
            "DiskSkipped"
        } else {
            "DiskAttached"
        };
        event(&told, end);
        let expected: Vec<_> = rejected
            .map(|found| RESVFLT_ENABLED.rejected(found))
            .into_iter()
            .collect();
        assert_eq!(
            rejections(&told),
            expected.iter().collect::<Vec<_>>(),
            "{case}"
        );
    }
}

#[test]
fn the_disks_own_timeout_is_taken_within_its_bounds_and_told_of_otherwise() {
    for (value, used, rejected) in TIME_OUT_VALUE.cases() {
        let case = format!("{value:?}");
        let hive = Hive::default();
        hive.set(DISK_SERVICE, TIME_OUT_VALUE.name, value);
        let told = told(hive, &DiskKeys::default());
        let attached = event(&told, "DiskAttached");
        assert!(
            attached.ends_with(&format!(" TimeoutSeconds={used}")),
            "{case}: {attached}"
        );
        let expected: Vec<_> = rejected
            .map(|found| TIME_OUT_VALUE.rejected(found))
            .into_iter()
            .collect();
        assert_eq!(
            rejections(&told),
            expected.iter().collect::<Vec<_>>(),
            "{case}"
        );
    }
}
