use super::*;
use crate::options::File;
use crate::options::cli::Cli;
use crate::plan::IceLogin;
use clap::Parser;

const KEY: &str = "keys: {k: abcdefghijklmnopqrstuvwxyz012345}\n";

fn read(yaml: &str) -> Result<(Config, Vec<Warning>), Vec<Problem>> {
    Config::from_options(&Options::from_yaml("livekit.yaml", yaml), 4)
}

/// The configuration of a text that is completed by a key.
fn good(yaml: &str) -> Config {
    let (config, warnings) = read(&format!("{KEY}{yaml}")).unwrap();
    assert_eq!(warnings, []);
    config
}

fn with_flags(yaml: &str, args: &[&str]) -> Options {
    let mut options = Options::from_yaml("livekit.yaml", yaml);
    options.apply_flags(&Cli::parse_from([&["parlor"], args].concat()).flags);
    options
}

#[test]
fn the_full_dump_is_accepted_without_a_word() {
    let text = include_str!("../../tests/fixtures/livekit-full.yaml");
    let (config, warnings) = read(text).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.http.port, 7880);
    assert_eq!(config.http.bind, [] as [IpAddr; 0]);
    assert_eq!(config.rtc.udp_ports, [7882, 7883, 7884, 7885]);
    assert_eq!(config.rtc.tcp_port, Some(7881));
    assert_eq!(
        config.rtc.node_ip,
        [
            "192.0.2.10".parse::<IpAddr>().unwrap(),
            "2001:db8::10".parse().unwrap()
        ]
    );
    assert_eq!(config.rtc.ips.includes, ["192.0.2.0/24", "2001:db8::/32"]);
    assert_eq!(config.rtc.interfaces.excludes, ["docker0"]);
    assert_eq!(
        config.rtc.ice_servers,
        [
            IceServer {
                urls: vec!["turns:turn.example.org:443?transport=tcp".to_owned()],
                login: IceLogin::Fixed {
                    username: "someone".to_owned(),
                    credential: Secret::new("0123456789".to_owned()),
                },
            },
            IceServer {
                urls: vec!["turn:192.0.2.20:3478?transport=udp".to_owned()],
                login: IceLogin::Rest {
                    secret: Secret::new("a-static-auth-secret".to_owned()),
                    ttl: Duration::from_secs(14_400),
                },
            },
        ]
    );
    assert_eq!(
        config.keys.secret("APIdigits").unwrap().reveal(),
        "01234567890123456789012345678901234567890123456789"
    );
    assert_eq!(config.room.enabled_codecs, Room::default().enabled_codecs);
    assert_eq!(
        config.room.presets["party"],
        serde_json::json!({"max_participants": 10, "empty_timeout": 30, "tags": {"colour": "7"}})
    );
    assert_eq!(config.limits.max_room_name_length, 256);
    assert!(!config.development);
}

