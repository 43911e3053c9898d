//! Keeps an eye on certificate and key: takes new ones when both are right, says when they are not, and reminds of the
//! end of the one in use.
//!
//! Driven by the task of `tls`, which calls [`Watch::look`] every few seconds. Reads the files and no clock. Whoever
//! renews a certificate writes two files, one after the other, or swaps symbolic links, as certbot does: a change is
//! taken when it is the same at two looks, and only when certificate and key belong together. One that browsers would
//! refuse is held back as long as they take the one in use.

use super::{OpenError, server_config};
use crate::config;
use crate::config::certificate::{self, Checked, day};
use crate::options::source;
use rustls::ServerConfig;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tracing::Level;

/// From then on an expiring certificate is told of, in seconds.
const SOON: u64 = 14 * 24 * 3600;

/// How often people are reminded.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) level: Level,
    pub(super) text: String,
}

impl Notice {
    /// Says it in the log.
    pub(super) fn tell(&self) {
        let text = &self.text;
        // A level has to be known when the program is built.
        match self.level {
            Level::ERROR => tracing::error!("{text}"),
            Level::WARN => tracing::warn!("{text}"),
            _ => tracing::info!("{text}"),
        }
    }
}

/// What tells one state of a file from another; `None`: it is not there. Links are followed. The time is that of the
/// last change of content or permissions, which no copying program can set back.
type Print = Option<(u64, u64, u64, i64, i64)>;

/// How old the certificate in use is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    Fine,
    Soon,
    Expired,
}

/// The certificate in use and the files that it came from.
#[derive(Debug)]
pub(super) struct Watch {
    files: config::Tls,
    newest: watch::Sender<Arc<ServerConfig>>,
    used: Checked,
    /// The files when they were read last.
    read: [Print; 2],
    /// The files at the last look.
    seen: [Print; 2],
    /// What was said of files that are not right; `None`: they are.
    complaint: Option<String>,
    /// What the files hold, as long as it is worse than what is in use.
    held: Option<Checked>,
    /// What people were told of the age, and when.
    told: (Age, Instant),
}

impl Watch {
    /// Reads the files for the first time. Of the certificate's age the validation of the options has told.
    pub(super) fn open(
        files: &config::Tls,
        now: Instant,
        unix: u64,
    ) -> Result<(Self, watch::Receiver<Arc<ServerConfig>>), OpenError> {
        let prints = prints(files);
        let used = load(files)?;
        let (newest, receiver) = watch::channel(server_config(Arc::clone(&used.certified)));
        let watch = Self {
            told: (age(&used, unix), now),
            files: files.clone(),
            newest,
            used,
            read: prints,
            seen: prints,
            complaint: None,
            held: None,
        };
        Ok((watch, receiver))
    }

    /// Looks at the files at `unix` seconds since 1970, and returns what is to be said.
    pub(super) fn look(&mut self, now: Instant, unix: u64) -> Vec<Notice> {
        let prints = prints(&self.files);
        let is_settled = prints == self.seen;
        self.seen = prints;
        let mut notices = Vec::new();
        if is_settled && prints != self.read {
            // Before they are read: a change meanwhile is one more.
            self.read = prints;
            notices.extend(self.take(unix));
        } else if let Some(held) = self.held.take() {
            notices.extend(self.weigh(held, unix));
        }
        notices.extend(self.remind(now, unix));
        notices
    }

    fn take(&mut self, unix: u64) -> Option<Notice> {
        self.held = None;
        match load(&self.files) {
            Ok(checked) if checked.certified.cert == self.used.certified.cert => {
                let until = self.used.last_day();
                self.complaint.take().map(|_| Notice {
                    level: Level::INFO,
                    text: format!(
                        "certificate and key are right again; the same as before is in use, valid until {until}"
                    ),
                })
            }
            Ok(checked) => self.weigh(checked, unix),
            Err(OpenError { path, reason }) => self.complain(&path, &reason),
        }
    }

