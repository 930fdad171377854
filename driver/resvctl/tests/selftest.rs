//! Each check of `selftest` made to hold, to fail and to be untellable, on a machine in memory; and what a run says, writes
//! and leaves behind.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory::{
    CLASS, CRASH_CONTROL, CancelAs, DISKS, FAILED, Filter, INSTALLED, MEMORY_MANAGEMENT, Memory,
    PACKAGE, ProcessAs, Unit, machine_key, multi,
};
use resvctl::Exit;
use resvctl::machine::{Key, Service, Signature, Traced, Value, Verified, Win32};
use resvctl::selftest::{CHECKS, EVENTS, Needs, WIN32_ERRORS};
use scsi_reserve::state::Origin;
use scsi_reserve::{Command, NtStatus};
use serde_json::Value as Json;

const REPORT: &str = r"C:\report.json";

/// Runs the command with a report: how it ended, what it said, and the report.
fn run(machine: &Memory, line: &str) -> (Exit, String, Json) {
    let (exit, out, err) = machine.command(&format!("selftest {line} --json {REPORT}"));
    let lasting = machine.lasting.borrow();
    let report = lasting.files.get(REPORT).expect("a report");
    let report = serde_json::from_slice(report).expect("JSON");
    (exit, out + &err, report)
}

/// The results of a check: by disk, what came of it and why.
fn results(report: &Json, id: &str) -> BTreeMap<String, (String, String)> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let results = report["results"].as_array().expect("results");
    let of_id = results.iter().filter(|found| found["id"] == id);
    let of_id = of_id.map(|found| {
        (
            text(&found["disk"]),
            (text(&found["result"]), text(&found["why"])),
        )
    });
    of_id.collect()
}

/// Nobody holds the second disk, and the report says that it was released.
fn is_free(machine: &Memory, report: &Json) {
    let unit = &machine.lab.as_ref().expect("a lab").units[1];
    assert_eq!(*unit.holder.lock().expect("no panic"), None);
    assert_eq!(report["undone"]["left"], Json::Null);
}

const HOLDS: &str = "holds";
const BROKEN: &str = "does_not_hold";
const UNTOLD: &str = "cannot_tell";

const RESERVE: &str = "1 --with-reserve";
const SLEEP: &str = "1 --with-sleep";

use Filter::{Above, Below, None as NoFilter};

fn unit(machine: &mut Memory) -> &mut Unit {
    machine.bench().unit()
}

fn runs_from(machine: &mut Memory, path: &str) {
    let loaded = machine.bench().loaded.as_mut().expect("told");
    loaded.as_mut().expect("loaded").path = path.into();
}

fn service(machine: &mut Memory) -> &mut Service {
    let service = machine.bench().service.as_mut().expect("told");
    service.as_mut().expect("a service")
}

fn verified(machine: &mut Memory) -> &mut Verified {
    let verified = machine.bench().verified.as_mut().expect("told");
    verified.as_mut().expect("watched")
}

fn distrusted(machine: &mut Memory, member: &'static str) {
    let signature = Signature {
        result: 7,
        signer: None,
    };
    machine.bench().catalogued.insert(member, Ok(signature));
}

fn drop_file(machine: &Memory, path: &str) {
    machine.lasting.borrow_mut().files.remove(path);
}

fn setup(machine: &Memory, partition: Option<&str>) {
    machine.put(
        &machine_key(r"SYSTEM\Setup"),
        "SystemPartition",
        partition.map(Value::sz),
    );
}

fn enabled(machine: &Memory, disk: usize, number: u32) {
    let key = Key::Hardware(DISKS[disk].into());
    machine.put(&key, "ResvFltEnabled", Some(Value::dword(number)));
}

fn verifier_on(machine: &Memory, value: Value) {
    let key = r"SYSTEM\CurrentControlSet\Services\resvflt\Parameters\Wdf";
    machine.put(&machine_key(key), "VerifierOn", Some(value));
}

fn without_field(events: &mut Vec<Traced>, field: &str) {
    for event in events {
        event.fields.retain(|(name, _)| name != field);
    }
}

/// A machine on which a check comes to something else.
struct Case {
    id: &'static str,
    filter: Filter,
    line: &'static str,
    result: &'static str,
    /// What is said of it.
    why: &'static str,
    /// What the machine is like.
    change: fn(&mut Memory),
}

macro_rules! cases {
    ($($id:literal $filter:ident $line:tt $result:ident $why:literal: $change:expr;)*) => {
        const CASES: &[Case] = &[$(Case {
            id: $id,
            filter: $filter,
            line: $line,
            result: $result,
            why: $why,
            change: $change,
        },)*];
    };
}

