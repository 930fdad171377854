//! `selftest`: what the docs say of Windows, settled on the machine that it runs on.
//!
//! [`CHECKS`] is the table of what is settled. A check reads, notes what it read and claims what must be so;
//! `evidence.rs` alone makes a result of that.

mod checks;
mod evidence;
mod of_disk;
mod of_machine;
mod of_reserve;
mod peer;
mod report;
mod subject;

pub use checks::{CHECKS, Check, Needs};
pub use of_machine::WIN32_ERRORS;
pub use of_reserve::EVENTS;

use checks::Find;
use evidence::{Evidence, Untold};
use of_reserve::Reserver;
use peer::Peers;
use report::{Found, Report};
use subject::Subject;

use crate::arguments::Selftest;
use crate::disk::{self, Disk};
use crate::machine::{Machine, Win32};
use crate::system_disks::SystemDisks;
use crate::{Ends, Exit, Failure, Output, elevated};

pub(crate) fn selftest(machine: &dyn Machine, wanted: &Selftest, out: &mut Output<'_>) -> Ends {
    if wanted.list {
        return list(out);
    }
    if let Some(file) = &wanted.show {
        return show(machine, file, out);
    }
    let subjects = subjects(machine, wanted)?;
    let changes = wanted.with_reserve || wanted.with_sleep || wanted.peer.is_some();
    if changes {
        elevated(machine)?;
        let needed = SystemDisks::find(machine);
        subjects.iter().try_for_each(|subject| {
            if subject.node.is_mpio() {
                return Err(Failure::new(format!("{}: a disk of MPIO's", subject.disk)));
            }
            needed.leave(subject.disk)
        })?;
    }
    let peers = wanted.peer.as_deref().map(|peer| {
        let (own, share) = (wanted.name.as_deref(), wanted.share.as_deref());
        Peers::new(machine, own, peer, share)
    });
    let peers = peers.transpose()?;
    let mut run = Run {
        report: Report::new(machine, &subjects),
        out,
    };
    run.without_change(machine, &subjects)?;
    if let (true, [subject]) = (changes, &subjects[..]) {
        run.with_reserve(subject, wanted, peers)?;
    }
    let Run { report, out } = run;
    out.line("")?;
    report.print(out)?;
    if let Some(file) = &wanted.json {
        let mut text = serde_json::to_vec_pretty(&report).map_err(std::io::Error::from)?;
        text.push(b'\n');
        machine.write_file(file, &text).map_err(Failure::of(file))?;
        out.line(format_args!("the report is in {file}"))?;
    }
    Ok(if report.is_good() {
        Exit::Good
    } else {
        Exit::Error
    })
}

/// The table of checks.
fn list(out: &mut Output<'_>) -> Ends {
    for check in CHECKS {
        let Check {
            id,
            sentence,
            how,
            needs,
            ..
        } = check;
        out.line(format_args!("{id} (needs {needs})\n  {sentence}\n  {how}"))?;
    }
    Ok(Exit::Good)
}

/// A report, as it was printed.
fn show(machine: &dyn Machine, file: &str, out: &mut Output<'_>) -> Ends {
    let bytes = machine.read_file(file).map_err(Failure::of(file))?;
    let bytes = bytes.ok_or_else(|| Failure::of(file)(Win32::FILE_NOT_FOUND))?;
    let report = Report::parse(&bytes).map_err(|failure| {
        let says = format!("{file}: {}", failure.says);
        Failure { says, ..failure }
    })?;
    report.print(out)?;
    Ok(if report.is_good() {
        Exit::Good
    } else {
        Exit::Error
    })
}

/// The disk that is named, or all that are there.
fn subjects<'a>(machine: &'a dyn Machine, wanted: &Selftest) -> Result<Vec<Subject<'a>>, Failure> {
    let all = disk::present(machine)?;
    let all = all
        .into_iter()
        .map(|(disk, node)| Subject::new(machine, disk, node));
    let Some(name) = &wanted.disk else {
        return Ok(all.collect());
    };
    let named = Disk::named(machine, name)?;
    let found: Vec<Subject<'_>> = all.filter(|subject| subject.disk == named).collect();
    if found.is_empty() {
        return Err(named.failed(Win32::FILE_NOT_FOUND));
    }
    Ok(found)
}

