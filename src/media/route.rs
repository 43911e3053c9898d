//! Which track and encoding a packet of a publisher belongs to, by SSRC; SSRCs that no plan names are learned from the
//! MID and RID extensions (RFC 8843 §9.2, RFC 8852), or from the payload type when only one section has it.
//!
//! Owned by a transport's receiving side; one lookup per packet. Bounded: an authenticated peer can still invent SSRCs.

use crate::ids::{PayloadType, Ssrc};
use crate::plan::{ReceivePlan, ReceiveTrack};

/// SSRCs that are learned of one transport at least, and for each encoding of its plan: media and retransmissions, of
/// a sender that began anew once.
const MIN_LEARNED: usize = 64;
const LEARNED_PER_LAYER: usize = 4;

/// Where packets of an SSRC go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the track in the plan.
    pub track: u16,
    /// Index of the encoding in the track.
    pub layer: u8,
    /// They are retransmissions (RFC 4588).
    pub is_rtx: bool,
}

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// MID.
    pub mid: Option<&'a [u8]>,
    /// RID.
    pub rid: Option<&'a [u8]>,
    /// RID of the encoding that it repairs.
    pub repaired_rid: Option<&'a [u8]>,
}

/// The table of one transport.
#[derive(Debug, Default)]
pub struct Routes {
    /// Those that the plan names.
    planned: Vec<(Ssrc, Route)>,
    /// The others, the oldest first.
    learned: Vec<(Ssrc, Route)>,
    max_learned: usize,
}

impl Routes {
    /// Adapts to a new plan: what it names is known, what was learned for a section that stays is kept, also when the
    /// section carries another track now (browsers stop sending the MID once it was acknowledged).
    pub fn set_plan(&mut self, old: &ReceivePlan, new: &ReceivePlan) {
        let learned = std::mem::take(&mut self.learned);
        let layers: usize = new.tracks.iter().map(|track| track.layers.len()).sum();
        self.max_learned = MIN_LEARNED.max(LEARNED_PER_LAYER * layers);
        let planned = std::mem::take(&mut self.planned);
        for (track, plan) in new.tracks.iter().enumerate() {
            for (layer, encoding) in plan.layers.iter().enumerate() {
                for (ssrc, is_rtx) in [(encoding.ssrc, false), (encoding.rtx_ssrc, true)] {
                    let Some(ssrc) = ssrc else {
                        continue;
                    };
                    let route = Route {
                        track: track as u16,
                        layer: layer as u8,
                        is_rtx,
                    };
                    self.planned.retain(|(other, _)| *other != ssrc);
                    self.planned.push((ssrc, route));
                }
            }
        }
        // What the old plan named and the new one does not is as good as learned: its section goes on with it.
        for (ssrc, route) in planned.into_iter().chain(learned) {
            let Some(before) = old.tracks.get(usize::from(route.track)) else {
                continue;
            };
            let Some(track) = new.tracks.iter().position(|now| now.mid == before.mid) else {
                continue;
            };
            let was = before.layers.get(usize::from(route.layer));
            let layer = new.tracks[track].layers.iter().position(|now| {
                was.is_some_and(|was| was.spatial == now.spatial && was.rid == now.rid)
            });
            if let Some(layer) = layer
                && self.find(ssrc).is_none()
            {
                self.learn(
                    ssrc,
                    Route {
                        track: track as u16,
                        layer: layer as u8,
                        is_rtx: route.is_rtx,
                    },
                );
            }
        }
    }

    /// The route of a known SSRC.
    pub fn find(&self, ssrc: Ssrc) -> Option<Route> {
        self.planned
            .iter()
            .chain(&self.learned)
            .find(|(known, _)| *known == ssrc)
            .map(|(_, route)| *route)
    }

    /// The SSRC known for an encoding.
    pub fn ssrc_of(&self, wanted: Route) -> Option<Ssrc> {
        // The newest: a sender that restarted took another one.
        self.learned
            .iter()
            .rev()
            .chain(&self.planned)
            .find(|(_, route)| *route == wanted)
            .map(|(ssrc, _)| *ssrc)
    }