// Each of what can become of each check, of the second disk if it is a disk's.
cases! {
    "image" Below "" HOLDS "": |_| {};
    "image" Below "" HOLDS "": |m| drop_file(m, &format!(r"{PACKAGE}\resvflt.sys"));
    "image" Below "" BROKEN "CheckSum of the file is 0x00000009": |m| m.put_file(INSTALLED, &memory::image(1, 9, 3));
    "image" Below "" BROKEN "TimeDateStamp of the file": |m| m.put_file(INSTALLED, &memory::image(9, 2, 3));
    "image" Below "" BROKEN "SizeOfImage of the file": |m| m.put_file(INSTALLED, &memory::image(1, 2, 9));
    "image" Below "" BROKEN "is no image": |m| m.put_file(INSTALLED, b"MZ");
    "image" Below "" BROKEN "TimeDateStamp of the package's": |m| m.put_file(&format!(r"{PACKAGE}\resvflt.sys"), &memory::image(9, 2, 3));
    "image" Below "" BROKEN "is not there": |m| drop_file(m, INSTALLED);
    "image" Below "" BROKEN "it runs from C:\\elsewhere\\resvflt.sys": |m| {
        m.put_file(r"C:\elsewhere\resvflt.sys", &memory::image(1, 2, 3));
        runs_from(m, r"\??\C:\elsewhere\resvflt.sys");
    };
    "image" Below "" HOLDS "": |m| {
        let path = r"system32\DriverStore\FileRepository\resvflt.inf_amd64\resvflt.sys";
        m.put_file(&format!(r"C:\Windows\{path}"), &memory::image(1, 2, 3));
        m.bench().signature = Err(FAILED);
        runs_from(m, &format!(r"\SystemRoot\{path}"));
    };
    "image" Below "" UNTOLD "not loaded": |m| m.bench().loaded = Ok(None);
    "image" Below "" UNTOLD "error 50": |m| m.bench().loaded = Err(Win32::NOT_SUPPORTED);

    "signature" Below "" HOLDS "": |_| {};
    "signature" Below "" BROKEN "0x800b0100": |m| m.bench().signature = Ok(Signature { result: 0x800B_0100, signer: None });
    "signature" Below "" UNTOLD "error 31": |m| m.bench().signature = Err(FAILED);

    "catalog" Below "" HOLDS "": |_| {};
    "catalog" Below "" BROKEN "resvflt.inf is 0x00000007": |m| distrusted(m, "resvflt.inf");
    "catalog" Below "" BROKEN "resvflt.sys is 0x00000007": |m| distrusted(m, "resvflt.sys");
    "catalog" Below "" BROKEN "resvflt.sys is 0x00000007": |m| {
        distrusted(m, "resvflt.sys");
        m.bench().catalogued.remove("resvflt.inf");
    };
    "catalog" Below "" UNTOLD "resvflt.inf: ": |m| {
        m.bench().catalogued.remove("resvflt.inf");
    };
    "catalog" Below "" UNTOLD "resvflt.cat is not there": |m| drop_file(m, &format!(r"{PACKAGE}\resvflt.cat"));

    "service" Below "" HOLDS "": |_| {};
    "service" Below "" BROKEN "start is 3": |m| service(m).start = 3;
    "service" Below "" BROKEN "state is 1": |m| service(m).state = 1;
    "service" Below "" UNTOLD "no service": |m| m.bench().service = Ok(None);

    "system-partition" Below "" HOLDS "": |_| {};
    "system-partition" Below "" BROKEN "no SystemPartition": |m| setup(m, None);
    "system-partition" Below "" BROKEN "error 2": |m| setup(m, Some(r"\Device\HarddiskVolume7"));
    "system-partition" Below "" BROKEN "on no disk": |m| {
            m.volumes.insert(r"globalroot\device\harddiskvolume1".into(), Vec::new());
        };
    "system-partition" Below "" UNTOLD "error 5": |m| m.bench().denied = Some("globalroot");

    "file-disk" Below "" HOLDS "": |_| {};
    "file-disk" Below "" BROKEN "PhysicalDrive2": |m| m.hosts = BTreeMap::new();
    "file-disk" Below "" BROKEN "no volume": |m| m.hosts = [(2, Vec::new())].into();
    "file-disk" Below "" BROKEN "is not there": |m| m.hosts = [(2, vec![r"\\?\Q:\".into()])].into();
    "file-disk" Below "" UNTOLD "no disk here is a file": |m| m.descriptors[2].1 = 9;
    "file-disk" Below "" HOLDS "": |m| m.descriptors[2].1 = 14;
    "file-disk" Below "" UNTOLD "no disk here is a file": |m| {
        m.descriptors[2].1 = 14;
        m.hosts = BTreeMap::new();
    };

    "win32-errors" Below "" HOLDS "": |_| {};
    "win32-errors" Below "" BROKEN "STATUS_IO_TIMEOUT is 1460, not 121": |m| {
            m.bench().errors.insert(NtStatus::IO_TIMEOUT.0, Win32(1460));
        };
    "win32-errors" Below "" UNTOLD "STATUS_SUCCESS": |m| m.bench().errors.clear();

    "stack" Below "1" HOLDS "": |_| {};
    "stack" Above "1" HOLDS "": |_| {};
    "stack" Below "1" HOLDS "": |m| m.put(&Key::Device(DISKS[1].into()), "LowerFilters", None);
    "stack" Below "1" HOLDS "": |m| {
            m.put(&machine_key(CLASS), "LowerFilters", Some(multi(&["EhStorClass"])));
            m.stacked(&["partmgr", "disk", "EhStorClass", "resvflt", "port"]);
        };
    "stack" Above "1" HOLDS "": |m| m.stacked(&["resvflt", "PartMgr", "disk", "port"]);
    "stack" Below "1" BROKEN "between disk and the filter is other": |m| m.stacked(&["partmgr", "disk", "other", "resvflt", "port"]);
    "stack" Above "1" BROKEN "between disk and the filter is other": |m| m.stacked(&["resvflt", "other", "partmgr", "disk", "port"]);
    "stack" Below "1" BROKEN "above disk without UpperFilters": |m| m.stacked(&["resvflt", "disk", "port"]);
    "stack" Above "1" BROKEN "below disk without LowerFilters": |m| m.stacked(&["disk", "resvflt", "port"]);
    "stack" Below "1" BROKEN "built anew": |m| m.stacked(&["partmgr", "disk", "port"]);
    "stack" Below "1" UNTOLD "disk.sys is not in its stack": |m| m.stacked(&["partmgr", "resvflt", "port"]);
    "stack" Below "1" UNTOLD "does not say": |m| m.stacked(&[]);
    "stack" NoFilter "1" UNTOLD "no list names the filter": |_| {};
    "stack" Below "1" UNTOLD "excluded": |m| {
            enabled(m, 1, 0);
            m.stacked(&["partmgr", "disk", "port"]);
        };

    "query" Below "1" HOLDS "": |_| {};
    "query" Above "1" HOLDS "": |m| unit(m).version = 1;
    "query" NoFilter "1" HOLDS "": |_| {};
    "query" Below "1" BROKEN "the filter is there": |m| unit(m).eaten = Some(Win32::INVALID_FUNCTION);
    "query" Below "1" BROKEN "a form that": |m| unit(m).oversize = 8;
    "query" Below "1" BROKEN "a form that this resvctl does not know": |m| unit(m).version = 9;
    "query" NoFilter "1" BROKEN "error 50": |m| unit(m).eaten = Some(Win32::NOT_SUPPORTED);
    "query" NoFilter "1" BROKEN "without the filter answers": |m| unit(m).filter = Below;
    "query" Below "1" UNTOLD "does not say": |m| m.stacked(&[]);

    "query-sizes" Below "1" HOLDS "": |_| {};
    "query-sizes" Below "1" BROKEN "a buffer of 96 bytes: the buffer is too small": |m| unit(m).least = 112;
    "query-sizes" Below "1" BROKEN "a buffer of 0 bytes": |m| unit(m).any_size = true;
    "query-sizes" Below "1" BROKEN "a buffer of 96 bytes": |m| unit(m).short_version = 2;
    "query-sizes" Below "1" BROKEN "a buffer of 112 bytes": |m| unit(m).version = 3;
    "query-sizes" NoFilter "1" UNTOLD "not in its stack": |_| {};

    "handle-access" Below "1" HOLDS "": |_| {};
    "handle-access" Below "1" BROKEN "an answer": |m| unit(m).any_access = true;
    "handle-access" NoFilter "1" BROKEN "error 1": |m| unit(m).any_access = true;

    "parameters" Below "1" HOLDS "": |_| {};
    "parameters" Below "1" HOLDS "": |m| m.parameter("MaxRetries", Value::dword(17));
    "parameters" Below "1" HOLDS "": |m| m.parameter("Watch", Value::sz("1"));
    "parameters" Below "1" BROKEN "MaxRetries is 4, not 5": |m| m.parameter("MaxRetries", Value::dword(5));
    "parameters" Below "1" BROKEN "RetryDelayMs is 1000, not 10": |m| m.parameter("RetryDelayMs", Value::dword(10));
    "parameters" Below "1" BROKEN "Reserve10Fallback is 1, not 0": |m| m.parameter("Reserve10Fallback", Value::dword(0));
    "parameters" Below "1" BROKEN "Watch is 0, not 2": |m| m.parameter("Watch", Value::dword(2));
    "parameters" Below "1" BROKEN "TimeoutSeconds is 10, not 30": |m| m.parameter("TimeoutSeconds", Value::dword(30));
    "parameters" Below "1" UNTOLD "version 1": |m| unit(m).version = 1;

    "timeout" Below "1" HOLDS "": |_| {};
    "timeout" Below "1" HOLDS "": |m| disk_timeout(m, 0);
    "timeout" Below "1" BROKEN "timeout in seconds is 10, not 25": |m| disk_timeout(m, 25);
    "timeout" Below "1" UNTOLD "TimeoutSeconds is 30": |m| m.parameter("TimeoutSeconds", Value::dword(30));
    "timeout" Below "1" UNTOLD "version 1": |m| unit(m).version = 1;

    "mpio" Below "" HOLDS "": |_| {};
    "mpio" Below "" BROKEN "PhysicalDrive3 has the filter": |m| {
            m.stacks.insert(r"MPIO\DISK\3".into(), vec![r"\Driver\disk".into(), r"\Driver\resvflt".into()]);
        };
    "mpio" Below "" UNTOLD "no disk here": |m| m.disks.truncate(3);

    "excluded" Below "" HOLDS "": |_| {};
    "excluded" Below "" BROKEN "PhysicalDrive1 has the filter": |m| enabled(m, 1, 0);
    "excluded" Below "" BROKEN "PhysicalDrive0 has the filter": |m| m.parameter("AttachMode", Value::dword(1));
    "excluded" Below "" HOLDS "": |m| {
            m.parameter("AttachMode", Value::dword(1));
        enabled(m, 0, 1);
        enabled(m, 1, 1);
        };
    "excluded" Below "" UNTOLD "no disk is excluded": |m| enabled(m, 2, 1);

    "port-refusal" Below "1" HOLDS "": |_| {};
    "port-refusal" Below "1" BROKEN "hands nothing over": |m| unit(m).refusal = Err(Win32::IO_DEVICE);
    "port-refusal" Below "1" BROKEN "ScsiStatus is 22h": |m| unit(m).refusal = Ok((0x22, Vec::new()));
    "port-refusal" Below "1" UNTOLD "busy: ScsiStatus 08h": |m| unit(m).refusal = Ok((8, Vec::new()));
    "port-refusal" Below "1" BROKEN "ILLEGAL REQUEST": |m| unit(m).refusal = Ok((2, Vec::new()));
    "port-refusal" Below "1" BROKEN "ILLEGAL REQUEST": |m| unit(m).refusal = Ok((2, vec![0x70, 0, 6, 0, 0, 0, 0, 0]));
    "port-refusal" Below "1" UNTOLD "takes the command": |m| unit(m).refusal = Ok((0, Vec::new()));
    "port-refusal" Below "1" UNTOLD "denied": |m| unit(m).refusal = Err(Win32::ACCESS_DENIED);

    "driver-verifier" Below "" HOLDS "": |_| {};
    "driver-verifier" Below "" BROKEN "allocated now is 1": |m| verified(m).outstanding = 1;
    "driver-verifier" Below "" BROKEN "no load": |m| verified(m).loads = 0;
    "driver-verifier" Below "" UNTOLD "resvctl verify on": |m| m.bench().verified = Ok(None);

    "kmdf-verifier" Below "" HOLDS "": |_| {};
    "kmdf-verifier" Below "" HOLDS "": |m| {
            m.bench().verified = Ok(None);
            verifier_on(m, Value::dword(1));
        };
    "kmdf-verifier" Below "" HOLDS "": |m| {
        m.build = 20348;
        verified(m).wdf = Some(true);
    };
    "kmdf-verifier" Below "" BROKEN "without its WDF rules": |m| {
        m.build = 20348;
        verified(m).wdf = Some(false);
    };
    "kmdf-verifier" Below "" UNTOLD "does not tell whether": |m| m.build = 17763;
    "kmdf-verifier" Below "" BROKEN "keeps it off": |m| verifier_on(m, Value::dword(0));
    "kmdf-verifier" Below "" BROKEN "keeps it off": |m| verifier_on(m, Value::sz("1"));
    "kmdf-verifier" Below "" UNTOLD "neither": |m| m.bench().verified = Ok(None);

    "served-by" Below RESERVE HOLDS "": |_| {};
    "served-by" Above RESERVE HOLDS "": |_| {};
    "served-by" Below RESERVE BROKEN "is 1, not 0": |m| unit(m).counts = false;
    "served-by" Above RESERVE BROKEN "is 0, not 1": |m| unit(m).counts = false;
    "served-by" NoFilter RESERVE UNTOLD "not in its stack": |_| {};

    "watched" Below RESERVE HOLDS "": |m| unit(m).watch(1);
    "watched" Below RESERVE BROKEN "known after RESERVE is not_ours, not held_by_us": |m| {
            unit(m).watch(1);
            unit(m).unseen = Some(Command::Reserve);
        };
    "watched" Below RESERVE BROKEN "after RELEASE it is still held by us": |m| {
            unit(m).watch(2);
            unit(m).unseen = Some(Command::Release);
        };
    "watched" Below RESERVE BROKEN "from is the filter's own, not another's request": |m| {
        unit(m).watch(1);
        unit(m).watched_origin = Origin::Own as u8;
    };
    "watched" Below RESERVE UNTOLD "Watch is 0": |_| {};
    "watched" Below RESERVE UNTOLD "version 1": |m| unit(m).version = 1;
    "watched" Above RESERVE UNTOLD "above disk.sys": |_| {};

    "spellings" Below RESERVE HOLDS "": |_| {};
    "spellings" Above RESERVE HOLDS "": |_| {};
    "spellings" NoFilter RESERVE HOLDS "": |_| {};
    "spellings" Below RESERVE BROKEN "IOCTL_DISK_RESERVE": |m| unit(m).unserved = Some(0x0007_4810);
    "spellings" Below RESERVE BROKEN "IOCTL_CDROM_RELEASE": |m| unit(m).unserved = Some(0x0002_4814);
    "spellings" Above RESERVE BROKEN "IOCTL_TAPE_RESERVE: success; the filter served 0": |m| unit(m).uncounted = Some(0x001F_4810);
    "spellings" Below RESERVE UNTOLD "does not say": |m| m.stacked(&[]);

    "information" Above RESERVE HOLDS "": |_| {};
    "information" Below RESERVE BROKEN "Information of RESERVE is 8, not 0": |m| unit(m).information = 8;
    "information" Above RESERVE UNTOLD "error 50": |m| m.bench().overlapped = Err(Win32::NOT_SUPPORTED);
    "information" Above RESERVE UNTOLD "ended with 0xc0000185": |m| unit(m).cancel = CancelAs::Fails;

    "read-only-handle" Below RESERVE HOLDS "": |_| {};
    "read-only-handle" Below RESERVE BROKEN "RESERVE with GENERIC_READ alone is": |m| unit(m).read_only_refused = true;
    "read-only-handle" Below RESERVE UNTOLD "another initiator holds the disk": |m| held(m, "them");

    "ten-byte" Above RESERVE HOLDS "": |m| unit(m).takes_six = false;
    "ten-byte" Below RESERVE HOLDS "": |m| unit(m).takes_six = false;
    "ten-byte" Above RESERVE BROKEN "IOCTL_STORAGE_RESERVE is": |m| {
            unit(m).takes_six = false;
            unit(m).falls_back = false;
        };
    "ten-byte" Above RESERVE HOLDS "": |m| {
        unit(m).takes_six = false;
        unit(m).attentions.set(3);
    };
    "ten-byte" Above RESERVE UNTOLD "unit attentions without end": |m| unit(m).attentions.set(99);
    "ten-byte" Above RESERVE UNTOLD "takes RESERVE(6)": |_| {};
    "ten-byte" Above RESERVE UNTOLD "neither": |m| {
            unit(m).takes_six = false;
            unit(m).takes_ten = false;
        };
    "ten-byte" Above RESERVE UNTOLD "Reserve10Fallback is 0": |m| m.parameter("Reserve10Fallback", Value::dword(0));

    "cancel-queued" Above RESERVE HOLDS "": |_| {};
    "cancel-queued" Above RESERVE BROKEN "still out after a second": |m| unit(m).cancel = CancelAs::Never;
    "cancel-queued" Above RESERVE BROKEN "that the filter served is 16, not 15": |m| unit(m).cancel = CancelAs::Sent;
    "cancel-queued" Above RESERVE BROKEN "its status is 0x00000000": |m| unit(m).cancel = CancelAs::Status(NtStatus::SUCCESS);
    "cancel-queued" Above RESERVE UNTOLD "before it could be cancelled": |m| unit(m).cancel = CancelAs::TooLate;
    "cancel-queued" Above RESERVE UNTOLD "before it could be cancelled": |m| unit(m).cancel = CancelAs::AllButTheLast;
    "cancel-queued" Below RESERVE UNTOLD "below disk.sys": |_| {};

    "process-ends" Above RESERVE HOLDS "": |_| {};
    "process-ends" Above RESERVE BROKEN "has not ended": |m| unit(m).process = ProcessAs::Hangs;
    "process-ends" Above RESERVE BROKEN "RESERVE after it: ": |m| unit(m).dies = true;
    "process-ends" Above RESERVE UNTOLD "before the process could be killed": |m| unit(m).process = ProcessAs::TooLate;
    "process-ends" Above RESERVE UNTOLD "none was sent": |m| unit(m).process = ProcessAs::TooEarly;
    "process-ends" Below RESERVE UNTOLD "below disk.sys": |_| {};

    "events" Above RESERVE HOLDS "": |_| {};
    "events" Above RESERVE BROKEN "no OperationStarted of the RESERVE came": |m| unit(m).events = Vec::clear;
    "events" Above RESERVE BROKEN "OperationEnded has level 4": |m| unit(m).events = |events| without_field(events, "Ascq");
    "events" Above RESERVE BROKEN "no OperationEnded of the RELEASE came": |m| unit(m).events = |events| without_field(events, "Code");
    "events" Above RESERVE BROKEN "has level 2": |m| unit(m).events = |events| events[1].level = 2;
    "events" Above RESERVE BROKEN "keyword 0x8": |m| unit(m).events = |events| events[1].keyword = 8;
    "events" Above RESERVE BROKEN "does not say success": |m| unit(m).events = |events| events[1].fields[2].1 = "0xc0000185".into();
    "events" Above RESERVE UNTOLD "error 50": |m| m.bench().traces = Err(Win32::NOT_SUPPORTED);
    "events" Below RESERVE UNTOLD "below disk.sys": |_| {};

    "sleep" Above SLEEP HOLDS "": |_| {};
    "sleep" Below SLEEP HOLDS "": |m| unit(m).watch(1);
    "sleep" Above SLEEP BROKEN "known after is held_by_us, not unknown": |m| unit(m).remembers = true;
    "sleep" Above SLEEP BROKEN "RESERVE after it: ": |m| unit(m).dies = true;
    "sleep" Below SLEEP UNTOLD "Watch 1 or 2": |_| {};
    "sleep" Above SLEEP UNTOLD "error 50": |m| m.bench().sleeps = Err(Win32::NOT_SUPPORTED);
}

fn held(machine: &mut Memory, by: &str) {
    *unit(machine).holder.lock().expect("no panic") = Some(by.into());
}

fn disk_timeout(machine: &Memory, seconds: u32) {
    let key = machine_key(r"SYSTEM\CurrentControlSet\Services\Disk");
    machine.put(&key, "TimeOutValue", Some(Value::dword(seconds)));
}

#[test]
fn each_check_comes_to_what_the_machine_is_like() {
    for case in CASES {
        let Case {
            id,
            filter,
            line,
            result,
            why,
            ..
        } = case;
        let mut machine = Memory::lab(*filter);
        (case.change)(&mut machine);
        let (exit, said, report) = run(&machine, line);
        let found = results(&report, id);
        let of = ["PhysicalDrive1", ""]
            .into_iter()
            .find_map(|disk| found.get(disk));
        let (came, said_why) = of.unwrap_or_else(|| panic!("{id}: {said}"));
        assert_eq!(came, result, "{id}, {filter:?}, {why}: {said_why}");
        assert!(said_why.contains(why), "{id}, {why}: {said_why}");
        let all = report["results"].as_array().expect("results");
        let broken = all.iter().any(|found| found["result"] == BROKEN);
        assert_eq!(exit == Exit::Good, !broken, "{id}, {why}: {said}");
        let dies = unit(&mut machine).dead.get().is_some();
        if dies {
            assert_eq!(exit, Exit::Error);
            assert!(said.contains("THE DISK MAY STILL BE RESERVED"), "{said}");
        } else if unit(&mut machine)
            .holder
            .lock()
            .expect("no panic")
            .as_deref()
            != Some("them")
        {
            is_free(&machine, &report);
        }
    }
}

/// Two nodes, A and B, on one unit; both go through the steps at the same time.
struct PeerCase {
    id: &'static str,
    filter: Filter,
    result: &'static str,
    why: &'static str,
    change: [fn(&mut Memory); 2],
}

macro_rules! peer_cases {
    ($($id:literal $filter:ident $result:ident $why:literal: $a:expr, $b:expr;)*) => {
        const PEER_CASES: &[PeerCase] = &[$(PeerCase {
            id: $id,
            filter: $filter,
            result: $result,
            why: $why,
            change: [$a, $b],
        },)*];
    };
}

peer_cases! {
    "peer-conflict" Above HOLDS "": |_| {}, |_| {};
    "peer-conflict" Below HOLDS "": |m| unit(m).watch(1), |m| unit(m).watch(2);
    "peer-conflict" Above BROKEN "step 2: the second node's RESERVE: success": |_| {}, |m| unit(m).holder = Arc::default();
    "peer-conflict" Below BROKEN "step 2: the first node knows unknown": |m| {
        unit(m).watch(1);
        unit(m).unseen = Some(Command::Reserve);
    }, |m| unit(m).watch(1);
    "peer-conflict" Below BROKEN "step 2: the second node knows unknown": |m| unit(m).watch(1), |m| {
        unit(m).watch(1);
        unit(m).unseen = Some(Command::Reserve);
    };
    "peer-conflict" Below UNTOLD "Watch 1 or 2": |_| {}, |_| {};
    "peer-conflict" NoFilter UNTOLD "Watch 1 or 2": |_| {}, |_| {};
    "peer-conflict" Above UNTOLD "step 1: another initiator holds the disk": |m| held(m, "them"), |_| {};
    "peer-release" Above HOLDS "": |_| {}, |_| {};
    "peer-release" Above HOLDS "": |m| m.bench().refuses = 3, |m| m.bench().refuses = 3;
    "peer-release" Below HOLDS "": |_| {}, |_| {};
    "peer-release" Above BROKEN "step 4: the second node's RESERVE: another initiator": |m| unit(m).keeps = true, |_| {};
    "peer-release" Above BROKEN "step 5: the first node's RESERVE: success": |m| unit(m).holder = Arc::default(), |_| {};
    "peer-release" Above UNTOLD "step 1": |m| held(m, "them"), |_| {};
    "peer-reset" Above HOLDS "": |_| {}, |_| {};
    "peer-reset" Above BROKEN "step 7: the first node's RESERVE: another initiator": |_| {}, |m| unit(m).survives_reset = true;
    "peer-reset" Above BROKEN "step 6: the second node knows held_by_us": |_| {}, |m| unit(m).remembers = true;
    "peer-reset" Above UNTOLD "step 6": |_| {}, |m| unit(m).unserved = Some(0x002D_5014);
    "peer-reset" Below UNTOLD "Watch 1 or 2": |_| {}, |_| {};
}

type Ran = (Exit, String, Json);
type Holder = Arc<Mutex<Option<String>>>;

/// Runs both at the same time, with a share; and who holds the unit then.
fn meet(filter: Filter, change: [fn(&mut Memory); 2]) -> ([Ran; 2], Holder) {
    let (holder, share) = (Holder::default(), memory::Share::default());
    let node = |own: &'static str, peer: &'static str, change: fn(&mut Memory)| {
        let (holder, share) = (Arc::clone(&holder), Arc::clone(&share));
        move || {
            let mut machine = Memory::lab(filter);
            unit(&mut machine).holder = holder;
            unit(&mut machine).initiator = own.into();
            machine.bench().share = Some(share);
            machine.bench().wait = Duration::from_millis(5);
            change(&mut machine);
            let line = format!(r"1 --peer {peer} --share \\FILES\LAB --name {own}");
            run(&machine, &line)
        }
    };
    let both = std::thread::scope(|scope| {
        let [a, b] = change;
        let (a, b) = (
            scope.spawn(node("NODE-A", "NODE-B", a)),
            scope.spawn(node("NODE-B", "node-a", b)),
        );
        [a, b].map(|node| node.join().expect("no panic"))
    });
    assert!(
        share.lock().expect("no panic").is_empty(),
        "the share is left as it was"
    );
    (both, holder)
}

#[test]
fn two_nodes_see_the_same_of_each_other() {
    for case in PEER_CASES {
        let PeerCase {
            id,
            filter,
            result,
            why,
            ..
        } = case;
        for (exit, said, report) in meet(*filter, case.change).0 {
            let (came, said_why) = &results(&report, id)["PhysicalDrive1"];
            assert_eq!(came, result, "{id}, {filter:?}, {why}: {said}");
            assert!(said_why.contains(why), "{id}, {why}: {said_why}");
            assert!(!said.contains("in time"), "{id}, {why}: {said}");
            assert_eq!(
                exit == Exit::Good,
                *result != BROKEN && !said.contains("does not hold"),
                "{said}"
            );
            assert_eq!(report["undone"]["left"], Json::Null);
        }
    }
}

#[test]
fn after_two_nodes_met_nobody_holds_the_disk() {
    for filter in [Above, Below] {
        let (ran, holder) = meet(filter, [|_| {}, |_| {}]);
        assert_eq!(ran.map(|(exit, ..)| exit), [Exit::Good; 2]);
        assert_eq!(*holder.lock().expect("no panic"), None);
    }
}

#[test]
fn a_node_that_does_not_come_leaves_the_steps_untold() {
    let mut machine = Memory::lab(Above);
    let share = memory::Share::default();
    // A whole run, but another's.
    let view = r#"{"error":0,"knowledge":"held_by_us","tells":true}"#;
    let stale = format!(r#"{{"run":7,"with":0,"views":[{}]}}"#, [view; 8].join(","));
    let path = r"\\FILES\LAB\resvctl-selftest-node-b.json";
    share
        .lock()
        .expect("no panic")
        .insert(path.into(), stale.into_bytes());
    machine.time = 1;
    machine.bench().share = Some(Arc::clone(&share));
    let (exit, said, report) = run(&machine, r"1 --peer NODE-B --share \\FILES\LAB");
    assert_eq!(exit, Exit::Good, "{said}");
    for check in CHECKS.iter().filter(|check| check.needs == Needs::Peer) {
        let (result, why) = &results(&report, check.id)["PhysicalDrive1"];
        assert_eq!((&**result, &**why), (UNTOLD, "node-b did not come in time"));
    }
    is_free(&machine, &report);
    let left = share.lock().expect("no panic");
    assert_eq!(
        left.keys().collect::<Vec<_>>(),
        [path],
        "its own file is gone"
    );
}

/// What node B does, or node A, when its operator is asked for; by the number of the step.
fn operated(own: &str, acts: fn(u32, &mut Option<String>)) -> (Exit, String, Json) {
    let mut machine = Memory::lab(Above);
    let holder = Arc::clone(&unit(&mut machine).holder);
    let mut step = 0;
    machine.bench().enters = std::cell::RefCell::new(Some(Box::new(move || {
        step += 1;
        acts(step, &mut holder.lock().expect("no panic"));
        true
    })));
    let peer = if own == "a" { "b" } else { "a" };
    run(&machine, &format!("1 --peer {peer} --name {own}"))
}

#[test]
fn without_a_share_the_operators_keep_step_and_each_judges_what_it_saw() {
    let b: fn(u32, &mut Option<String>) = |step, holder| match step {
        4 => *holder = Some("b".into()),
        6 => *holder = None,
        _ => {}
    };
    let a: fn(u32, &mut Option<String>) = |step, holder| match step {
        1 | 7 => *holder = Some("a".into()),
        3 | 8 => *holder = None,
        _ => {}
    };
    for (own, acts) in [("a", b), ("b", a)] {
        let (exit, said, report) = operated(own, acts);
        assert_eq!(exit, Exit::Good, "{said}");
        for id in ["peer-conflict", "peer-release", "peer-reset"] {
            assert_eq!(
                results(&report, id)["PhysicalDrive1"].0,
                HOLDS,
                "{own}: {said}"
            );
        }
        assert!(said.contains("press Enter when"), "{said}");
    }
    for own in ["a", "b"] {
        let (exit, said, report) = operated(own, |_, _| {});
        assert_eq!(exit, Exit::Error, "{said}");
        let broken = if own == "a" {
            "peer-release"
        } else {
            "peer-conflict"
        };
        assert_eq!(
            results(&report, broken)["PhysicalDrive1"].0,
            BROKEN,
            "{own}: {said}"
        );
    }
    let mut machine = Memory::lab(Above);
    machine.bench().enters = std::cell::RefCell::new(None);
    let (_, said, report) = run(&machine, "1 --peer B");
    for id in ["peer-conflict", "peer-release", "peer-reset"] {
        let (result, why) = &results(&report, id)["PhysicalDrive1"];
        assert_eq!(result, UNTOLD, "{said}");
        assert!(why.contains("presses Enter"), "{why}");
    }
    is_free(&machine, &report);
}

/// Of these a machine always tells.
const ALWAYS_TOLD: [&str; 1] = ["handle-access"];

#[test]
fn each_check_is_seen_to_hold_to_fail_and_to_be_untellable() {
    let cases = CASES.iter().map(|case| (case.id, case.result));
    let peers = PEER_CASES.iter().map(|case| (case.id, case.result));
    let seen: BTreeSet<_> = cases.chain(peers).collect();
    for check in CHECKS {
        for result in [HOLDS, BROKEN, UNTOLD] {
            let always = result == UNTOLD && ALWAYS_TOLD.contains(&check.id);
            assert_eq!(
                seen.contains(&(check.id, result)),
                !always,
                "{}: {result}",
                check.id
            );
        }
    }
}

/// Number and disk of each result.
fn rows(report: &Json) -> Vec<(usize, String)> {
    let results = report["results"].as_array().expect("results").iter();
    let row = |found: &Json| {
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        let check = CHECKS.iter().position(|check| check.id == text("id"));
        let check = check.expect("a check");
        assert_eq!(text("sentence"), CHECKS[check].sentence);
        (check, text("disk"))
    };
    results.map(row).collect()
}

#[test]
fn every_check_that_was_asked_for_is_in_the_report_once_and_in_order() {
    let all = [
        "PhysicalDrive0",
        "PhysicalDrive1",
        "PhysicalDrive2",
        "PhysicalDrive3",
    ];
    for (line, disks, asked) in [
        ("", &all[..], &[][..]),
        ("1", &all[1..2], &[]),
        ("serial:FILE-2", &all[2..3], &[]),
        ("1 --with-reserve", &all[1..2], &[Needs::WithReserve]),
        ("1 --with-sleep", &all[1..2], &[Needs::WithSleep]),
        (
            "1 --with-reserve --with-sleep",
            &all[1..2],
            &[Needs::WithReserve, Needs::WithSleep],
        ),
    ] {
        let mut wanted = Vec::new();
        for (number, check) in CHECKS.iter().enumerate() {
            let of_disks = check.needs == Needs::Disk || asked.contains(&check.needs);
            if matches!(check.needs, Needs::Nothing | Needs::Package) {
                wanted.push((number, String::new()));
            } else if of_disks {
                wanted.extend(disks.iter().map(|disk| (number, (*disk).to_owned())));
            }
        }
        let (_, _, report) = run(&Memory::lab(Above), line);
        assert_eq!(rows(&report), wanted, "{line}");
    }
}

#[test]
fn without_being_asked_to_it_changes_nothing() {
    let machine = Memory::lab(Above);
    let before = machine.lasting.borrow().clone();
    let (exit, said, _) = machine.command("selftest");
    assert_eq!(exit, Exit::Good, "{said}");
    assert!(said.contains("nothing was changed"), "{said}");
    assert_eq!(*machine.lasting.borrow(), before);
    assert_eq!(machine.steps(), 0);
    let mut inquiries = 0;
    for (code, input) in &*machine.sent.borrow() {
        match code {
            // Its number, what it says of itself, the state query, the extents of a volume.
            0x002D_1080 | 0x002D_1400 | 0x8016_6058 | 0x0056_0000 => {}
            0x0004_D004 => {
                assert_eq!(input[36], 0x12, "INQUIRY");
                inquiries += 1;
            }
            _ => panic!("{code:#x} was sent"),
        }
    }
    assert_eq!(inquiries, machine.disks.len());
}

#[test]
fn what_changes_a_disk_is_refused_where_it_may_not() {
    for (line, exit, why, change) in [
        (
            "--with-reserve",
            Exit::Usage,
            "DISK",
            (|_| {}) as fn(&mut Memory),
        ),
        ("--with-sleep", Exit::Usage, "DISK", |_| {}),
        ("--peer B", Exit::Usage, "DISK", |_| {}),
        ("1 --share F", Exit::Usage, "--peer", |_| {}),
        (
            "1 --peer B --with-reserve",
            Exit::Usage,
            "--with-reserve",
            |_| {},
        ),
        ("1 --list", Exit::Usage, "--list", |_| {}),
        ("1 --with-reserve", Exit::Error, "administrator", |m| {
            m.elevated = false;
        }),
        ("1 --with-sleep", Exit::Error, "administrator", |m| {
            m.elevated = false;
        }),
        ("1 --peer B", Exit::Error, "administrator", |m| {
            m.elevated = false;
        }),
        (
            "0 --with-reserve",
            Exit::Error,
            "Windows itself needs PhysicalDrive0",
            |_| {},
        ),
        (
            "1 --with-reserve",
            Exit::Error,
            "PhysicalDrive1 (paging)",
            |m| {
                m.put(
                    &machine_key(MEMORY_MANAGEMENT),
                    "PagingFiles",
                    Some(multi(&[r"E:\pagefile.sys 0 0"])),
                );
            },
        ),
        ("1 --peer B", Exit::Error, "PhysicalDrive1 (dump)", |m| {
            m.put(
                &machine_key(CRASH_CONTROL),
                "DedicatedDumpFile",
                Some(Value::sz(r"E:\dump")),
            );
        }),
        (
            "1 --with-reserve",
            Exit::Error,
            "it is not told which disks",
            |m| setup(m, None),
        ),
        ("3 --with-reserve", Exit::Error, "a disk of MPIO's", |_| {}),
        ("9 --with-reserve", Exit::Error, "PhysicalDrive9", |_| {}),
        (
            "1 --peer node-a",
            Exit::Error,
            "both nodes are called",
            |_| {},
        ),
        (
            r"1 --peer ..\x",
            Exit::Error,
            "is no machine's name",
            |_| {},
        ),
        ("1 --peer B", Exit::Error, "--name NAME", |m| {
            let key = r"SYSTEM\CurrentControlSet\Control\ComputerName\ActiveComputerName";
            m.put(&machine_key(key), "ComputerName", None);
        }),
    ] {
        let mut machine = Memory::lab(Above);
        change(&mut machine);
        let (found, out, err) = machine.command(&format!("selftest {line}"));
        assert_eq!(found, exit, "{line}: {out}{err}");
        assert!(err.contains(why), "{line}, {why}: {err}");
        let sent = machine.sent.borrow();
        let sent = sent
            .iter()
            .filter(|(code, _)| Command::from_ioctl(*code).is_some());
        assert_eq!(sent.count(), 0, "{line}");
    }
}

#[test]
fn a_disk_that_is_somebodys_is_not_reserved() {
    let taken = [
        0, 0, 0, 9, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 3, 0, 0,
    ];
    for (why, change) in [
        (
            "another initiator holds the disk",
            (|m| held(m, "them")) as fn(&mut Memory),
        ),
        ("this node holds the disk already", |m| {
            held(m, "us");
            unit(m).knowledge.set(1);
        }),
        ("persistent reservation", |_| {}),
        ("RESERVE: ", |m| unit(m).dead.set(Some(Win32::NOT_READY))),
    ] {
        let mut machine = Memory::lab(Above);
        change(&mut machine);
        if why.starts_with("persistent") {
            machine.persistent = Ok(taken.to_vec());
        }
        let before = unit(&mut machine).holder.lock().expect("no panic").clone();
        let (exit, said, report) = run(&machine, "1 --with-reserve --with-sleep");
        assert_eq!(exit, Exit::Good, "{said}");
        for check in CHECKS
            .iter()
            .filter(|c| matches!(c.needs, Needs::WithReserve | Needs::WithSleep))
        {
            let (result, found) = &results(&report, check.id)["PhysicalDrive1"];
            assert_eq!(result, UNTOLD, "{}", check.id);
            assert!(found.contains(why), "{}: {found}", check.id);
        }
        assert_eq!(report["undone"]["reserved"], 0);
        assert_eq!(*unit(&mut machine).holder.lock().expect("no panic"), before);
    }
}

#[test]
fn a_report_is_shown_again_as_it_was_printed() {
    let mut machine = Memory::lab(Below);
    unit(&mut machine).refusal = Err(Win32::IO_DEVICE);
    unit(&mut machine).identity = Some(["ACME    ", "Turbo", "1.0"]);
    let (exit, said, _) = run(&machine, "1 --with-reserve");
    assert_eq!(exit, Exit::Error);
    let (again, shown, _) = machine.command(&format!("selftest --show {REPORT}"));
    assert_eq!(again, exit);
    assert!(said.contains(&shown), "{shown}\n{said}");
    for told in [
        "Windows Server 2022 21H2, build 14393.2000; KMDF 1.33.0.0; resvflt.sys 0.1.0.0; resvctl 0.1.0\n",
        "PhysicalDrive1: filter below disk.sys; port port 10.0.1.2; ACME; Turbo; 1.0; bus type 9\n",
        "does not hold  port-refusal      PhysicalDrive1   the port hands nothing over: ",
        "               status: the disk's answer was an error (error 1117)\n",
        "can't be told  watched           PhysicalDrive1   Watch is 0\n",
        "holds          image\n",
        "times, and released\n",
    ] {
        assert!(shown.contains(told), "{told}\n{shown}");
    }
    machine.put_file(REPORT, b"{}");
    for (file, why) in [(REPORT, "it is no report"), (r"C:\none.json", "error 2")] {
        let (exit, out, err) = machine.command(&format!("selftest --show {file}"));
        assert_eq!((exit, out), (Exit::Error, String::new()));
        assert!(err.contains(file) && err.contains(why), "{err}");
    }
}

#[test]
fn a_report_in_which_nothing_holds_is_not_good() {
    let machine = Memory::lab(Below);
    let (_, _, mut report) = run(&machine, "");
    for outcome in [HOLDS, UNTOLD] {
        for found in report["results"].as_array_mut().expect("results") {
            found["result"] = outcome.into();
        }
        machine.put_file(REPORT, report.to_string().as_bytes());
        let (exit, out, _) = machine.command(&format!("selftest --show {REPORT}"));
        assert_eq!(exit == Exit::Good, outcome == HOLDS, "{out}");
    }
}

#[test]
fn a_disk_that_can_not_be_released_is_told_of_though_nothing_else_is_wrong() {
    let mut machine = Memory::lab(Above);
    unit(&mut machine).unserved = Some(0x002D_4814);
    let (exit, said, report) = run(&machine, "1 --with-reserve");
    assert_eq!(exit, Exit::Error);
    assert!(said.contains(" 0 do not, "), "{said}");
    assert!(
        said.contains("THE DISK MAY STILL BE RESERVED: RELEASE: "),
        "{said}"
    );
    assert_eq!(report["undone"]["reserved"], 1);
}

#[test]
fn once_a_request_does_not_end_nothing_more_is_sent() {
    for (id, change) in [
        (
            "cancel-queued",
            (|m| unit(m).cancel = CancelAs::Never) as fn(&mut Memory),
        ),
        ("process-ends", |m| unit(m).process = ProcessAs::Hangs),
    ] {
        let mut machine = Memory::lab(Above);
        change(&mut machine);
        let (_, said, report) = run(&machine, "1 --with-reserve --with-sleep");
        let later = CHECKS.iter().skip_while(|check| check.id != id).skip(1);
        for check in
            later.filter(|check| matches!(check.needs, Needs::WithReserve | Needs::WithSleep))
        {
            let (result, why) = &results(&report, check.id)["PhysicalDrive1"];
            assert_eq!(result, UNTOLD, "{}: {said}", check.id);
            assert!(why.contains("does not end"), "{}: {why}", check.id);
        }
        is_free(&machine, &report);
    }
}

#[test]
fn a_report_of_another_form_is_not_shown_as_if_it_were_this_one() {
    let machine = Memory::lab(Below);
    let (_, _, mut report) = run(&machine, "");
    report["form"] = 2.into();
    machine.put_file(REPORT, report.to_string().as_bytes());
    let (exit, _, err) = machine.command(&format!("selftest --show {REPORT}"));
    assert_eq!(exit, Exit::Error);
    assert!(err.contains("its form is 2"), "{err}");
}

#[test]
fn a_report_that_can_not_be_written_is_an_error() {
    let mut machine = Memory::lab(Below);
    machine.bench().read_only = true;
    let (exit, out, err) = machine.command(&format!("selftest --json {REPORT}"));
    assert_eq!(exit, Exit::Error);
    assert!(
        err.contains(REPORT) && out.contains("holds          image"),
        "{err}"
    );
}

/// A pipe whose reader goes away after so many bytes.
struct Pipe(usize);

impl std::io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_is_released_though_nobody_reads_on() {
    for line in ["1 --with-reserve", "1 --with-sleep", "1 --peer b --name a"] {
        let run = |room| {
            let mut machine = Memory::lab(Above);
            machine.bench().enters = std::cell::RefCell::new(Some(Box::new(|| true)));
            let words = format!("resvctl selftest {line}");
            let (mut out, mut err) = (Pipe(room), Vec::new());
            let exit = resvctl::run(&machine, words.split(' '), &mut out, &mut err);
            let holder = unit(&mut machine).holder.lock().expect("no panic").clone();
            assert_eq!(holder, None, "{line}: {room} bytes were read");
            let sent = machine.sent.borrow();
            let reserved = sent.iter().any(|(code, _)| *code == 0x002D_4810);
            (exit, reserved, usize::MAX - out.0)
        };
        let (_, _, whole) = run(usize::MAX);
        let mut after_a_reserve = 0;
        for room in 0..whole {
            let (exit, reserved, _) = run(room);
            assert_eq!(exit, Exit::Error);
            after_a_reserve += u32::from(reserved);
        }
        assert!(after_a_reserve > 0, "{line}");
    }
}

#[test]
fn a_machine_that_tells_nothing_makes_nothing_hold() {
    let machine = Memory::default();
    let (exit, out, err) = machine.command("selftest");
    for check in ["image", "service", "win32-errors", "stack", "query"] {
        let row = format!("can't be told  {check:<16}");
        assert!(out.contains(&row), "{check}: {out}{err}");
    }
    assert_eq!(exit, Exit::Error, "{out}{err}");
}

#[test]
fn the_list_tells_each_check() {
    let (exit, out, _) = Memory::default().command("selftest --list");
    assert_eq!(exit, Exit::Good);
    let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len(), "an id is one check's");
    for check in CHECKS {
        let told = format!(
            "{} (needs {})\n  {}\n  {}\n",
            check.id, check.needs, check.sentence, check.how
        );
        assert!(out.contains(&told), "{}", check.id);
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(check.id.chars().all(kebab), "{}", check.id);
        assert!(check.how.ends_with('.'), "{}", check.id);
    }
}

fn page(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::fs::read_to_string(root.join(path)).expect(path)
}

#[test]
fn the_errors_are_those_of_the_troubleshooting_page() {
    let page = page("docs/troubleshooting.md");
    let rows = page.lines().filter_map(|line| {
        let (status, rest) = line.strip_prefix("| STATUS_")?.split_once(" 0x")?;
        let (_, rest) = rest.split_once("<br>")?;
        let error: u32 = rest.split(' ').next()?.parse().ok()?;
        Some((format!("STATUS_{status}"), error))
    });
    let told: BTreeMap<_, _> = rows.collect();
    let here =
        WIN32_ERRORS.map(|(status, error)| (status.name().expect("a name").to_owned(), error));
    assert_eq!(told, here.into());
}

#[test]
fn the_events_are_those_that_the_driver_lists() {
    let page = page("driver/EVENTS.md");
    for (name, level, keyword, fields) in EVENTS {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")));
        let cells: Vec<&str> = row.expect(name).split(" | ").collect();
        let level = ["warning", "information", "verbose"][usize::from(level) - 3];
        assert_eq!((cells[1], cells[2]), (level, &*format!("{keyword:#x}")));
        let listed = cells[3]
            .split(", ")
            .map(|field| field.split(' ').next().expect("a word"));
        assert_eq!(listed.collect::<Vec<_>>(), fields);
    }
}