/// A run under way.
struct Run<'a, 'o> {
    report: Report,
    out: &'a mut Output<'o>,
}

impl Run<'_, '_> {
    /// Carries out one check, and tells its result at once.
    fn check(
        &mut self,
        check: &Check,
        disk: Option<Disk>,
        find: impl FnOnce(&mut Evidence) -> evidence::Found,
    ) -> Result<(), Failure> {
        let mut evidence = Evidence::default();
        let found = find(&mut evidence);
        let (result, why, evidence) = evidence.judge(found);
        let of = disk.map(|disk| format!(" of {disk}")).unwrap_or_default();
        self.out.line(format_args!("{}{of}: {result}", check.id))?;
        self.report.results.push(Found {
            id: check.id.into(),
            sentence: check.sentence.into(),
            disk: disk.map(|disk| disk.to_string()),
            result,
            why,
            evidence,
        });
        Ok(())
    }

    /// The checks of the machine and of each disk.
    fn without_change(
        &mut self,
        machine: &dyn Machine,
        subjects: &[Subject<'_>],
    ) -> Result<(), Failure> {
        for check in CHECKS {
            match check.find {
                Find::Machine(find) => self.check(check, None, |it| find(machine, it))?,
                Find::Disk(find) => {
                    for subject in subjects {
                        self.check(check, Some(subject.disk), |it| find(subject, it))?;
                    }
                }
                Find::Reserve(_) | Find::Peer(_) => {}
            }
        }
        Ok(())
    }

    /// The checks that reserve the disk, if it may be reserved; and whatever comes of them, it is released.
    fn with_reserve(
        &mut self,
        subject: &Subject<'_>,
        wanted: &Selftest,
        peers: Option<Peers<'_>>,
    ) -> Result<(), Failure> {
        let asked = |needs: Needs| match needs {
            Needs::WithReserve => wanted.with_reserve,
            Needs::WithSleep => wanted.with_sleep,
            Needs::Peer => wanted.peer.is_some(),
            Needs::Nothing | Needs::Package | Needs::Disk => false,
        };
        let opened = Reserver::new(subject);
        let free = match &opened {
            Err(why) => Err(why.clone()),
            // Who comes second may find it held by the other.
            Ok(reserver) if peers.is_some() => reserver.has_no_other(),
            Ok(reserver) => reserver.is_free(),
        };
        let reserver = free.and_then(|()| opened.as_ref().map_err(Clone::clone));
        let mut story = Err(Untold("no other node was asked".into()));
        if let (Ok(reserver), Some(peers)) = (&reserver, peers) {
            let played = peer::play(reserver, peers, self.out);
            // Before anything ends the run: nobody may read what it says any more.
            self.undo(reserver);
            story = Ok(played?);
        }
        for check in CHECKS.iter().filter(|check| asked(check.needs)) {
            if check.needs == Needs::WithSleep && reserver.is_ok() {
                self.out
                    .line("  the machine sleeps now, and goes on when it is awake again")?;
            }
            let checked = self.check(check, Some(subject.disk), |evidence| {
                let reserver = reserver.as_ref().map_err(|why| (*why).clone())?;
                reserver.answers()?;
                match check.find {
                    Find::Reserve(find) => find(reserver, evidence),
                    Find::Peer(find) => find(story.as_ref().map_err(Clone::clone)?, evidence),
                    Find::Machine(_) | Find::Disk(_) => Ok(()),
                }
            });
            if let Ok(reserver) = &opened {
                self.undo(reserver);
            }
            checked?;
        }
        Ok(())
    }

    /// Releases the disk if a check has left it reserved.
    fn undo(&mut self, reserver: &Reserver<'_>) {
        let undone = &mut self.report.undone;
        undone.reserved = reserver.granted();
        undone.left = reserver.undo().err().map(|Untold(why)| why);
    }
}