    /// Finds out where an unknown SSRC belongs, without remembering it: the packet is not authenticated yet.
    pub fn resolve(plan: &ReceivePlan, pt: PayloadType, hints: Hints<'_>) -> Option<Route> {
        let rid = hints.repaired_rid.or(hints.rid);
        let track = match hints.mid {
            Some(mid) => plan
                .tracks
                .iter()
                .position(|track| track.mid.as_str().as_bytes() == mid)?,
            None => {
                let mut fitting = plan.tracks.iter().enumerate().filter(|(_, track)| {
                    carries(track, pt) && rid.is_none_or(|rid| layer_of(track, rid).is_some())
                });
                let (index, _) = fitting.next()?;
                if fitting.next().is_some() {
                    return None;
                }
                index
            }
        };
        let plan = &plan.tracks[track];
        if !carries(plan, pt) {
            return None;
        }
        let layer = match rid {
            Some(rid) => layer_of(plan, rid)?,
            None if plan.layers.len() == 1 => 0,
            None => return None,
        };
        Some(Route {
            track: track as u16,
            layer: layer as u8,
            is_rtx: plan.formats.iter().any(|format| format.rtx == Some(pt)),
        })
    }

    /// Remembers an SSRC; the oldest learned one gives way when there are too many.
    pub fn learn(&mut self, ssrc: Ssrc, route: Route) {
        self.learned.retain(|(known, _)| *known != ssrc);
        if self.learned.len() >= self.max_learned.max(MIN_LEARNED) {
            self.learned.remove(0);
        }
        self.learned.push((ssrc, route));
    }
}

fn carries(track: &ReceiveTrack, pt: PayloadType) -> bool {
    track
        .formats
        .iter()
        .any(|format| format.pt == pt || format.rtx == Some(pt))
}

