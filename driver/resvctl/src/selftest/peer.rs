//! Checks that take a second node: the two keep step, and each sees what the other saw.
//!
//! The node whose name comes first begins. At each step one of them does something, looks at what its filter knows, and
//! lets the other look; the next step begins when both have. They tell each other by a file each on a share, or their
//! operators do.

use serde::{Deserialize, Serialize};

use super::evidence::{Evidence, Found, Untold, said, untold};
use super::of_reserve::Reserver;
use super::subject::{HELD_BY_ANOTHER, HELD_BY_US, UNKNOWN};
use crate::machine::{Key, Machine, Win32};
use crate::{Failure, Output};

/// Whose turn it is: of the node whose name comes first, or of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    First,
    Second,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Reserve,
    Release,
    Break,
}

impl Act {
    const fn name(self) -> &'static str {
        match self {
            Self::Reserve => "RESERVE",
            Self::Release => "RELEASE",
            Self::Break => "break",
        }
    }
}

/// What is done, in its order.
const STEPS: [(Node, Act); 8] = [
    (Node::First, Act::Reserve),
    (Node::Second, Act::Reserve),
    (Node::First, Act::Release),
    (Node::Second, Act::Reserve),
    (Node::First, Act::Reserve),
    (Node::Second, Act::Break),
    (Node::First, Act::Reserve),
    (Node::First, Act::Release),
];

// The steps that the checks look at.
const TAKEN: usize = 0;
const REFUSED: usize = 1;
const RELEASED: usize = 2;
const TAKEN_OVER: usize = 3;
const REFUSED_TOO: usize = 4;
const RESET: usize = 5;
const TAKEN_BACK: usize = 6;

/// What a node saw at one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct View {
    /// How its own act ended, if it was its turn: 0, or the Win32 error.
    error: Option<u32>,
    /// What its filter knows.
    knowledge: String,
    /// False where the filter is not told of a handle's requests.
    tells: bool,
}

/// A node's file on the share.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// Which run of the program wrote it: a file of an earlier one says nothing.
    run: u64,
    /// Which run of the other's it goes with.
    with: Option<u64>,
    /// What it saw, at as many steps as it has done.
    views: Vec<View>,
}

/// Where a node's file is.
fn file(share: &str, node: &str) -> String {
    format!(r"{share}\resvctl-selftest-{node}.json")
}

/// How two nodes keep step.
pub struct Peers<'a> {
    machine: &'a dyn Machine,
    own: String,
    peer: String,
    share: Option<String>,
    run: u64,
    with: Option<u64>,
}

/// Where Windows keeps the machine's name.
const COMPUTER_NAME: &str = r"SYSTEM\CurrentControlSet\Control\ComputerName\ActiveComputerName";
/// How long the other node may take for a step, and how long to come, in ms.
const STEP: u32 = 120_000;
const START: u32 = 600_000;
/// How often its file is looked for, in ms.
const LOOK: u32 = 250;
/// How often it may be refused in a row.
const TRIES: u32 = 20;

impl<'a> Peers<'a> {
    pub fn new(
        machine: &'a dyn Machine,
        own: Option<&str>,
        peer: &str,
        share: Option<&str>,
    ) -> Result<Self, Failure> {
        let own = if let Some(own) = own {
            own.to_owned()
        } else {
            let name = machine.value(&Key::Machine(COMPUTER_NAME.into()), "ComputerName");
            let name = name.map_err(Failure::of("this machine's name"))?;
            let name = name.map(|name| name.text()).unwrap_or_default();
            if name.is_empty() {
                let failure = Failure::new("this machine's name is not told");
                return Err(failure.and("--name NAME gives it one"));
            }
            name
        };
        for name in [&own, peer] {
            let good = |c: char| c.is_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(good) {
                return Err(Failure::new(format!("{name:?} is no machine's name")));
            }
        }
        if own.eq_ignore_ascii_case(peer) {
            let failure = Failure::new(format!("both nodes are called {peer}"));
            return Err(failure.and("--peer names the other one; --name NAME names this one"));
        }
        Ok(Self {
            machine,
            run: machine.interrupt_time(),
            own: own.to_lowercase(),
            peer: peer.to_lowercase(),
            share: share.map(Into::into),
            with: None,
        })
    }

    fn is(&self, node: Node) -> bool {
        (node == Node::First) == (self.own < self.peer)
    }

    /// Writes this node's file.
    fn tell(&self, views: &[View]) -> Found {
        let Some(share) = &self.share else {
            return Ok(());
        };
        let path = file(share, &self.own);
        let page = Page {
            run: self.run,
            with: self.with,
            views: views.into(),
        };
        let text = serde_json::to_vec(&page).map_err(|error| Untold(error.to_string()))?;
        let written = self.machine.write_file(&path, &text);
        written.map_err(Untold::of(path))
    }