    /// Takes a pair, unless browsers would refuse it and take the one in use.
    fn weigh(&mut self, checked: Checked, unix: u64) -> Option<Notice> {
        let fault = self.fault(&checked, unix);
        if let Some(reason) = &fault
            && self.fault(&self.used, unix).is_none()
        {
            self.held = Some(checked);
            let path = self.files.certificate.display().to_string();
            return self.complain(&path, reason);
        }
        self.newest
            .send_replace(server_config(Arc::clone(&checked.certified)));
        self.used = checked;
        self.complaint = None;
        // That it has expired is said below, that it will soon is not.
        self.told.0 = match age(&self.used, unix) {
            Age::Expired => Age::Expired,
            Age::Fine | Age::Soon => Age::Fine,
        };
        let until = self.used.last_day();
        Some(match fault {
            None => Notice {
                level: Level::INFO,
                text: format!("the new certificate is in use, valid until {until}; calls go on"),
            },
            Some(reason) => Notice {
                level: Level::WARN,
                text: format!(
                    "{reason}, and the one from before is no better: the new one is in use, valid until {until}; calls go on"
                ),
            },
        })
    }

    /// Why browsers refuse a certificate.
    fn fault(&self, checked: &Checked, unix: u64) -> Option<String> {
        let host = self.files.host.as_ref();
        if age(checked, unix) == Age::Expired {
            Some(format!(
                "this certificate expired on {}",
                checked.last_day()
            ))
        } else if checked.not_before > unix {
            let first = day(checked.not_before);
            Some(format!("this certificate is valid from {first} on only"))
        } else {
            host.filter(|host| !checked.covers(host))
                .map(|host| format!("this certificate is not for {host}"))
        }
    }

    fn complain(&mut self, path: &str, reason: &str) -> Option<Notice> {
        let until = self.used.last_day();
        let text = format!(
            "{path}: {reason}; the certificate from before stays in use, valid until {until}: put certificate and \
             key of one renewal there, and they are taken without a restart"
        );
        if self.complaint.as_ref() == Some(&text) {
            return None;
        }
        self.complaint = Some(text.clone());
        Some(Notice {
            level: Level::WARN,
            text,
        })
    }

    fn remind(&mut self, now: Instant, unix: u64) -> Option<Notice> {
        let age = age(&self.used, unix);
        let is_due =
            age != self.told.0 || now.saturating_duration_since(self.told.1) >= REMIND_EVERY;
        if !is_due {
            return None;
        }
        self.told = (age, now);
        let path = self.files.certificate.display();
        let day = self.used.last_day();
        match age {
            Age::Fine => None,
            Age::Soon => Some(Notice {
                level: Level::WARN,
                text: format!(
                    "{path}: the certificate expires on {day}; renew it, a restart is not needed"
                ),
            }),
            Age::Expired => Some(Notice {
                level: Level::ERROR,
                text: format!(
                    "{path}: the certificate expired on {day}, and browsers refuse it; renew it, a restart is not needed"
                ),
            }),
        }
    }
}

fn age(checked: &Checked, unix: u64) -> Age {
    match checked.not_after.checked_sub(unix) {
        None | Some(0) => Age::Expired,
        Some(..SOON) => Age::Soon,
        Some(_) => Age::Fine,
    }
}

fn prints(files: &config::Tls) -> [Print; 2] {
    [&files.certificate, &files.key].map(|path| {
        let data = fs::metadata(path).ok()?;
        Some((
            data.dev(),
            data.ino(),
            data.size(),
            data.ctime(),
            data.ctime_nsec(),
        ))
    })
}

fn load(files: &config::Tls) -> Result<Checked, OpenError> {
    let fault = |path: &Path, reason: String| OpenError {
        path: path.display().to_string(),
        reason,
    };
    let read = |path: &Path| {
        source::read_pem(path).map_or_else(|reason| Err(fault(path, reason)), |(text, _)| Ok(text))
    };
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    certificate::check(&certificate, &key).map_err(|wrong| {
        let path = if wrong.is_of_certificate() {
            &files.certificate
        } else {
            &files.key
        };
        fault(path, wrong.to_string())
    })
}
