//! How Docker's HEALTHCHECK asks the app whether it is well: a Unix socket, whatever port and certificate are
//! configured. Who connects is answered `OK`, once the directory of rooms has answered too.

use crate::hub;
use crate::task::Tasks;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

const NAME: &str = "health.sock";

/// For each step of a question.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens in `directory`. Where it cannot, nobody is listened to: outside the image nobody asks.
pub(super) fn serve(directory: &Path, hub: hub::Handle, tasks: &Tasks) {
    match bind(directory) {
        Ok(listener) => {
            let own = tasks.clone();
            let path = directory.join(NAME);
            tasks.spawn("health", async move {
                tokio::select! {
                    () = answer(&listener, &hub) => {}
                    () = own.cancelled() => {}
                }
                if let Err(error) = fs::remove_file(&path) {
                    tracing::debug!(%error, "the socket of the health check");
                }
            });
        }
        Err(error) => {
            let path = directory.display();
            tracing::debug!(%path, %error, "no socket for the health check");
        }
    }
}

fn bind(directory: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(directory)?;
    let path = directory.join(NAME);
    // A kill leaves it behind. The ports have shown that no other instance runs.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    UnixListener::bind(path)
}

/// One after the other: who asks is the image's own health check.
async fn answer(listener: &UnixListener, hub: &hub::Handle) {
    loop {
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "health check");
                tokio::time::sleep(PATIENCE).await;
                continue;
            }
        };
        // No room has this name: it is the answer that counts.
        let asked = tokio::time::timeout(PATIENCE, hub.list(vec![String::new()])).await;
        let answer: &[u8] = match asked {
            Ok(Ok(_)) => b"OK",
            Ok(Err(_)) => b"the rooms are closing",
            Err(_) => b"the directory of rooms does not answer",
        };
        // Who no longer listens needs no answer.
        drop(tokio::time::timeout(PATIENCE, stream.write_all(answer)).await);
    }
}

/// Asks an app that runs.
pub(super) fn ask(directory: &Path) -> Result<()> {
    let path: PathBuf = directory.join(NAME);
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("nothing answers on {}", path.display()))?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    let mut said = Vec::new();
    stream
        .by_ref()
        .take(100)
        .read_to_end(&mut said)
        .context("it does not answer")?;
    if said == b"OK" {
        return Ok(());
    }
    bail!("it says {:?}", String::from_utf8_lossy(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hub_that_has_ended_is_not_well() {
        let dir = tempfile::tempdir().unwrap();
        let tasks = Tasks::new();
        assert!(ask(dir.path()).is_err(), "nobody listens");
        serve(dir.path(), hub::Handle::of_no_hub(), &tasks);
        let path = dir.path().to_owned();
        let asked = tokio::task::spawn_blocking(move || ask(&path))
            .await
            .unwrap();
        assert_eq!(
            asked.unwrap_err().to_string(),
            "it says \"the rooms are closing\""
        );
        assert!(tasks.shutdown(PATIENCE).await.is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
