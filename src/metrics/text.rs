//! The text that Prometheus reads. Names are LiveKit's (`livekit_…`) where a number means the same, ours (`parlor_…`)
//! elsewhere; what LiveKit calls by a name that OpenMetrics keeps for another type is a gauge.

use super::Snapshot;
use crate::room::Fault;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;

type Labels = Vec<(&'static str, String)>;

/// All numbers of a moment.
pub(super) fn render(snapshot: Snapshot) -> String {
    let labels = [
        ("node_id".into(), snapshot.node_id.clone().into()),
        ("node_type".into(), "SERVER".into()),
    ];
    let mut registry = Registry::with_labels(labels.into_iter());
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry).expect("a string takes any text");
    text
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let is_counter = matches!(kind, MetricType::Counter);
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in rows {
            let mut metric = family.encode_family(&labels)?;
            if is_counter {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            } else {
                metric.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// `_total` is added to the name.
    fn counter(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(MetricType::Counter, name, help, rows)
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        self.family(MetricType::Gauge, name, help, rows)
    }
}

fn row(labels: &[(&'static str, &str)], value: u64) -> (Labels, f64) {
    let labels = labels
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    (labels, value as f64)
}

fn kinds([audio, video]: [u64; 2]) -> [(Labels, f64); 2] {
    [
        row(&[("kind", "AUDIO")], audio),
        row(&[("kind", "VIDEO")], video),
    ]
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        self.rooms(&mut out)?;
        self.media(&mut out)?;
        self.posted(&mut out)
    }
}

impl Snapshot {
    fn rooms(&self, out: &mut Writer<'_>) -> fmt::Result {
        let (census, counted) = (&self.census, &self.counted);
        out.gauge("livekit_room_total", "Rooms", [row(&[], census.rooms)])?;
        out.gauge(
            "livekit_participant_total",
            "Participants",
            [row(&[], census.participants)],
        )?;
        out.gauge(
            "livekit_track_published_total",
            "Published tracks",
            kinds(census.published),
        )?;
        out.gauge(
            "livekit_track_subscribed_total",
            "Tracks that subscribers have",
            kinds(census.subscribed),
        )?;
        out.counter(
            "livekit_participant_join",
            "Joins by how far they came",
            [
                ("signal_failed", counted.joins_refused),
                ("signal_connected", counted.joins_accepted),
                ("rtc_init", counted.joins_accepted),
                ("rtc_active", counted.joins_active),
                ("rtc_canceled", counted.joins_aborted),
            ]
            .map(|(state, count)| row(&[("state", state)], count)),
        )?;
        let [audio, video] = counted.published;
        out.gauge(
            "livekit_track_publish_counter",
            "Tracks published since the start",
            [
                row(&[("kind", "AUDIO"), ("state", "success")], audio),
                row(&[("kind", "VIDEO"), ("state", "success")], video),
            ],
        )?;
        let message = |direction, count| {
            let labels = [
                ("type", "signal"),
                ("status", "success"),
                ("direction", direction),
            ];
            row(&labels, count)
        };
        out.gauge(
            "livekit_node_messages",
            "Signalling messages since the start",
            [
                message("incoming", counted.messages_in),
                message("outgoing", counted.messages_out),
            ],
        )?;
        let causes = Fault::ALL.iter().zip(counted.faults);
        out.counter(
            "parlor_client_faults",
            "Requests and data of clients that were refused or ignored",
            causes.map(|(cause, count)| row(&[("cause", cause.as_str())], count)),
        )
    }

    fn media(&self, out: &mut Writer<'_>) -> fmt::Result {
        let sum = |number: fn(&crate::plan::WorkerReport) -> u64| -> u64 {
            self.workers.iter().map(number).sum()
        };
        let ways = |received, sent| {
            [
                row(
                    &[("direction", "incoming"), ("transmission", "initial")],
                    received,
                ),
                row(
                    &[("direction", "outgoing"), ("transmission", "initial")],
                    sent,
                ),
            ]
        };
        out.counter(
            "livekit_packet",
            "RTP packets",
            ways(sum(|w| w.packets_in), sum(|w| w.packets_out)),
        )?;
        out.gauge(
            "livekit_packet_bytes",
            "Bytes of RTP since the start",
            ways(sum(|w| w.bytes_in), sum(|w| w.bytes_out)),
        )?;
        let workers = || {
            let name = |index: usize| vec![("worker", index.to_string())];
            self.workers
                .iter()
                .enumerate()
                .map(move |(index, worker)| (name(index), worker))
        };
        out.gauge(
            "parlor_transports",
            "Open peer connections",
            workers().map(|(labels, w)| (labels, f64::from(w.transports))),
        )?;
        out.gauge(
            "parlor_up_tracks",
            "Tracks received, mirrors of other workers included",
            workers().map(|(labels, w)| (labels, f64::from(w.up_tracks))),
        )?;
        out.gauge(
            "parlor_down_tracks",
            "Tracks sent",
            workers().map(|(labels, w)| (labels, f64::from(w.down_tracks))),
        )?;
        out.gauge(
            "parlor_worker_load",
            "Share of the last second that a worker was awake",
            workers().map(|(labels, w)| (labels, f64::from(w.load))),
        )?;
        out.counter(
            "parlor_dropped_packets",
            "Datagrams and packets that were dropped, by cause",
            workers().flat_map(|(labels, w)| {
                w.dropped.iter().map(move |(cause, count)| {
                    let mut labels = labels.clone();
                    labels.push(("cause", (*cause).to_owned()));
                    (labels, *count as f64)
                })
            }),
        )?;
        out.counter(
            "parlor_dropped_connections",
            "ICE-TCP connections that were refused or ended by a fault of the peer, by cause",
            self.dropped_connections
                .iter()
                .map(|(cause, count)| row(&[("cause", cause)], *count)),
        )
    }

    fn posted(&self, out: &mut Writer<'_>) -> fmt::Result {
        let Some(counts) = &self.webhooks else {
            return Ok(());
        };
        out.counter(
            "parlor_webhooks",
            "Webhooks by what became of them, once for each receiver",
            [
                ("delivered", counts.delivered),
                ("refused", counts.refused),
                ("dropped", counts.dropped),
            ]
            .map(|(result, count)| row(&[("result", result)], count)),
        )?;
        out.counter(
            "parlor_webhook_failed_tries",
            "Requests to receivers that failed",
            [row(&[], counts.failed_tries)],
        )?;
        out.gauge(
            "parlor_webhooks_waiting",
            "Webhooks that are not delivered yet",
            [row(&[], counts.waiting)],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::WorkerReport;

    #[test]
    fn numbers_have_livekits_names_and_workers_are_summed_up() {
        let worker = WorkerReport {
            packets_in: 7,
            bytes_out: 1_000,
            transports: 2,
            dropped: vec![("late", 3)],
            ..WorkerReport::default()
        };
        let snapshot = Snapshot {
            node_id: "ND_1".to_owned(),
            census: crate::hub::Census {
                rooms: 1,
                participants: 2,
                published: [2, 1],
                subscribed: [2, 0],
            },
            counted: crate::hub::Counted {
                joins_active: 5,
                faults: std::array::from_fn(|cause| cause as u64),
                ..Default::default()
            },
            workers: vec![worker.clone(), worker],
            dropped_connections: vec![("silent", 6)],
            webhooks: Some(crate::webhook::Counts {
                dropped: 4,
                ..Default::default()
            }),
        };
        let text = render(snapshot);
        let node = "node_id=\"ND_1\",node_type=\"SERVER\"";
        for (name, labels, value) in [
            ("livekit_room_total", "", "1"),
            ("livekit_participant_total", "", "2"),
            ("livekit_track_published_total", ",kind=\"VIDEO\"", "1"),
            ("livekit_track_subscribed_total", ",kind=\"AUDIO\"", "2"),
            (
                "livekit_participant_join_total",
                ",state=\"rtc_active\"",
                "5",
            ),
            (
                "livekit_packet_total",
                ",direction=\"incoming\",transmission=\"initial\"",
                "14",
            ),
            (
                "livekit_packet_bytes",
                ",direction=\"outgoing\",transmission=\"initial\"",
                "2000",
            ),
            ("parlor_transports", ",worker=\"1\"", "2"),
            (
                "parlor_dropped_packets_total",
                ",worker=\"0\",cause=\"late\"",
                "3",
            ),
            ("parlor_dropped_connections_total", ",cause=\"silent\"", "6"),
            ("parlor_webhooks_total", ",result=\"dropped\"", "4"),
            (
                "parlor_client_faults_total",
                ",cause=\"trickle_unreadable\"",
                "10",
            ),
        ] {
            let line = format!("{name}{{{node}{labels}}} {value}");
            let found = text.lines().any(|found| {
                found == line || found.strip_suffix(".0").is_some_and(|found| found == line)
            });
            assert!(found, "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
