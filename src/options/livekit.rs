//! The keys of LiveKit's own configuration (livekit 1.13.5 `pkg/config/config.go`, as its `config-sample.yaml` and
//! its dump list them). A file for livekit-server is a file for us: what has no effect here is accepted all the same.

use crate::options::yaml::{Node, Value};

/// Scalars, by section. `LIVEKIT_<SECTION>_<KEY>` in the environment overrides each of them, as with livekit-server.
const SCALARS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "port",
            "prometheus_port",
            "key_file",
            "region",
            "log_level",
            "development",
            "enable_data_tracks",
            "enable_participant_data_blob",
        ],
    ),
    ("prometheus", &["port", "username", "password"]),
    ("debug_handler", &["port"]),
    (
        "rtc",
        &[
            "udp_port",
            "tcp_port",
            "port_range_start",
            "port_range_end",
            "use_stun_port_as_ice",
            "node_ip",
            "use_external_ip",
            "advertise_internal_ip",
            "skip_external_ip_validation",
            "external_ip_only",
            "require_ipv4",
            "host_acceptance_min_wait",
            "srflx_acceptance_min_wait",
            "prflx_acceptance_min_wait",
            "relay_acceptance_min_wait",
            "use_ice_lite",
            "enable_loopback_candidate",
            "use_mdns",
            "force_tcp",
            "sctp_min_cwnd",
            "sctp_fast_rtx_wnd",
            "sctp_cwnd_ca_step",
            "enable_warp",
            "packet_buffer_size",
            "packet_buffer_size_video",
            "packet_buffer_size_audio",
            "allow_tcp_fallback",
            "tcp_fallback_rtt_threshold",
            "allow_udp_unstable_fallback",
            "reconnect_on_publication_error",
            "reconnect_on_subscription_error",
            "reconnect_on_data_channel_error",
            "datachannel_slow_threshold",
            "datachannel_lossy_target_latency",
            "datachannel_data_track_target_latency",
            "data_channel_max_buffered_amount",
            "strict_acks",
            "enable_rtp_stream_restart_detection",
        ],
    ),
    ("rtc.batch_io", &["batch_size", "max_flush_interval"]),
    (
        "rtc.pli_throttle",
        &["low_quality", "mid_quality", "high_quality"],
    ),
    (
        "rtc.congestion_control",
        &[
            "enabled",
            "allow_pause",
            "use_send_side_bwe",
            "use_send_side_bwe_interceptor",
            "send_side_bwe_pacer",
        ],
    ),
    (
        "rtc.forward_stats",
        &["summary_interval", "report_interval", "report_window"],
    ),
    (
        "redis",
        &[
            "address",
            "username",
            "password",
            "db",
            "use_tls",
            "sentinel_master_name",
            "sentinel_username",
            "sentinel_password",
            "dial_timeout",
            "read_timeout",
            "write_timeout",
            "max_redirects",
            "pool_timeout",
            "pool_size",
        ],
    ),
    (
        "redis.tls",
        &[
            "enabled",
            "insecure",
            "server_name",
            "ca_cert_file",
            "client_cert_file",
            "client_key_file",
        ],
    ),
    (
        "room",
        &[
            "auto_create",
            "max_participants",
            "empty_timeout",
            "departure_timeout",
            "enable_remote_unmute",
            "sync_streams",
            "create_room_enabled",
            "create_room_timeout",
            "create_room_attempts",
            "enable_full_room_in_webhooks",
            "update_batch_target_size",
            "max_metadata_size",
            "max_room_name_length",
            "max_participant_identity_length",
        ],
    ),
    ("room.playout_delay", &["enabled", "min", "max"]),
    (
        "limit",
        &[
            "num_tracks",
            "bytes_per_sec",
            "subscription_limit_video",
            "subscription_limit_audio",
            "max_metadata_size",
            "max_attributes_size",
            "max_room_name_length",
            "max_participant_identity_length",
            "max_participant_name_length",
            "max_data_blob_key_length",
            "max_data_blobs_size",
            "max_data_track_custom_encoding_length",
            "signal_message_size_limit",
            "agent_signal_message_size_limit",
            "max_api_request_body_size",
        ],
    ),
    (
        "turn",
        &[
            "enabled",
            "domain",
            "cert_file",
            "key_file",
            "tls_port",
            "udp_port",
            "relay_range_start",
            "relay_range_end",
            "external_tls",
            "per_user_relay_allocation_limit",
            "ttl_seconds",
        ],
    ),
    ("webhook", &["api_key"]),
    ("webhook.resource_url_notifier", &["max_age", "max_depth"]),
    ("ingress", &["rtmp_base_url", "whip_base_url"]),
    (
        "audio",
        &[
            "active_level",
            "min_percentile",
            "update_interval",
            "smooth_intervals",
            "active_red_encoding",
            "enable_loss_proxying",
        ],
    ),
    (
        "video",
        &["dynacast_pause_delay", "codec_regression_threshold"],
    ),
    (
        "node_selector",
        &[
            "kind",
            "sort_by",
            "algorithm",
            "cpu_load_limit",
            "sysload_limit",
        ],
    ),
    (
        "signal_relay",
        &[
            "enabled",
            "retry_timeout",
            "min_retry_interval",
            "max_retry_interval",
            "stream_buffer_size",
            "connect_attempts",
        ],
    ),
    (
        "psrpc",
        &[
            "enabled",
            "max_attempts",
            "timeout",
            "backoff",
            "buffer_size",
        ],
    ),
    ("node_stats", &["stats_update_interval", "stats_max_delay"]),
    (
        "api",
        &[
            "execution_timeout",
            "check_interval",
            "max_check_interval",
            "enable_psrpc_for_get_list_participants",
        ],
    ),
    (
        "agents",
        &[
            "enable_user_data_recording",
            "enable_user_data_redaction",
            "target_load",
        ],
    ),
    ("trace", &["jaeger_url"]),
    (
        "logging",
        &[
            "level",
            "json",
            "sample",
            "sample_initial",
            "sample_interval",
            "item_sample_seconds",
            "item_sample_initial",
            "item_sample_interval",
            "pion_level",
        ],
    ),
];