    /// The other's file, if it is there and whole.
    fn page(&self, share: &str) -> Result<Option<Page>, Untold> {
        let path = file(share, &self.peer);
        let mut tries = 0;
        loop {
            match self.machine.read_file(&path) {
                // It is being put in its place, or taken away.
                Err(Win32::ACCESS_DENIED | Win32::FILE_IN_USE) if tries < TRIES => tries += 1,
                read => {
                    let bytes = read.map_err(Untold::of(path))?;
                    return Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
                }
            }
            self.machine.wait(LOOK).map_err(Untold::of("waiting"))?;
        }
    }

    /// Looks again and again for something in the other's file.
    fn await_page<T>(
        &self,
        share: &str,
        milliseconds: u32,
        mut look: impl FnMut(Option<Page>) -> Option<T>,
    ) -> Result<T, Untold> {
        for _ in 0..milliseconds / LOOK {
            if let Some(found) = look(self.page(share)?) {
                return Ok(found);
            }
            self.machine.wait(LOOK).map_err(Untold::of("waiting"))?;
        }
        untold(format_args!("{} did not come in time", self.peer))
    }

    /// Finds the other, and has it find this one: each answers the other's run with its own.
    fn meet(&mut self) -> Found {
        let Some(share) = self.share.clone() else {
            return Ok(());
        };
        self.tell(&[])?;
        for _ in 0..START / LOOK {
            if let Some(page) = self.page(&share)? {
                if self.with != Some(page.run) {
                    self.with = Some(page.run);
                    self.tell(&[])?;
                }
                if page.with == Some(self.run) {
                    return Ok(());
                }
            }
            self.machine.wait(LOOK).map_err(Untold::of("waiting"))?;
        }
        untold(format_args!("{} did not come in time", self.peer))
    }

    /// Waits until the other has done so many steps: what it saw, as far as it is told.
    fn wait_for(
        &self,
        steps: usize,
        doing: &str,
        out: &mut Output<'_>,
    ) -> Result<Vec<View>, Untold> {
        let Some(share) = &self.share else {
            out.line(format_args!("  press Enter when {} {doing}", self.peer))?;
            if self.machine.enter().map_err(Untold::of("the operator"))? {
                return Ok(Vec::new());
            }
            return untold("there is nobody who presses Enter");
        };
        self.await_page(share, STEP, |page| {
            let page = page?;
            (page.views.len() >= steps).then_some(page.views)
        })
    }

    /// Takes this node's file away. The last to act has read the other's, and goes first.
    fn part(&self) -> Found {
        let Some(share) = &self.share else {
            return Ok(());
        };
        let acts_last = STEPS.last().is_some_and(|(node, _)| self.is(*node));
        if !acts_last {
            self.await_page(share, STEP, |page| page.is_none().then_some(()))?;
        }
        let path = file(share, &self.own);
        let removed = self.machine.remove_file(&path);
        removed.map(|_| ()).map_err(Untold::of(path))
    }
}

/// What came of the steps, as both saw it.
pub struct Story {
    /// By step: what the first and what the second node saw. The other node's is missing if it is not told.
    views: [Vec<View>; 2],
    /// Why it ended early, if it did.
    why: Option<Untold>,
}

/// Goes through all steps.
pub fn play(
    disk: &Reserver<'_>,
    mut peers: Peers<'_>,
    out: &mut Output<'_>,
) -> Result<Story, Failure> {
    if let Some(share) = &peers.share {
        out.line(format_args!("  waiting for {} in {share}", peers.peer))?;
    }
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    let met = peers.meet();
    let played = met.and_then(|()| steps(disk, &peers, &mut mine, &mut theirs, out));
    if let Err(Untold(why)) = &played {
        out.line(format_args!("  {why}"))?;
    }
    // What is left on the share is of no run that comes.
    let _ = peers.part();
    let views = if peers.is(Node::First) {
        [mine, theirs]
    } else {
        [theirs, mine]
    };
    Ok(Story {
        views,
        why: played.err(),
    })
}

fn steps(
    disk: &Reserver<'_>,
    peers: &Peers<'_>,
    mine: &mut Vec<View>,
    theirs: &mut Vec<View>,
    out: &mut Output<'_>,
) -> Found {
    for (number, (node, act)) in (1..).zip(STEPS) {
        let (act_is, of) = (act.name(), STEPS.len());
        let error = if peers.is(node) {
            let answer = match act {
                Act::Reserve => disk.reserve(),
                Act::Release => disk.release(),
                Act::Break => disk.break_reservation(),
            };
            let said = said(answer);
            out.line(format_args!("  step {number} of {of}: {act_is}: {said}"))?;
            Some(answer.map_or_else(|Win32(error)| error, |()| GRANTED))
        } else {
            let name = &peers.peer;
            out.line(format_args!(
                "  step {number} of {of}: {name} does {act_is}"
            ))?;
            *theirs = peers.wait_for(number, "has done it", out)?;
            None
        };
        mine.push(look(disk, error));
        peers.tell(mine)?;
        if peers.is(node) {
            *theirs = peers.wait_for(number, "is at the next step", out)?;
        }
    }
    Ok(())
}

