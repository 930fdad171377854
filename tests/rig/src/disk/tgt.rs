//! An iSCSI target on the loopback interface for as long as it is wanted: Debian's `tgtd`, with one
//! target and one small disk.
//!
//! It needs no root. The kernel picks the port, and the daemon's control socket lies in a directory
//! of its own, so any number of them run side by side. The directory is removed as soon as the
//! daemon is set up, since it keeps open what it needs; the daemon dies with its [`Target`], or with
//! this process however that ends. So nothing is left behind.

use std::{
    env, fs,
    fs::File,
    io,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use super::{DiskError, SenseFormat, iscsi::IscsiDisk};

const NAME: &str = "iqn.2001-04.com.example:resvflt";
/// tgt keeps LUN 0 for its controller.
const LUN: u8 = 1;
const DISK_BYTES: u64 = 64 * 1024;
/// The daemon answers within milliseconds; a loaded machine may take its time.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running target with one logical unit.
pub struct Target {
    daemon: Daemon,
    portal: String,
}

impl Target {
    /// Starts a daemon and sets it up; its unit gives sense data in `format`.
    ///
    /// # Errors
    /// [`DiskError::Failed`], with what to install or what the daemon said.
    pub fn start(format: SenseFormat) -> Result<Self, DiskError> {
        Self::start_program("tgtd", format)
    }

    fn start_program(program: &str, format: SenseFormat) -> Result<Self, DiskError> {
        let directory = Directory::create().map_err(failed("no temporary directory for tgtd"))?;
        let mut daemon = Daemon::spawn(program, &directory)?;
        let portal = daemon.portal(&directory)?;

        let image = directory.0.join("disk");
        File::create(&image)
            .and_then(|file| file.set_len(DISK_BYTES))
            .map_err(failed("no backing file for tgtd"))?;
        let image = image.display().to_string();
        let lun = LUN.to_string();
        let sense = format!(
            "sense_format={}",
            u8::from(format == SenseFormat::Descriptor)
        );
        for arguments in [
            &["new", "--mode", "target", "--tid", "1", "-T", NAME][..],
            &[
                "new",
                "--mode",
                "logicalunit",
                "--tid",
                "1",
                "--lun",
                &lun,
                "-b",
                &image,
            ],
            &[
                "update",
                "--mode",
                "logicalunit",
                "--tid",
                "1",
                "--lun",
                &lun,
                "--params",
                &sense,
            ],
            &["bind", "--mode", "target", "--tid", "1", "-I", "ALL"],
        ] {
            directory.tgtadm(arguments)?;
        }
        Ok(Self { daemon, portal })
    }

    /// A new I_T nexus to the unit.
    ///
    /// # Errors
    /// Those of [`IscsiDisk::connect`].
    pub fn connect(&self, initiator: &str) -> Result<IscsiDisk, DiskError> {
        IscsiDisk::connect(&self.portal, NAME, LUN, initiator)
    }

    /// Where it listens: `127.0.0.1:port`.
    #[must_use]
    pub fn portal(&self) -> &str {
        &self.portal
    }

    /// The unit, as libiscsi's programs name it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("iscsi://{}/{NAME}/{LUN}", self.portal)
    }

    /// The daemon's process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.daemon.child.id()
    }
}

/// The daemon's process, killed when dropped.
struct Daemon {
    child: Child,
    /// Ends the thread that started the child.
    _parent: mpsc::Sender<()>,
}