/// Each row: a text, and path, line and a piece of fault and of remedy of each of its problems.
#[test]
fn every_problem_names_path_line_fault_and_remedy() {
    type Want = (&'static str, u32, &'static str, &'static str);
    let rows: &[(&str, &[Want])] = &[
        ("", &[("keys", 0, "no API key", "parlor generate-keys")]),
        (
            "keys:\n",
            &[("keys", 0, "no API key", "parlor generate-keys")],
        ),
        (
            "keys: k:s\n",
            &[("keys", 1, "map of keys", "blank after the colon")],
        ),
        (
            "keys:\n  k:\n",
            &[("keys.k", 2, "no secret", "parlor generate-keys")],
        ),
        (
            "keys:\n  k: short\n",
            &[("keys.k", 2, "5 characters", "parlor generate-keys")],
        ),
        (
            "key_file: /x\n",
            &[("key_file", 1, "/x was not read", "readable")],
        ),
        ("port: 0\n", &[("port", 1, "0 is no port", "7880")]),
        (
            "port: 65536\n",
            &[("port", 1, "\"65536\" is no port", "1 to 65535")],
        ),
        ("port: [1]\n", &[("port", 1, "single value", "one value")]),
        (
            "port: 7881\n",
            &[("rtc.tcp_port", 0, "taken by port", "7880")],
        ),
        (
            "port: 80\nrtc:\n  tcp_port: 80\n",
            &[("rtc.tcp_port", 3, "80 is taken", "7881")],
        ),
        (
            "bind_addresses: [localhost, \"::1\"]\n",
            &[("bind_addresses[0]", 1, "no IP address", "192.168.1.5")],
        ),
        (
            "bind_addresses: {a: b}\n",
            &[("bind_addresses", 1, "wants a list", "dash")],
        ),
        (
            "rtc: {udp_port: 1-x}\n",
            &[(
                "rtc.udp_port",
                1,
                "neither a port nor a range",
                "\"7882-7885\"",
            )],
        ),
        (
            "rtc: {udp_port: 9-8}\n",
            &[("rtc.udp_port", 1, "neither a port nor a range", "7882")],
        ),
        (
            "rtc: {udp_port: 70000}\n",
            &[("rtc.udp_port", 1, "neither a port nor a range", "7882")],
        ),
        (
            "rtc:\n  port_range_start: 5\n",
            &[("rtc.port_range_end", 2, "is not", "port_range_end: 105")],
        ),
        (
            "rtc:\n  port_range_end: 500\n",
            &[("rtc.port_range_start", 2, "is not", "port_range_start: 400")],
        ),
        (
            "rtc:\n  port_range_start: 5\n  port_range_end: 4\n",
            &[("rtc.port_range_end", 3, "below", "5 or more")],
        ),
        (
            "rtc: {node_ip: here}\n",
            &[("rtc.node_ip", 1, "no IP address", "192.168.1.5")],
        ),
        (
            "rtc: {node_ip: 0.0.0.0}\n",
            &[("rtc.node_ip", 1, "no client can send", "reach this machine")],
        ),
        (
            "rtc: {node_ip: '10.0.0.1,10.0.0.2'}\n",
            &[("rtc.node_ip", 1, "one family", "comma")],
        ),
        (
            "rtc: {force_tcp: true, tcp_port: 0}\n",
            &[("rtc.force_tcp", 0, "no client could reach", "rtc.tcp_port")],
        ),
        (
            "rtc: {use_ice_lite: maybe}\n",
            &[(
                "rtc.use_ice_lite",
                1,
                "neither true nor false",
                "type false",
            )],
        ),
        (
            "rtc: {ips: {includes: [10.0.0.1]}}\n",
            &[("rtc.ips.includes[0]", 1, "CIDR", "10.0.0.1/32")],
        ),
        (
            "rtc: {ips: {excludes: [\"fd00::1\", 10.0.0.0/33]}}\n",
            &[
                ("rtc.ips.excludes[0]", 1, "CIDR", "fd00::1/128"),
                ("rtc.ips.excludes[1]", 1, "CIDR", "192.168.1.0/24"),
            ],
        ),
        (
            "rtc: {stun_servers: ['a b:1', 'a:0', 'a:']}\n",
            &[
                (
                    "rtc.stun_servers[0]",
                    1,
                    "no host and port",
                    "stun.example.org:3478",
                ),
                (
                    "rtc.stun_servers[1]",
                    1,
                    "no host and port",
                    "stun.example.org:3478",
                ),
                (
                    "rtc.stun_servers[2]",
                    1,
                    "no host and port",
                    "stun.example.org:3478",
                ),
            ],
        ),
        (
            "rtc:\n  turn_servers:\n    - host: a b\n      protocol: quic\n      port: x\n",
            &[
                ("rtc.turn_servers[0].host", 3, "no host", "without turn:"),
                ("rtc.turn_servers[0].protocol", 4, "none of tls", "udp"),
                (
                    "rtc.turn_servers[0].secret",
                    3,
                    "without a login",
                    "static-auth-secret",
                ),
            ],
        ),
        (
            "rtc: {turn_servers: [{secret: s, port: 0x1, ttl: 86401}]}\n",
            &[
                ("rtc.turn_servers[0].host", 1, "no name", "turn.example.org"),
                ("rtc.turn_servers[0].port", 1, "no port", "65535"),
                ("rtc.turn_servers[0].ttl", 1, "longer than a day", "86400"),
            ],
        ),
        (
            "rtc: {turn_servers: ['turn:a']}\n",
            &[("rtc.turn_servers[0]", 1, "wants host", "protocol: udp")],
        ),
        (
            "room: {max_participants: -1}\n",
            &[(
                "room.max_participants",
                1,
                "no whole number",
                "0 to 4294967295",
            )],
        ),
        (
            "room: {empty_timeout: soon}\n",
            &[("room.empty_timeout", 1, "no duration", "300")],
        ),
        (
            "room: {room_configurations: x}\n",
            &[("room.room_configurations", 1, "map of names", "indented")],
        ),
        (
            "room: {enabled_codecs: [[]]}\n",
            &[("room.enabled_codecs[0]", 1, "single value", "one value")],
        ),
        (
            "limit: {bytes_per_sec: lots}\n",
            &[(
                "limit.bytes_per_sec",
                1,
                "no number of bytes",
                "0 for no limit",
            )],
        ),
        (
            "logging: {level: loud}\n",
            &[("logging.level", 1, "no level", "info")],
        ),
        ("log_level: loud\n", &[("log_level", 1, "no level", "info")]),
        (
            "a: [1\nb: 2\n",
            &[("livekit.yaml", 2, "", "look at this line")],
        ),
    ];
    for (text, want) in rows {
        let about_keys = text.is_empty() || text.starts_with("key");
        let full = if about_keys {
            (*text).to_owned()
        } else {
            format!("{text}{KEY}")
        };
        let problems = read(&full).unwrap_err();
        assert_eq!(problems.len(), want.len(), "{text:?}: {problems:#?}");
        for (problem, (path, line, fault, remedy)) in problems.iter().zip(*want) {
            assert_eq!(problem.path, *path, "{text:?}");
            assert_eq!(problem.line.unwrap_or(0), *line, "{text:?}: {problem}");
            assert!(problem.fault.contains(fault), "{text:?}: {problem}");
            assert!(problem.remedy.contains(remedy), "{text:?}: {problem}");
        }
    }
}

#[test]
fn all_problems_are_told_at_once_and_no_secret_with_them() {
    let problems = read(
        "port: x\nrtc: {node_ip: y, ips: {includes: [z]}}\nkeys: {k: tooshort}\nlogging: {level: v}\n",
    )
    .unwrap_err();
    let paths: Vec<_> = problems
        .iter()
        .map(|problem| problem.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "port",
            "rtc.node_ip",
            "rtc.ips.includes[0]",
            "keys.k",
            "logging.level"
        ]
    );
    let text: String = problems.iter().map(ToString::to_string).collect();
    assert!(!text.contains("tooshort"), "{text}");
    assert_eq!(
        problems[0].to_string(),
        "port (line 1): \"x\" is no port; type a number from 1 to 65535"
    );
}