fn layer_of(track: &ReceiveTrack, rid: &[u8]) -> Option<usize> {
    track.layers.iter().position(|layer| {
        layer
            .rid
            .as_ref()
            .is_some_and(|own| own.as_str().as_bytes() == rid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Mid, Rid, UpTrackId};
    use crate::plan::{Codec, Format, Kind, ReceiveFormat, ReceiveLayer};

    fn format(pt: u8, rtx: Option<u8>, codec: Codec) -> ReceiveFormat {
        ReceiveFormat {
            pt: PayloadType(pt),
            format: Format { codec, variant: 0 },
            rtx: rtx.map(PayloadType),
        }
    }

    fn layer(spatial: u8, rid: Option<&str>, ssrc: Option<u32>) -> ReceiveLayer {
        ReceiveLayer {
            spatial,
            rid: rid.map(Rid::from),
            ssrc: ssrc.map(Ssrc),
            rtx_ssrc: ssrc.map(|ssrc| Ssrc(ssrc + 1)),
        }
    }

    fn track(up: u64, mid: &str, format: ReceiveFormat, layers: Vec<ReceiveLayer>) -> ReceiveTrack {
        ReceiveTrack {
            up: UpTrackId(up),
            mid: Mid::from(mid),
            kind: Kind::Video,
            formats: vec![format],
            layers,
            nack: true,
        }
    }

    fn plan() -> ReceivePlan {
        let vp8 = format(96, Some(97), Codec::Vp8);
        ReceivePlan {
            tracks: vec![
                track(
                    1,
                    "0",
                    format(111, None, Codec::Opus),
                    vec![layer(0, None, Some(10))],
                ),
                track(
                    2,
                    "1",
                    vp8,
                    vec![layer(0, Some("q"), None), layer(1, Some("h"), None)],
                ),
                track(3, "2", vp8, vec![layer(0, None, None)]),
            ],
            ..ReceivePlan::default()
        }
    }

    fn route(track: u16, layer: u8, is_rtx: bool) -> Route {
        Route {
            track,
            layer,
            is_rtx,
        }
    }

    #[test]
    fn an_ssrc_of_the_plan_is_known_with_its_retransmissions() {
        let mut routes = Routes::default();
        routes.set_plan(&ReceivePlan::default(), &plan());
        assert_eq!(routes.find(Ssrc(10)), Some(route(0, 0, false)));
        assert_eq!(routes.find(Ssrc(11)), Some(route(0, 0, true)));
        assert_eq!(routes.find(Ssrc(12)), None);
    }

    #[test]
    fn mid_and_rid_find_the_encoding() {
        let resolve = |pt,
                       mid: Option<&'static str>,
                       rid: Option<&'static str>,
                       repaired: Option<&'static str>| {
            Routes::resolve(
                &plan(),
                PayloadType(pt),
                Hints {
                    mid: mid.map(str::as_bytes),
                    rid: rid.map(str::as_bytes),
                    repaired_rid: repaired.map(str::as_bytes),
                },
            )
        };
        assert_eq!(
            resolve(96, Some("1"), Some("h"), None),
            Some(route(1, 1, false))
        );
        assert_eq!(
            resolve(97, Some("1"), None, Some("q")),
            Some(route(1, 0, true))
        );
        assert_eq!(resolve(96, Some("1"), None, None), None, "which layer?");
        assert_eq!(
            resolve(96, Some("1"), Some("f"), None),
            None,
            "no such layer"
        );
        assert_eq!(
            resolve(111, Some("1"), Some("q"), None),
            None,
            "wrong section"
        );
        assert_eq!(resolve(97, Some("2"), None, None), Some(route(2, 0, true)));
        assert_eq!(resolve(96, None, None, None), None, "two sections have it");
        assert_eq!(resolve(96, None, Some("q"), None), Some(route(1, 0, false)));
        assert_eq!(resolve(111, None, None, None), Some(route(0, 0, false)));
    }

    #[test]
    fn what_was_learned_of_a_section_outlives_its_track() {
        let old = plan();
        let mut routes = Routes::default();
        routes.set_plan(&ReceivePlan::default(), &old);
        routes.learn(Ssrc(50), route(1, 1, false));
        let mut new = plan();
        new.tracks.remove(0);
        new.tracks[0].up = UpTrackId(9);
        routes.set_plan(&old, &new);
        assert_eq!(routes.find(Ssrc(50)), Some(route(0, 1, false)));
        assert_eq!(routes.find(Ssrc(10)), None);
        routes.set_plan(&new, &ReceivePlan::default());
        assert_eq!(routes.find(Ssrc(50)), None);
    }

    #[test]
    fn invented_sources_do_not_grow_the_table() {
        let mut routes = Routes::default();
        for n in 0..1_000 {
            routes.learn(Ssrc(n), route(0, 0, false));
        }
        assert_eq!(routes.learned.len(), MIN_LEARNED);
        assert_eq!(routes.find(Ssrc(999)), Some(route(0, 0, false)));
    }

    #[test]
    fn no_source_of_many_tracks_gives_way_to_another() {
        let vp8 = format(96, Some(97), Codec::Vp8);
        let camera = |n: u32| {
            let named = (n.is_multiple_of(2)).then_some(n * 10);
            let layers = ["q", "h", "f"].map(|rid| layer(0, Some(rid), None));
            let mut layers = layers.to_vec();
            layers.push(layer(3, None, named));
            track(u64::from(n), &n.to_string(), vp8, layers)
        };
        let plan = ReceivePlan {
            tracks: (0..40).map(camera).collect(),
            ..ReceivePlan::default()
        };
        let mut routes = Routes::default();
        routes.set_plan(&ReceivePlan::default(), &plan);
        for n in 0..40 {
            for layer in 0..3 {
                routes.learn(
                    Ssrc(10_000 + n * 10 + layer),
                    route(n as u16, layer as u8, false),
                );
            }
        }
        for n in 0..40 {
            for layer in 0..3 {
                assert!(routes.find(Ssrc(10_000 + n * 10 + layer)).is_some());
            }
            assert_eq!(routes.find(Ssrc(n * 10)).is_some(), n.is_multiple_of(2));
        }
    }
}
