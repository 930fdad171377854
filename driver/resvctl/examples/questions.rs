//! Asks Windows one of the questions that only `resvctl selftest` has, and prints the answer as a line of JSON:
//! `tests/wine.rs` runs it.

#[cfg(not(windows))]
fn main() {
    eprintln!("questions: runs on Windows");
}

#[cfg(windows)]
fn main() -> std::process::ExitCode {
    windows::main()
}

#[cfg(windows)]
mod windows {
    use std::process::ExitCode;
    use std::time::Instant;

    use resvctl::machine::{Access, Answer, Completed, Machine, Process, Win32};
    use resvctl::windows::{Windows, child};
    use serde_json::{Value, json};

    /// The control codes of tests/wine/pending.c.
    const HOLD: u32 = 0x22_2000;
    const RELEASE: u32 = 0x22_2004;
    const BUSY: u32 = 0x22_2008;
    const REFUSE: u32 = 0x22_200C;
    const COUNT: u32 = 0x22_2010;
    /// At once, and when something is to come of it.
    const NOW: u32 = 0;
    const SOON: u32 = 5000;

    pub fn main() -> ExitCode {
        // This program is also the other process that `process` starts.
        let arguments: Vec<_> = std::env::args_os().collect();
        if let Some(exit) = child(&arguments) {
            return exit.into();
        }
        let arguments: Vec<_> = std::env::args().skip(1).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let answer = match answer(&Windows, &arguments) {
            Ok(answer) => json!({ "answer": answer }),
            Err(Win32(error)) => json!({ "error": error }),
        };
        println!("{answer}");
        ExitCode::SUCCESS
    }

    fn answer(machine: &dyn Machine, question: &[&str]) -> Answer<Value> {
        Ok(match question {
            ["loaded", file] => json!(machine.loaded(file)?.map(|image| json!({
                "path": image.path,
                "size": image.size,
                "checksum": image.checksum,
                "timestamp": image.timestamp,
            }))),
            ["service", name] => json!(machine.service(name)?.map(|service| json!({
                "start": service.start,
                "error_control": service.error_control,
                "group": service.group,
                "image": service.image,
                "state": service.state,
            }))),
            ["signature", path] => signature(&machine.signature(path)?),
            ["signature_in", catalog, member] => signature(&machine.signature_in(catalog, member)?),
            ["file_version", path] => json!(machine.file_version(path)?),
            ["win32_of", status] => {
                let status = u32::from_str_radix(status, 16).map_err(|_| Win32::INVALID_DATA)?;
                json!(machine.win32_of(status.cast_signed())?.0)
            }
            ["verified", file] => json!(machine.verified(file)?.map(|counts| counts.loads)),
            ["trace"] => {
                let provider = 0xaa24_21a2_5c31_5fba_872c_3d41_5a51_cd75;
                json!(machine.trace(provider)?.stop()?.len())
            }
            ["requests", path] => requests(machine, path)?,
            ["dropped", path] => dropped(machine, path)?,
            ["process", path] => process(machine, path)?,
            ["sleep", seconds] => {
                let seconds = seconds.parse().map_err(|_| Win32::INVALID_DATA)?;
                json!(machine.sleep(seconds)?)
            }
            ["wait", milliseconds] => {
                let start = Instant::now();
                machine.wait(milliseconds.parse().map_err(|_| Win32::INVALID_DATA)?)?;
                json!(start.elapsed().as_secs_f64() * 1000.0)
            }
            ["enter"] => json!(machine.enter()?),
            ["write_file", path, text] => {
                machine.write_file(path, text.as_bytes())?;
                let bytes = machine.read_file(path)?;
                json!(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            }
            _ => return Err(Win32::INVALID_DATA),
        })
    }

    fn signature(signature: &resvctl::machine::Signature) -> Value {
        json!({ "result": format!("{:#x}", signature.result), "signer": signature.signer })
    }

    fn ended(ended: Option<Completed>) -> Value {
        json!(ended.map(|ended| json!([format!("{:#x}", ended.status), ended.information])))
    }

    /// Requests that are held, released, cancelled, and answered at once.
    fn requests(machine: &dyn Machine, path: &str) -> Answer<Value> {
        let mut queue = machine.requests(path, Access::Read)?;
        let first = queue.begin(HOLD)?;
        let second = queue.begin(HOLD)?;
        let busy = queue.begin(BUSY)?;
        let refused = queue.begin(REFUSE)?;
        let before = [first, second].map(|request| queue.end(request, NOW).map(ended));
        let cancelled = queue.cancel(second)?;
        let cancel_ended = queue.end(second, SOON)?;
        let again = queue.cancel(second)?;
        let first_after_cancel = queue.end(first, NOW)?;
        let release = queue.begin(RELEASE)?;
        let count = queue.begin(COUNT)?;
        Ok(json!({
            "held": before.into_iter().collect::<Answer<Vec<_>>>()?,
            "busy": ended(queue.end(busy, SOON)?),
            "refused": ended(queue.end(refused, SOON)?),
            "cancel": cancelled,
            "cancelled": ended(cancel_ended),
            "cancel again": again,
            "cancel refused": queue.cancel(refused)?,
            "the other": ended(first_after_cancel),
            "release": ended(queue.end(release, SOON)?),
            "released": ended(queue.end(first, SOON)?),
            "left": ended(queue.end(count, SOON)?),
            "no such request": queue.end(99, NOW).err().map(|error| error.0),
        }))
    }

    /// How many a device holds.
    fn held(machine: &dyn Machine, path: &str) -> Answer<Value> {
        let mut queue = machine.requests(path, Access::Read)?;
        let count = queue.begin(COUNT)?;
        Ok(ended(queue.end(count, SOON)?))
    }

    /// What is out when it is dropped.
    fn dropped(machine: &dyn Machine, path: &str) -> Answer<Value> {
        let mut queue = machine.requests(path, Access::Read)?;
        for _ in 0..3 {
            queue.begin(HOLD)?;
        }
        let before = held(machine, path)?;
        drop(queue);
        Ok(json!({ "before": before, "after": held(machine, path)? }))
    }

    fn process(machine: &dyn Machine, path: &str) -> Answer<Value> {
        let state = |process: &mut dyn Process, wait| process.has_ended(wait);
        let mut killed = machine.process(path, HOLD, 3)?;
        let runs = state(&mut *killed, 200)?;
        let before = held(machine, path)?;
        killed.kill()?;
        let ends = state(&mut *killed, SOON)?;
        let after = held(machine, path)?;
        drop(machine.process(path, HOLD, 2)?);
        // Nothing tells when the dropped one has ended.
        let mut left = held(machine, path)?;
        for _ in 0..50 {
            if left == after {
                break;
            }
            machine.wait(100)?;
            left = held(machine, path)?;
        }
        let nowhere = machine.process(r"\\.\NoSuchDevice", HOLD, 1);
        Ok(json!({
            "ended before": runs,
            "held": before,
            "ended": ends,
            "held after": after,
            "held after the dropped one": left,
            "no such device": nowhere.err().map(|error| error.0),
        }))
    }
}