/// What the filter knows now.
fn look(disk: &Reserver<'_>, error: Option<u32>) -> View {
    let above = disk.subject.is_above().unwrap_or(false);
    let Ok(state) = disk.state() else {
        return View {
            error,
            knowledge: UNKNOWN.into(),
            tells: false,
        };
    };
    let watches = state.second().is_ok_and(|state| state.watch > 0);
    View {
        error,
        knowledge: state.knowledge().into(),
        tells: above || watches,
    }
}

impl Story {
    /// What a node saw at a step; none where the other node's view is not told.
    fn view(&self, node: Node, step: usize) -> Option<&View> {
        self.views[node as usize].get(step)
    }

    /// How the act of a step ended; none where it is the other node's and not told. An error if it was never come to.
    fn end(&self, step: usize, evidence: &mut Evidence) -> Result<Option<u32>, Untold> {
        let (node, act) = STEPS[step];
        let reached = self.views.iter().any(|views| views.len() > step);
        if let (false, Some(why)) = (reached, &self.why) {
            return Err(why.clone());
        }
        let error = self.view(node, step).and_then(|view| view.error);
        if let Some(error) = error {
            let who = node.name();
            evidence.saw(
                format_args!("step {}: {who}'s {}", step + 1, act.name()),
                ended(error),
            );
        }
        Ok(error)
    }

    /// Claims how the act of a step ended.
    fn ends(&self, step: usize, wanted: u32, evidence: &mut Evidence) -> Found {
        if let Some(error) = self.end(step, evidence)? {
            let (node, act) = STEPS[step];
            evidence.claim(
                error == wanted,
                format_args!(
                    "step {}: {}'s {}: {}",
                    step + 1,
                    node.name(),
                    act.name(),
                    ended(error)
                ),
            );
        }
        Ok(())
    }

    /// Can't tell unless an act was granted, where that is told.
    fn must(&self, step: usize, evidence: &mut Evidence) -> Found {
        match self.end(step, evidence)? {
            None | Some(GRANTED) => Ok(()),
            Some(error) => untold(format_args!("step {}: {}", step + 1, ended(error))),
        }
    }

    /// Claims what a node's filter knows after a step. Who is not told of requests is not asked, and can't be judged.
    fn knows(
        &self,
        node: Node,
        step: usize,
        evidence: &mut Evidence,
        holds: impl Fn(&str) -> bool,
    ) -> Found {
        let Some(view) = self.view(node, step) else {
            return Ok(());
        };
        let (who, number) = (node.name(), step + 1);
        evidence.saw(format_args!("step {number}: {who} knows"), &view.knowledge);
        if !view.tells {
            return untold(format_args!(
                "{who}'s filter is not told of a handle's requests: below disk.sys it takes Watch 1 or 2"
            ));
        }
        evidence.claim(
            holds(&view.knowledge),
            format_args!("step {number}: {who} knows {}", view.knowledge),
        );
        Ok(())
    }
}

impl Node {
    const fn name(self) -> &'static str {
        match self {
            Self::First => "the first node",
            Self::Second => "the second node",
        }
    }
}

/// How an act ended, as a view has it: NO_ERROR, or the error.
const GRANTED: u32 = 0;
const BUSY: u32 = Win32::BUSY.0;

fn ended(error: u32) -> String {
    said(match error {
        GRANTED => Ok(()),
        error => Err(Win32(error)),
    })
}

pub fn conflict(story: &Story, evidence: &mut Evidence) -> Found {
    story.must(TAKEN, evidence)?;
    story.ends(REFUSED, BUSY, evidence)?;
    story.knows(Node::First, REFUSED, evidence, |known| known == HELD_BY_US)?;
    story.knows(Node::Second, REFUSED, evidence, |known| {
        known == HELD_BY_ANOTHER
    })
}

pub fn release(story: &Story, evidence: &mut Evidence) -> Found {
    story.must(TAKEN, evidence)?;
    story.must(RELEASED, evidence)?;
    story.ends(TAKEN_OVER, GRANTED, evidence)?;
    story.ends(REFUSED_TOO, BUSY, evidence)
}

pub fn reset(story: &Story, evidence: &mut Evidence) -> Found {
    story.must(TAKEN_OVER, evidence)?;
    story.must(RESET, evidence)?;
    story.ends(TAKEN_BACK, GRANTED, evidence)?;
    let not_ours = |known: &str| known != HELD_BY_US;
    story.knows(Node::Second, REFUSED_TOO, evidence, |known| {
        known == HELD_BY_US
    })?;
    story.knows(Node::First, RESET, evidence, not_ours)?;
    story.knows(Node::Second, RESET, evidence, not_ours)
}