#[test]
fn warnings_name_what_has_no_effect() {
    let mut options = with_flags(
        &format!(
            "{KEY}rtc: {{tcp_prot: 1}}\nredis: {{address: 'r:1'}}\nturn: {{enabled: true}}\n\
             room: {{enabled_codecs: [{{mime: video/mpeg}}, {{mime: video/VP8}}]}}\n"
        ),
        &["--redis-host", "x"],
    );
    options.apply_variables([("LIVEKIT_PROT".to_owned(), "1".to_owned())]);
    let (config, warnings) = Config::from_options(&options, 1).unwrap();
    let paths: Vec<_> = warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "room.enabled_codecs[0]",
            "rtc.tcp_prot",
            "--redis-host",
            "LIVEKIT_PROT",
            "redis.address",
            "turn.enabled"
        ]
    );
    assert_eq!(config.room.enabled_codecs, ["video/VP8"]);
    assert_eq!(
        warnings[1].to_string(),
        "rtc.tcp_prot (line 2): LiveKit has no such option; it is left out"
    );
}

#[test]
fn media_ports_follow_livekits_rules() {
    for (yaml, want) in [
        ("", &[50_000, 50_001, 50_002, 50_003][..]),
        ("rtc: {udp_port: 7882}", &[7882]),
        ("rtc: {udp_port: '7882-7883'}", &[7882, 7883]),
        ("rtc: {udp_port: 7000-7900}", &[7000, 7001, 7002, 7003]),
        ("rtc: {udp_port: 0}", &[50_000, 50_001, 50_002, 50_003]),
        (
            "rtc: {udp_port: 1, port_range_start: 65535, port_range_end: 65535}",
            &[65_535],
        ),
        (
            "rtc: {udp_port: 9, port_range_start: 0, port_range_end: 0}",
            &[9],
        ),
        ("development: true", &[7882]),
    ] {
        assert_eq!(good(yaml).rtc.udp_ports, want, "{yaml}");
    }
    assert_eq!(good("rtc: {tcp_port: 0}").rtc.tcp_port, None);
}

#[test]
fn stun_servers_serve_us_and_the_clients() {
    let rtc =
        good("rtc: {stun_servers: ['a.example:19302', b.example, 'stun:[fd00::1]:5', 'fd00::2']}")
            .rtc;
    let servers = [
        "a.example:19302",
        "b.example:3478",
        "[fd00::1]:5",
        "[fd00::2]:3478",
    ];
    assert_eq!(rtc.stun_servers, servers);
    assert_eq!(rtc.ice_servers.len(), 1);
    assert_eq!(rtc.ice_servers[0].login, IceLogin::None);
    assert_eq!(
        rtc.ice_servers[0].urls,
        servers.map(|server| format!("stun:{server}"))
    );
    assert!(good("").rtc.ice_servers.is_empty());
}

