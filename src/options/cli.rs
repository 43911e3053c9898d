//! Flags, their variables, and subcommands, named as livekit-server names them.

use crate::options::duration;
use crate::secret::Secret;
use clap::{Args, Parser, Subcommand};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "parlor",
    version,
    about = "A LiveKit-compatible SFU for the home"
)]
#[command(after_help = "To try it: parlor --dev")]
pub struct Cli {
    /// What the server and the subcommands share.
    #[command(flatten)]
    pub flags: Flags,
    /// None: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the configuration is, and what overrides it.
#[derive(Debug, Clone, Default, Args)]
pub struct Flags {
    /// LiveKit's configuration file.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The same as a text; wins over the file.
    #[arg(long, global = true, value_name = "YAML", env = "LIVEKIT_CONFIG", hide_env_values = true, value_parser = secret)]
    pub config_body: Option<Secret<String>>,
    /// Options of the Home Assistant app instead of /data/options.json.
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["config", "dev"])]
    pub options: Option<PathBuf>,
    /// Where the app keeps its own files.
    #[arg(long, global = true, value_name = "DIR", default_value = "/data")]
    pub data: PathBuf,
    /// Where the app looks for certificates.
    #[arg(long, global = true, value_name = "DIR", default_value = "/ssl")]
    pub ssl: PathBuf,
    /// Where the app's health check meets it.
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/parlor")]
    pub run: PathBuf,
    /// Try it out: this machine only, key "devkey" with secret "secret".
    #[arg(long, global = true)]
    pub dev: bool,
    /// API keys and secrets, "key: secret", one a line; replaces those of the file.
    #[arg(long, global = true, value_name = "KEY: SECRET", env = "LIVEKIT_KEYS", hide_env_values = true, value_parser = secret)]
    pub keys: Option<Secret<String>>,
    /// A file with such lines; replaces all others.
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<String>,
    /// An address to listen on, for HTTP and media; may be given several times.
    #[arg(long, global = true, value_name = "IP")]
    pub bind: Vec<String>,
    /// The address that clients are told, "v4", "v6" or "v4,v6".
    #[arg(long, global = true, value_name = "IP", env = "NODE_IP")]
    pub node_ip: Option<String>,
    /// UDP port or ports for media, "7882" or "7882-7885".
    #[arg(long, global = true, value_name = "PORTS", env = "UDP_PORT")]
    pub udp_port: Option<String>,
    /// Accepted; there is one node and so one region.
    #[arg(long, global = true, env = "LIVEKIT_REGION", hide = true)]
    pub region: Option<String>,
    /// Accepted, without effect.
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Flags of livekit-server that have no effect here; given, they are warned of.
#[derive(Debug, Clone, Default, Args)]
pub struct Ignored {
    #[arg(long, global = true, env = "REDIS_HOST", hide = true)]
    redis_host: Option<String>,
    #[arg(long, global = true, env = "REDIS_PASSWORD", hide = true, hide_env_values = true, value_parser = secret)]
    redis_password: Option<Secret<String>>,
    #[arg(long, global = true, env = "LIVEKIT_TURN_CERT", hide = true)]
    turn_cert: Option<String>,
    #[arg(long, global = true, env = "LIVEKIT_TURN_KEY", hide = true)]
    turn_key: Option<String>,
    #[arg(long, global = true, hide = true)]
    cpuprofile: Option<String>,
    #[arg(long, global = true, hide = true)]
    memprofile: Option<String>,
    #[arg(long, global = true, hide = true)]
    disable_strict_config: bool,
}

impl Ignored {
    /// Those that were given.
    pub fn given(&self) -> impl Iterator<Item = &'static str> {
        let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        [
            ("--redis-host", filled(&self.redis_host)),
            ("--redis-password", self.redis_password.is_some()),
            ("--turn-cert", filled(&self.turn_cert)),
            ("--turn-key", filled(&self.turn_key)),
            ("--cpuprofile", filled(&self.cpuprofile)),
            ("--memprofile", filled(&self.memprofile)),
            ("--disable-strict-config", self.disable_strict_config),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
    }
}

/// What to do instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Print a new API key and secret.
    GenerateKeys,
    /// Ask the server whether it is well, the app by its socket, others by their port; exit code 1 if not.
    Healthcheck,
    /// Print the ports that are used.
    Ports,
    /// Print a token to join a room with.
    #[command(alias = "create-join-token")]
    Token(Token),
}

/// What a token grants.
#[derive(Debug, Clone, Args)]
pub struct Token {
    /// The room.
    #[arg(long)]
    pub room: String,
    /// Who joins; unique in the room.
    #[arg(long)]
    pub identity: String,
    /// The name that others see.
    #[arg(long)]
    pub name: Option<String>,
    /// Free text that others see.
    #[arg(long)]
    pub metadata: Option<String>,
    /// How long the token can be used to join.
    #[arg(long, default_value = "6h", value_name = "TIME", value_parser = span)]
    pub valid_for: Duration,
    /// Others do not see this participant.
    #[arg(long)]
    pub hidden: bool,
    /// May not publish tracks.
    #[arg(long)]
    pub no_publish: bool,
    /// May not publish data.
    #[arg(long)]
    pub no_publish_data: bool,
    /// May not subscribe.
    #[arg(long)]
    pub no_subscribe: bool,
    /// A recorder: not counted as a participant.
    #[arg(long)]
    pub recorder: bool,
    /// May change its own name, metadata and attributes.
    #[arg(long)]
    pub update_own_metadata: bool,
    /// May administer the room.
    #[arg(long)]
    pub admin: bool,
    /// May create the room although rooms are not created by joining.
    #[arg(long)]
    pub create: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result")]
fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

fn span(text: &str) -> Result<Duration, &'static str> {
    duration::parse(text)
        .filter(|span| !span.is_zero())
        .ok_or("type a time such as 30m, 6h or 240h")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_and_after_the_subcommand() {
        for line in [
            "parlor --dev --bind 10.0.0.1 token --room r --identity i",
            "parlor token --room r --identity i --dev --bind 10.0.0.1",
        ] {
            let cli = Cli::parse_from(line.split(' '));
            assert!(cli.flags.dev, "{line}");
            assert_eq!(cli.flags.bind, ["10.0.0.1"], "{line}");
            let Some(Command::Token(token)) = cli.command else {
                panic!("{line}")
            };
            assert_eq!(token.valid_for, Duration::from_secs(6 * 3600));
        }
        let old = Cli::parse_from("parlor create-join-token --room r --identity i".split(' '));
        assert!(matches!(old.command, Some(Command::Token(_))));
        assert!(
            Cli::try_parse_from("parlor token --room r --identity i --valid-for 0s".split(' '))
                .is_err()
        );
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let cli = Cli::parse_from([
            "parlor",
            "--keys",
            "a: hush",
            "--config-body",
            "keys: {a: hush}",
        ]);
        assert!(!format!("{cli:?}").contains("hush"));
    }

    #[test]
    fn flags_without_effect_are_named() {
        let cli = Cli::parse_from(["parlor", "--redis-host", "x", "--disable-strict-config"]);
        let given: Vec<_> = cli.flags.ignored.given().collect();
        assert_eq!(given, ["--redis-host", "--disable-strict-config"]);
    }
}
