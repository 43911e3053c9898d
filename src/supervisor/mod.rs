//! Start order and stop order of the process, each a list on one screen. Not to be confused with Home Assistant's
//! Supervisor, which is `hass` wherever it is spoken of.
//!
//! Driven by `main`. It owns the runtime and the signals, and decides nothing else.

mod descriptors;
mod health;
mod keep;
mod log;
mod ports;
mod shutdown;
mod summary;
mod tools;

use crate::clock::Clock;
use crate::config::Config;
use crate::config::problem::{Problem, Warning};
use crate::hass;
use crate::http;
use crate::hub;
use crate::metrics;
use crate::net::Net;
use crate::options::cli::{Cli, Command, Flags};
use crate::options::yaml::Node;
use crate::options::{Options, source};
use crate::random::Random;
use crate::secret::Secret;
use crate::supervisor::shutdown::{Outcome, Signals};
use crate::task::Tasks;
use crate::webhook;
use anyhow::{Context, Result, bail};
use std::io::{self, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tracing::Level;

/// Threads of the control plane, at most. On two cores a second one only wakes and waits for the first, beside a media
/// worker on each.
const MAX_THREADS: usize = 2;

/// A page of a stack costs memory only once it is touched; this is room enough for a debug build.
const STACK: usize = 1 << 20;

/// Does what the command line says.
pub fn run(cli: &Cli) -> ExitCode {
    let result = match &cli.command {
        None => serve(&cli.flags),
        Some(command) => tool(&cli.flags, command),
    };
    result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn tool(flags: &Flags, command: &Command) -> Result<ExitCode> {
    let options = match command {
        Command::GenerateKeys | Command::Token(_) => source::load(flags),
        Command::Healthcheck | Command::Ports => without_keys(source::load(flags)),
    };
    let configure = || configure(&options).map(|(config, _)| config);
    let text = match command {
        Command::GenerateKeys => Some(tools::generate_keys(&mut Random::system())),
        // The app is asked by its socket: options that were changed since it started say nothing of it.
        Command::Healthcheck if options.addon.is_some() => {
            health::ask(&flags.run)?;
            Some("OK\n".to_owned())
        }
        Command::Healthcheck => match configure() {
            Some(config) => {
                tools::healthcheck(&config.http)?;
                Some("OK\n".to_owned())
            }
            None => None,
        },
        Command::Ports => configure().map(|config| tools::ports(&config)),
        Command::Token(token) => match configure() {
            Some(config) => Some(tools::token(&config, token, Clock::System)? + "\n"),
            None => None,
        },
    };
    let Some(text) = text else {
        return Ok(ExitCode::FAILURE);
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What asks for ports only has no need of keys, and often no right to read them.
fn without_keys(mut options: Options) -> Options {
    options.root.set("key_file", Node::default());
    // Signed by one of the keys.
    options.root.set("webhook", Node::default());
    options.keys = Some(Secret::new(format!("none: {:032}", 0)));
    if let Some(addon) = &mut options.addon {
        for name in ["api_key", "api_secret", "webhook_urls"] {
            addon.map.remove(name);
        }
        addon.kept = Ok(None);
    }
    options
}

/// Errors are those before the log has started; later ones are in it.
fn serve(flags: &Flags) -> Result<ExitCode> {
    let options = source::load(flags);
    let Some((config, warnings)) = configure_to_serve(&options) else {
        return Ok(ExitCode::FAILURE);
    };
    log::start(&config.log);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    descriptors::raise_limit();
    let runtime = runtime()?;
    let result = keep::new_key(&config)
        .and_then(|()| runtime.block_on(start_and_stop(&config, &warnings, &flags.run)));
    // Nothing that is left may keep the process: the stop list has waited for what is worth waiting for.
    runtime.shutdown_background();
    Ok(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// The start list, the wait, the stop list.
async fn start_and_stop(config: &Config, warnings: &[Warning], run: &Path) -> Result<()> {
    let mut signals = Signals::listen().context("signals")?;
    let tasks = Tasks::new();
    let net = Net::start(&config.rtc, Random::system(), &tasks)?;
    let webhooks = webhook::start(&config.webhook, Random::system(), Clock::System, &tasks)?;
    let hub = hub::start(
        config,
        net.handle(),
        webhooks.clone(),
        Random::system(),
        &tasks,
        Clock::System,
    );
    let http = http::serve(config, hub.clone(), &tasks)?;
    let sources = metrics::Sources {
        hub: hub.clone(),
        net: net.handle(),
        webhooks,
    };
    metrics::serve(config, sources, &tasks)?;
    if let Some(app) = &config.app {
        health::serve(run, hub.clone(), &tasks);
        if let Some(hass) = &app.hass {
            let status =
                hass::Sources::new(config, warnings, &http.addresses, hub.clone(), net.handle());
            hass::start(hass, status, &tasks);
        }
    }
    summary::print(config, &http.addresses, &net.handle());

    let failed = tokio::select! {
        () = signals.next() => None,
        name = tasks.failure() => Some(name),
    };
    tracing::info!("stopping; clients are told to reconnect");
    let stop = async {
        hub.shut_down().await;
        net.stop().await;
        let left = tasks.shutdown(Duration::from_secs(3)).await;
        if !left.is_empty() {
            tracing::warn!(tasks = ?left, "did not end in time");
        }
    };
    match shutdown::within(shutdown::DEADLINE, stop, &mut signals).await {
        Outcome::Done => tracing::info!("stopped"),
        Outcome::Interrupted => tracing::warn!("second signal: leaving at once"),
        Outcome::Late => tracing::warn!("the stop took too long and was cut short"),
    }
    if let Some(name) = failed {
        bail!("the task {name} failed; please report what the log says of it");
    }
    Ok(())
}

/// The configuration; `None` when it has problems, and then all of them have been told.
fn configure(options: &Options) -> Option<(Config, Vec<Warning>)> {
    Config::from_options(options, cores())
        .map_err(|problems| tell(options, &problems))
        .ok()
}

/// The same, and an app's ports that are taken are told with the other problems.
fn configure_to_serve(options: &Options) -> Option<(Config, Vec<Warning>)> {
    let read = Config::from_options(options, cores());
    let mut problems = read.as_ref().err().cloned().unwrap_or_default();
    if let Some(draft) = Config::draft(options, cores()) {
        let taken = ports::taken(&draft, &problems);
        problems.extend(taken);
    }
    if !problems.is_empty() {
        tell(options, &problems);
        return None;
    }
    read.ok()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// All problems and one sentence for the exit: in the words of the log where its panel is what the user looks at.
fn tell(options: &Options, problems: &[Problem]) {
    let lines = problems
        .iter()
        .map(ToString::to_string)
        .chain([verdict(options, problems)]);
    for line in lines {
        match &options.addon {
            Some(addon) => log::say(addon.is_managed.then_some(true), Level::ERROR, &line),
            None => complain(&line),
        }
    }
}

fn verdict(options: &Options, problems: &[Problem]) -> String {
    let many = match problems.len() {
        1 => "one problem".to_owned(),
        count => format!("{count} problems"),
    };
    if options.addon.is_some() {
        format!("Parlor does not start: {many} in its configuration")
    } else if options.origin.is_empty() {
        format!("{many}; without a configuration, parlor --dev is the way to try it")
    } else {
        format!("{many} in {}", options.origin)
    }
}

/// Before there is a log.
fn complain(text: &str) {
    // Standard error may be closed; then nobody can be told.
    drop(writeln!(io::stderr(), "parlor: {text}"));
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(cores().div_ceil(2).min(MAX_THREADS))
        .max_blocking_threads(4)
        .thread_stack_size(STACK)
        .thread_name("control")
        .enable_all()
        .build()
        .context("threads")
}