/// Lists, maps and settings of machinery that we do not have: whatever stands below is taken.
const TREES: &[&str] = &[
    "bind_addresses",
    "keys",
    "rtc.stun_servers",
    "rtc.turn_servers",
    "rtc.interfaces",
    "rtc.ips",
    "rtc.additional_host_ips",
    "rtc.congestion_control.stream_allocator",
    "rtc.congestion_control.remote_bwe",
    "rtc.congestion_control.send_side_bwe",
    "redis.sentinel_addresses",
    "redis.cluster_addresses",
    "room.enabled_codecs",
    "room.room_configurations",
    "turn.bind_addresses",
    "turn.allow_restricted_peer_cidrs",
    "turn.deny_peer_cidrs",
    "webhook.urls",
    "webhook.url_notifier",
    "webhook.filter_params",
    "sip",
    "video.stream_tracker_manager",
    "node_selector.regions",
    "node_stats.stats_rate_measurement_intervals",
    "metric",
    "logging.component_levels",
];

/// A key that LiveKit does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Its path.
    pub path: String,
    /// Its line, 0 when it comes from no file.
    pub line: u32,
}

/// Every key of the tree that LiveKit does not have, in the order of the file.
pub fn unknown_keys(root: &Node) -> Vec<Unknown> {
    let mut unknown = Vec::new();
    walk(root, "", &mut unknown);
    unknown
}

fn walk(node: &Node, at: &str, unknown: &mut Vec<Unknown>) {
    for (key, child) in node.entries() {
        let path = join(at, key);
        let is_leaf = TREES.contains(&path.as_str()) || is_scalar(at, key);
        let is_section = !is_leaf && is_section(&path);
        if is_section && matches!(child.value, Value::Map(_) | Value::Null) {
            walk(child, &path, unknown);
        } else if !is_leaf && !is_section {
            unknown.push(Unknown {
                path,
                line: child.line,
            });
        }
    }
}

fn is_scalar(section: &str, key: &str) -> bool {
    SCALARS
        .iter()
        .any(|(name, keys)| *name == section && keys.contains(&key))
}

/// Sections, that is every proper prefix of a known path.
pub fn is_section(path: &str) -> bool {
    let below = |known: &str| {
        known
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    SCALARS.iter().any(|(section, _)| below(section))
        || TREES.iter().any(|tree| *tree != path && below(tree))
}

/// The path of the scalar that a variable `LIVEKIT_…` overrides; LiveKit writes dots as underscores.
pub fn path_of_variable(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("LIVEKIT_")?;
    SCALARS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(|key| join(section, key)))
        .find(|path| path.to_uppercase().replace('.', "_") == name)
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() {
        key.to_owned()
    } else {
        format!("{section}.{key}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::yaml::parse;

    #[test]
    fn the_full_dump_has_no_unknown_key() {
        let root = parse(include_str!("../../tests/fixtures/livekit-full.yaml")).unwrap();
        assert_eq!(unknown_keys(&root), Vec::new());
        assert!(root.entries().len() > 25, "the fixture is whole");
    }

    #[test]
    fn unknown_keys_are_told_with_path_and_line() {
        let root = parse(
            "porrt: 1\nrtc:\n  tcp_prot: 2\n  pli_throttle:\n    lowest: 3\n\
             room:\n  room_configurations:\n    any: {thing: 1}\nprometheus: 6789\n",
        )
        .unwrap();
        let unknown: Vec<_> = unknown_keys(&root)
            .into_iter()
            .map(|unknown| (unknown.path, unknown.line))
            .collect();
        assert_eq!(
            unknown,
            [
                ("porrt".to_owned(), 1),
                ("rtc.tcp_prot".to_owned(), 3),
                ("rtc.pli_throttle.lowest".to_owned(), 5)
            ]
        );
    }

    #[test]
    fn variables_find_their_path() {
        let path = |variable| path_of_variable(variable);
        assert_eq!(
            path("LIVEKIT_ROOM_AUTO_CREATE").as_deref(),
            Some("room.auto_create")
        );
        assert_eq!(path("LIVEKIT_PORT").as_deref(), Some("port"));
        assert_eq!(
            path("LIVEKIT_RTC_CONGESTION_CONTROL_ALLOW_PAUSE").as_deref(),
            Some("rtc.congestion_control.allow_pause")
        );
        assert_eq!(path("LIVEKIT_URL"), None);
        assert_eq!(path("PORT"), None);
    }
}