impl Daemon {
    fn spawn(program: &str, directory: &Directory) -> Result<Self, DiskError> {
        let log = File::create(directory.log()).map_err(failed("no log file for tgtd"))?;
        let errors = log.try_clone().map_err(failed("no log file for tgtd"))?;
        let mut command = directory.command(program);
        command
            // Port 0: bound where the kernel finds a free one. To a port that is taken tgtd would
            // not bind, and listen on every address instead (iscsi_tcp_init).
            .args(["-f", "-C", "0", "--iscsi", "portal=127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let parent = process::id();
        // SAFETY: between fork and exec it makes two system calls and touches no memory but its own.
        unsafe { command.pre_exec(move || die_with(parent)) };

        // The kernel means the thread when it says parent (prctl(2), PR_SET_PDEATHSIG): a thread
        // that outlives the caller's has to be the one that forks.
        let (child, spawned) = mpsc::channel();
        let (parent, wanted) = mpsc::channel::<()>();
        thread::spawn(move || {
            // Fails only if the caller has gone, and then there is nobody to tell.
            let _ = child.send(command.spawn());
            // An error, as soon as the daemon is dropped.
            let _ = wanted.recv();
        });
        let child = spawned
            .recv()
            .expect("the thread above sends before it ends");
        let child = child.map_err(|error| not_started(program, &error))?;
        Ok(Self {
            child,
            _parent: parent,
        })
    }

    /// Waits for the daemon's first answer and asks where it listens.
    fn portal(&mut self, directory: &Directory) -> Result<String, DiskError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let answer = loop {
            let answer = directory.tgtadm(&["show", "--mode", "portal"]);
            let ended = self.child.try_wait().map_err(failed("tgtd"))?;
            match answer {
                Ok(answer) => break answer,
                Err(error) if ended.is_some() || Instant::now() > deadline => {
                    let said = fs::read_to_string(directory.log()).unwrap_or_default();
                    return Err(DiskError::Failed(format!(
                        "tgtd does not answer: {error}\n{said}"
                    )));
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        only_loopback(&answer).ok_or_else(|| {
            DiskError::Failed(format!(
                "tgtd listens elsewhere than on 127.0.0.1 alone: {answer}"
            ))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the daemon's control socket, log and disk image are made.
struct Directory(PathBuf);

impl Directory {
    fn create() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("rig-tgtd-{}-{number}", process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// A command of the tgt package that uses the control socket in this directory.
    fn command(&self, program: &str) -> Command {
        // Debian has them in /usr/sbin, which is not in everybody's PATH.
        let installed = Path::new("/usr/sbin").join(program);
        let mut command = if installed.exists() {
            Command::new(installed)
        } else {
            Command::new(program)
        };
        command.env("TGT_IPC_SOCKET", self.0.join("control"));
        command
    }

    fn tgtadm(&self, operation: &[&str]) -> Result<String, DiskError> {
        let output = self
            .command("tgtadm")
            .args(["-C", "0", "--lld", "iscsi", "--op"])
            .args(operation)
            .output()
            .map_err(|error| not_started("tgtadm", &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(DiskError::Failed(format!(
            "tgtadm --op {}: {}",
            operation.join(" "),
            said.trim()
        )))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // At worst a few files stay in the temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The portal of `tgtadm --op show --mode portal`, if there is one and it is on the loopback.
fn only_loopback(answer: &str) -> Option<String> {
    let mut portals = answer
        .lines()
        .filter_map(|line| line.strip_prefix("Portal: "));
    let (portal, _group) = portals.next()?.split_once(',')?;
    let alone = portals.next().is_none();
    (alone && portal.starts_with("127.0.0.1:")).then(|| portal.to_owned())
}

/// In the child: be killed when the parent ends, and don't start if it has.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: sets an attribute of the calling process.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: always succeeds.
    let now = unsafe { libc::getppid() };
    if now.cast_unsigned() == parent {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn not_started(program: &str, error: &io::Error) -> DiskError {
    DiskError::Failed(match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{program} is not installed: install the package tgt (apt-get install tgt)")
        }
        _ => format!("{program} does not start: {error}"),
    })
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> DiskError {
    move |error| DiskError::Failed(format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_daemon_names_the_package_to_install() {
        let error = Target::start_program("no-such-tgtd", SenseFormat::Fixed).err();
        let expected = "no-such-tgtd is not installed: install the package tgt";
        assert!(error.is_some_and(|error| error.to_string().starts_with(expected)));
    }

    #[test]
    fn only_a_single_portal_on_the_loopback_is_accepted() {
        for (answer, portal) in [
            ("Portal: 127.0.0.1:46741,1\n", Some("127.0.0.1:46741")),
            ("Portal: 0.0.0.0:3260,1\nPortal: [::]:3260,1\n", None),
            ("Portal: 127.0.0.1:46741,1\nPortal: 0.0.0.0:3260,1\n", None),
            ("", None),
        ] {
            assert_eq!(only_loopback(answer).as_deref(), portal, "{answer}");
        }
    }
}
