//! What stampinf does with an .inx ("Stampinf Command Options" and "Using INX Files to Create INF Files" in Microsoft's
//! documentation), so that one file goes through it and through this.

use std::fmt::{self, Write as _};

/// What is put into the INF.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// `$ARCH$`: amd64, arm64 or x86.
    pub architecture: String,
    /// KMDF's major and minor version: `$KMDFVERSION$` and `$KMDFCOINSTALLERVERSION$`.
    pub kmdf: (u32, u32),
    /// `CatalogFile`.
    pub catalog: String,
    /// `DriverVer`'s date.
    pub date: Date,
    /// `DriverVer`'s version.
    pub version: [u16; 4],
}

/// A day in UTC, shown as `DriverVer` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    year: u64,
    month: u64,
    day: u64,
}

impl Date {
    /// The day of a Unix time.
    #[must_use]
    pub fn of_unix_time(seconds: u64) -> Self {
        let mut day = seconds / 86_400;
        let mut year = 1970;
        let length = |year: u64| {
            let leap =
                (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
            365 + u64::from(leap)
        };
        while day >= length(year) {
            day -= length(year);
            year += 1;
        }
        let mut month = 1;
        for days in [31, length(year) - 337, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
            if day < days {
                break;
            }
            day -= days;
            month += 1;
        }
        Self {
            year,
            month,
            day: day + 1,
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}/{:02}/{:04}", self.month, self.day, self.year)
    }
}

impl Stamp {
    /// The INF, in ASCII with the line ends of Windows.
    ///
    /// # Errors
    /// If the .inx is not ASCII, has no `[Version]`, or a variable that nobody here knows.
    pub fn apply(&self, inx: &[u8]) -> Result<String, String> {
        if !inx.is_ascii() {
            return Err("the .inx is not ASCII".to_owned());
        }
        let (major, minor) = self.kmdf;
        let text = String::from_utf8_lossy(inx)
            .replace("$ARCH$", &self.architecture)
            .replace("$KMDFVERSION$", &format!("{major}.{minor}"))
            .replace("$KMDFCOINSTALLERVERSION$", &format!("{major:02}{minor:03}"));
        if let Some(token) = unknown_token(&text) {
            return Err(format!("${token}$ is not known"));
        }
        let [a, b, c, d] = self.version;
        let stamped = [
            ("DriverVer", format!("{},{a}.{b}.{c}.{d}", self.date)),
            ("CatalogFile", self.catalog.clone()),
        ];
        let mut inf = String::new();
        let mut in_version = false;
        let mut found = false;
        for line in text.lines() {
            let key = line.split('=').next().unwrap_or_default().trim();
            if line.trim_start().starts_with('[') {
                in_version = line.trim().eq_ignore_ascii_case("[version]");
            } else if in_version
                && stamped
                    .iter()
                    .any(|(name, _)| name.eq_ignore_ascii_case(key))
            {
                continue;
            }
            inf += line;
            inf += "\r\n";
            if in_version && !found {
                found = true;
                for (name, value) in &stamped {
                    let _ = write!(inf, "{name:<11} = {value}\r\n");
                }
            }
        }
        if found {
            Ok(inf)
        } else {
            Err("no [Version] section".to_owned())
        }
    }
}

/// A variable that was left: capitals between dollar signs.
#[must_use]
pub fn unknown_token(text: &str) -> Option<&str> {
    let is_token = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
    text.lines().find_map(|line| {
        let parts: Vec<_> = line.split('$').collect();
        let inner = parts.len().saturating_sub(1);
        parts
            .get(1..inner)
            .into_iter()
            .flatten()
            .copied()
            .find(is_token)
    })
}
