//! The machine's sleep.

use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::ptr::{null, null_mut};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windows_sys::Win32::Foundation::{
    ERROR_NOT_ALL_ASSIGNED, ERROR_NOT_SUPPORTED, ERROR_SUCCESS, SetLastError,
};
use windows_sys::Win32::Security::{
    AdjustTokenPrivileges, LUID_AND_ATTRIBUTES, LookupPrivilegeValueW, SE_PRIVILEGE_ENABLED,
    SE_SHUTDOWN_NAME, TOKEN_ADJUST_PRIVILEGES, TOKEN_PRIVILEGES,
};
use windows_sys::Win32::System::Power::{IsPwrSuspendAllowed, SetSuspendState};
use windows_sys::Win32::System::Threading::{
    CreateWaitableTimerExW, SetWaitableTimer, TIMER_ALL_ACCESS,
};
use windows_sys::Win32::System::WindowsProgramming::{
    QueryInterruptTimePrecise, QueryUnbiasedInterruptTime,
};

use super::{last_error, ok, own_token};
use crate::machine::{Answer, Win32};

/// From 1601, where Windows' time begins, to 1970.
const BEFORE_UNIX: Duration = Duration::from_hours(134_774 * 24);

/// What fewer hundreds of nanoseconds of sleep than this are is the clocks' own difference.
const SLEPT: u64 = 5_000_000;

pub(super) fn sleep(seconds: u32) -> Answer<()> {
    // S1 to S3 by the firmware. A machine with modern standby has none of them, and can't be told to sleep.
    // SAFETY: no preconditions.
    if !unsafe { IsPwrSuspendAllowed() } {
        return Err(Win32::NOT_SUPPORTED);
    }
    may_shut_down()?;
    let _timer = wake_after(seconds)?;
    let before = slept();
    // SAFETY: no preconditions. No hibernation; programs are asked; wake-up timers stay on.
    if !unsafe { SetSuspendState(false, false, false) } {
        return Err(last_error());
    }
    if slept().saturating_sub(before) < SLEPT {
        return Err(Win32::NOT_SUPPORTED);
    }
    Ok(())
}

/// How long the machine has slept since it started: what one clock counts and the other doesn't.
fn slept() -> u64 {
    let (mut with, mut without) = (0, 0);
    // SAFETY: a live place.
    unsafe { QueryUnbiasedInterruptTime(&raw mut without) };
    // SAFETY: a live place.
    unsafe { QueryInterruptTimePrecise(&raw mut with) };
    with.saturating_sub(without)
}

/// Enables the privilege that sleep takes.
fn may_shut_down() -> Answer<()> {
    let token = own_token(TOKEN_ADJUST_PRIVILEGES)?;
    let mut privileges = TOKEN_PRIVILEGES {
        PrivilegeCount: 1,
        Privileges: [LUID_AND_ATTRIBUTES {
            Attributes: SE_PRIVILEGE_ENABLED,
            ..Default::default()
        }],
    };
    let luid = &raw mut privileges.Privileges[0].Luid;
    // SAFETY: this machine, a string with its NUL, and a live place.
    ok(unsafe { LookupPrivilegeValueW(null(), SE_SHUTDOWN_NAME, luid) })?;
    let (token, privileges) = (token.as_raw_handle(), &raw const privileges);
    // SAFETY: a live token and a live structure; what was before is not asked for.
    ok(unsafe { AdjustTokenPrivileges(token, 0, privileges, 0, null_mut(), null_mut()) })?;
    // It is no failure of the function's that the token does not have it.
    match last_error() {
        Win32(ERROR_NOT_ALL_ASSIGNED) => Err(Win32(ERROR_NOT_ALL_ASSIGNED)),
        _ => Ok(()),
    }
}

/// A timer that wakes the machine as long as it lives.
fn wake_after(seconds: u32) -> Answer<OwnedHandle> {
    // SAFETY: no security and no name.
    let timer = unsafe { CreateWaitableTimerExW(null(), null(), 0, TIMER_ALL_ACCESS) };
    if timer.is_null() {
        return Err(last_error());
    }
    // SAFETY: the timer was just made, and is this function's.
    let timer = unsafe { OwnedHandle::from_raw_handle(timer) };
    // By the clock: a span of time need not go on in sleep.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let due = now.unwrap_or_default() + BEFORE_UNIX + Duration::from_secs(seconds.into());
    let due = i64::try_from(due.as_nanos() / 100).map_err(|_| Win32::INVALID_DATA)?;
    // SAFETY: no preconditions.
    unsafe { SetLastError(ERROR_SUCCESS) };
    // SAFETY: a live handle and a live place; once, no routine, and the machine wakes.
    ok(unsafe { SetWaitableTimer(timer.as_raw_handle(), &raw const due, 0, None, null(), 1) })?;
    // It is no failure of the function's that the machine can't wake.
    match last_error() {
        Win32(ERROR_NOT_SUPPORTED) => Err(Win32::NOT_SUPPORTED),
        _ => Ok(timer),
    }
}