#[test]
fn turn_servers_of_each_protocol_get_their_url() {
    let rtc = good(
        "rtc: {turn_servers: [{host: 'fd00::1', protocol: tcp, secret: 12345, ttl: 1h},\
         {host: t.example, protocol: tls, username: u, credential: 007}]}",
    )
    .rtc;
    assert_eq!(
        rtc.ice_servers[0].urls,
        ["turn:[fd00::1]:3478?transport=tcp"]
    );
    assert_eq!(
        rtc.ice_servers[0].login,
        IceLogin::Rest {
            secret: Secret::new("12345".to_owned()),
            ttl: Duration::from_secs(3600)
        }
    );
    assert_eq!(
        rtc.ice_servers[1].urls,
        ["turns:t.example:5349?transport=tcp"]
    );
    assert_eq!(
        rtc.ice_servers[1].login,
        IceLogin::Fixed {
            username: "u".to_owned(),
            credential: Secret::new("007".to_owned())
        }
    );
}

fn file(text: Result<&str, &str>, mode: u32) -> File {
    File {
        text: text
            .map(|text| Secret::new(text.to_owned()))
            .map_err(str::to_owned),
        mode,
    }
}

#[test]
fn secret_files_are_taken_or_told() {
    let yaml =
        format!("{KEY}rtc: {{turn_servers: [{{host: t, secret_file: /s, secret: other}}]}}\n");
    let mut options = Options::from_yaml("", &yaml);
    for (content, want) in [
        (Ok(" hush\n"), Ok("hush")),
        (Ok("\n"), Err("/s is empty")),
        (Err("it cannot be read"), Err("/s: it cannot be read")),
    ] {
        options.files.insert("/s".to_owned(), file(content, 0o600));
        match (Config::from_options(&options, 1), want) {
            (Ok((config, _)), Ok(want)) => {
                let IceLogin::Rest { secret, .. } = &config.rtc.ice_servers[0].login else {
                    panic!("{content:?}")
                };
                assert_eq!(secret.reveal(), want);
            }
            (Err(problems), Err(want)) => {
                assert_eq!(problems[0].path, "rtc.turn_servers[0].secret_file");
                assert_eq!(problems[0].fault, want);
            }
            (got, _) => panic!("{content:?}: {got:?}"),
        }
    }
}

#[test]
fn a_key_file_wins_and_must_not_be_open_to_all() {
    let long = "abcdefghijklmnopqrstuvwxyz012345";
    let mut options = with_flags(KEY, &["--key-file", "/k"]);
    options.files.insert(
        "/k".to_owned(),
        file(Ok(&format!("a: {long}\nb: \"{long}\"\n")), 0o640),
    );
    let (config, _) = Config::from_options(&options, 1).unwrap();
    let names: Vec<_> = config
        .keys
        .0
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);

    for (content, mode, fault, remedy) in [
        (
            Ok(format!("a: {long}")),
            0o644,
            "everybody",
            "chmod o-rwx /k",
        ),
        (
            Ok("# nothing\n".to_owned()),
            0o600,
            "no API key",
            "generate-keys",
        ),
        (
            Ok(format!("a: {long}\nb\n")),
            0o600,
            "line 2 of /k",
            "key: secret",
        ),
        (
            Err("it cannot be read: gone"),
            0,
            "/k: it cannot be read: gone",
            "readable file",
        ),
    ] {
        let text = content.as_deref().map_err(|reason| *reason);
        options.files.insert("/k".to_owned(), file(text, mode));
        let problems = Config::from_options(&options, 1).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].fault.contains(fault), "{}", problems[0]);
        assert!(problems[0].remedy.contains(remedy), "{}", problems[0]);
    }
}

#[test]
fn keys_of_the_command_line_come_in_every_form() {
    let long = "01234567890123456789012345678901";
    for text in [
        format!("a: {long}"),
        format!("a:{long}"),
        format!("{{a: {long}}}"),
        format!("\"a\": \"{long}\""),
        format!("\n  a: {long}\n\n"),
        format!("# mine\na:{long}\n"),
    ] {
        let options = with_flags(KEY, &["--keys", &text]);
        let (config, _) =
            Config::from_options(&options, 1).unwrap_or_else(|p| panic!("{text}: {p:?}"));
        assert_eq!(config.keys.0.len(), 1, "{text}");
        assert_eq!(config.keys.secret("a").unwrap().reveal(), long, "{text}");
    }
    let two = with_flags("", &["--keys", &format!("a:{long}\nb: {long}")]);
    assert_eq!(Config::from_options(&two, 1).unwrap().0.keys.0.len(), 2);
    let bad = with_flags("", &["--keys", &format!("a: {long}\n{long}")]);
    let problems = Config::from_options(&bad, 1).unwrap_err();
    assert_eq!(problems[0].path, "--keys");
    assert_eq!(problems[0].fault, "line 2 is no key and secret");
    let short = with_flags("", &["--keys", "a: b"]);
    assert_eq!(
        Config::from_options(&short, 1).unwrap_err()[0].path,
        "--keys.a"
    );
}

