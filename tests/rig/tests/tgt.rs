//! What the iSCSI disk and its target promise beyond a disk's manners: nothing left behind, no wait
//! without an end.
#![cfg(feature = "iscsi")]

use std::{
    env,
    io::{BufRead, BufReader},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{self, Command, Stdio},
    ptr, thread,
    time::{Duration, Instant},
};

use rig::disk::{Disk, GOOD, Outcome, SenseFormat, iscsi::IscsiDisk, tgt::Target};

const INITIATOR: &str = "iqn.2001-04.com.example:a";
const TEST_UNIT_READY: [u8; 6] = [0; 6];
/// Far more than anything here takes; a test that needs it has failed.
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(20);

fn target() -> Target {
    Target::start(SenseFormat::Fixed).expect("tgt")
}

/// A nexus whose unit attention of power on is taken.
fn ready(target: &Target) -> IscsiDisk {
    let disk = target.connect(INITIATOR).expect("login");
    assert!(disk.execute(&TEST_UNIT_READY, LONG).sense().is_some());
    disk
}

fn signal(process: u32, signal: i32) {
    // SAFETY: signals a daemon that this process, or its child, started and has not reaped.
    assert_eq!(unsafe { libc::kill(process.cast_signed(), signal) }, 0);
}

/// A handle that becomes readable when the process ends, whoever reaps it.
fn watch(process: u32) -> OwnedFd {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    assert!(fd >= 0, "no process {process}");
    // SAFETY: just opened, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) }
}

fn ends(process: &OwnedFd) -> bool {
    let mut pollfd = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = i32::try_from(LONG.as_millis()).expect("a minute");
    // SAFETY: one pollfd, which lives over the call.
    unsafe { libc::poll(&raw mut pollfd, 1, milliseconds) == 1 }
}

fn directories_of(process: u32) -> usize {
    let prefix = format!("rig-tgtd-{process}-");
    let entries = env::temp_dir().read_dir().expect("a temporary directory");
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .count()
}

#[test]
fn a_login_takes_no_unit_attention() {
    let target = target();
    let disk = target.connect(INITIATOR).expect("login");
    let sense = disk.execute(&TEST_UNIT_READY, LONG).sense();
    assert_eq!(
        sense.map(|sense| (sense.asc, sense.ascq)),
        Some((0x29, 0x00))
    );
}

#[test]
fn targets_run_side_by_side_on_the_loopback() {
    let targets = [target(), target(), target()];
    for target in &targets {
        assert!(target.portal().starts_with("127.0.0.1:"));
        ready(target);
    }
    assert_ne!(targets[0].portal(), targets[1].portal());
}

#[test]
fn a_target_outlives_the_thread_that_started_it_and_ends_with_its_drop() {
    let target = thread::spawn(target).join().expect("no panic");
    let disk = ready(&target);
    assert_eq!(disk.execute(&TEST_UNIT_READY, LONG).status(), Some(GOOD));
    let process = watch(target.process());
    drop(target);
    assert!(ends(&process));
}

/// Runs itself again as a process that is killed while it has a target.
#[test]
fn a_killed_process_leaves_no_daemon_and_no_files() {
    const HOLDER: &str = "RIG_TEST_HOLDS_A_TARGET";
    const NAME: &str = "a_killed_process_leaves_no_daemon_and_no_files";

    if env::var_os(HOLDER).is_some() {
        let target = target();
        eprintln!("{}", target.process());
        loop {
            thread::park();
        }
    }
    // The orphaned daemon becomes this process's child, which reaps it.
    // SAFETY: sets an attribute of the calling process.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let mut holder = Command::new(env::current_exe().expect("this test"))
        .args([NAME, "--exact", "--nocapture"])
        .env(HOLDER, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a process of its own");
    let lines = BufReader::new(holder.stderr.take().expect("piped")).lines();
    let daemon = lines
        .map_while(Result::ok)
        .find_map(|line| line.parse::<u32>().ok())
        .expect("a process number");
    let process = watch(daemon);
    holder.kill().expect("running");
    assert!(ends(&process));
    assert_eq!(directories_of(holder.id()), 0);
    holder.wait().expect("killed");
    // SAFETY: an exit status that nobody wants.
    unsafe { libc::waitpid(daemon.cast_signed(), ptr::null_mut(), 0) };
}

#[test]
fn a_target_that_is_set_up_has_no_files() {
    let target = target();
    // Other tests of this process may be starting theirs, each with one directory for a moment.
    let deadline = Instant::now() + LONG;
    while directories_of(process::id()) > 0 {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    ready(&target);
}

#[test]
fn a_command_without_an_answer_times_out_and_its_late_answer_disturbs_nobody() {
    let target = target();
    let disk = ready(&target);
    signal(target.process(), libc::SIGSTOP);
    for _ in 0..3 {
        assert_eq!(
            disk.execute(&[0x16, 0, 0, 0, 0, 0], SHORT),
            Outcome::TimedOut
        );
    }
    signal(target.process(), libc::SIGCONT);
    let inquiry = [0x12, 0, 0, 0, 36, 0];
    let outcome = disk.transfer(&inquiry, rig::disk::Data::In(36), LONG);
    let Outcome::Status {
        status: GOOD, data, ..
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(data.len(), 36);
}

#[test]
fn a_dead_target_is_gone_at_once() {
    let target = target();
    let disk = ready(&target);
    drop(target);
    assert_eq!(disk.execute(&TEST_UNIT_READY, LONG), Outcome::Gone);
    assert_eq!(disk.execute(&TEST_UNIT_READY, LONG), Outcome::Gone);
    assert!(disk.reset_logical_unit().is_err());
}

#[test]
fn losing_the_path_ends_the_command_that_waits_on_it() {
    let target = target();
    let disk = ready(&target);
    signal(target.process(), libc::SIGSTOP);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| disk.execute(&TEST_UNIT_READY, LONG));
        disk.lose();
        assert_eq!(waiting.join().expect("no panic"), Outcome::Gone);
    });
}

#[test]
fn a_refused_login_says_why() {
    let target = target();
    let unknown = IscsiDisk::connect(target.portal(), "iqn.2001-04.com.example:no", 1, INITIATOR);
    let portal = target.portal().to_owned();
    drop(target);
    let closed = IscsiDisk::connect(&portal, "iqn.2001-04.com.example:no", 1, INITIATOR);
    for (login, why) in [
        (unknown, "Target not found"),
        (closed, "Connection refused"),
    ] {
        let error = login.err().expect("refused").to_string();
        assert!(error.contains(why), "{error}");
    }
}