#[test]
fn dev_needs_nothing_and_stays_on_this_machine() {
    let (config, warnings) = Config::from_options(&with_flags("", &["--dev"]), 8).unwrap();
    assert_eq!(warnings, []);
    let loopback: [IpAddr; 2] = [[127, 0, 0, 1].into(), [0, 0, 0, 0, 0, 0, 0, 1].into()];
    assert_eq!(config.http.bind, loopback);
    assert_eq!(config.rtc.bind, loopback);
    assert!(config.rtc.enable_loopback_candidate);
    assert_eq!((config.http.port, config.rtc.tcp_port), (7880, Some(7881)));
    assert_eq!(config.rtc.udp_ports, [7882]);
    assert_eq!(config.keys.secret("devkey").unwrap().reveal(), "secret");

    let (open, _) =
        Config::from_options(&with_flags("", &["--dev", "--bind", "0.0.0.0"]), 8).unwrap();
    assert_eq!(open.http.bind, [IpAddr::from([0, 0, 0, 0])]);
    assert!(!open.rtc.enable_loopback_candidate);
    let (keyed, _) = Config::from_options(&with_flags("keys: {a: b}", &["--dev"]), 8).unwrap();
    assert_eq!(keyed.keys.0.len(), 1);
    assert_eq!(keyed.keys.secret("a").unwrap().reveal(), "b");
}

#[test]
fn problems_of_flags_carry_the_flags_name() {
    let options = with_flags(KEY, &["--bind", "x", "--node-ip", "y", "--udp-port", "z"]);
    let paths: Vec<_> = Config::from_options(&options, 1)
        .unwrap_err()
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(paths, ["--bind", "--udp-port", "--node-ip"]);
}

#[test]
fn rooms_and_limits_take_what_is_said() {
    let config = good(
        "room: {auto_create: no, max_participants: 7, empty_timeout: 5m, departure_timeout: 0, sync_streams: true,\
         enable_remote_unmute: true, max_metadata_size: 10, max_room_name_length: 11,\
         playout_delay: {enabled: true, min: 100, max: 2000}}\n\
         limit: {num_tracks: -1, bytes_per_sec: 1_000.5, subscription_limit_video: 3, max_room_name_length: 12}\n\
         enable_data_tracks: false\nenable_participant_data_blob: true\nlogging: {level: WARN, json: true}\n",
    );
    assert!(!config.room.auto_create);
    assert_eq!(config.room.max_participants, 7);
    assert_eq!(config.room.empty_timeout, Duration::from_secs(300));
    assert_eq!(config.room.departure_timeout, Duration::ZERO);
    assert!(config.room.sync_streams && config.room.enable_remote_unmute);
    let (min, max) = config.room.playout_delay.unwrap();
    assert_eq!((min.as_millis(), max.as_millis()), (100, 2000));
    assert!(!config.room.enable_data_tracks && config.room.enable_participant_data_blob);
    assert_eq!(config.limits.max_metadata_size, 10);
    assert_eq!(config.limits.max_room_name_length, 12);
    assert_eq!(config.limits.num_tracks, 0);
    assert!((config.limits.bytes_per_sec - 1000.5).abs() < f32::EPSILON);
    assert_eq!(config.limits.subscription_limit_video, 3);
    assert_eq!(config.log.level, tracing::Level::WARN);
    assert!(config.log.json);
}

#[test]
fn the_size_of_messages_has_a_limit_even_where_none_is_wanted() {
    let sizes = |yaml: &str| {
        let limits = good(yaml).limits;
        (limits.signal_message_size, limits.agent_message_size)
    };
    assert_eq!(sizes(""), (2 << 20, 2 << 20));
    let said = "limit: {signal_message_size_limit: 1024, agent_signal_message_size_limit: 2048}\n";
    assert_eq!(sizes(said), (1024, 2048));
    let none = "limit: {signal_message_size_limit: 0, agent_signal_message_size_limit: 99000000}\n";
    assert_eq!(sizes(none), (4 << 20, 4 << 20));
}
