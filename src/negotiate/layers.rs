//! Which encodings a published section has: by RID, by SSRC group, or a single one.

use super::parse::Section;
use crate::ids::Rid;
use crate::plan::ReceiveLayer;

/// Names of layers, lowest first: LiveKit's SDKs, and OBS, whose `0` is the full resolution.
const NAMES: [[&str; 3]; 2] = [["q", "h", "f"], ["2", "1", "0"]];

/// The layers, lowest first. Names that nobody knows keep the client's order.
pub(super) fn layers(section: &Section) -> Vec<ReceiveLayer> {
    if !section.rids.is_empty() {
        return by_rid(&section.rids);
    }
    let by_ssrc = section.ssrcs.iter().map(|(ssrc, rtx)| (Some(*ssrc), *rtx));
    let mut layers: Vec<ReceiveLayer> = by_ssrc
        .zip(0..)
        .map(|((ssrc, rtx_ssrc), spatial)| ReceiveLayer {
            spatial,
            rid: None,
            ssrc,
            rtx_ssrc,
        })
        .collect();
    if layers.is_empty() {
        // Neither is signalled: the worker learns the SSRC from the MID extension or the payload type.
        layers.push(ReceiveLayer {
            spatial: 0,
            rid: None,
            ssrc: None,
            rtx_ssrc: None,
        });
    }
    layers
}

fn by_rid(rids: &[Rid]) -> Vec<ReceiveLayer> {
    let rank = |rid: &Rid| {
        NAMES
            .iter()
            .find_map(|names| names.iter().position(|name| *name == rid.as_str()))
    };
    let mut sorted: Vec<&Rid> = rids.iter().collect();
    if sorted.iter().all(|rid| rank(rid).is_some()) {
        sorted.sort_by_key(|rid| rank(rid));
    }
    sorted
        .into_iter()
        .zip(0..)
        .map(|(rid, spatial)| ReceiveLayer {
            spatial,
            rid: Some(rid.clone()),
            ssrc: None,
            rtx_ssrc: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ssrc;
    use crate::negotiate::parse::Description;

    /// The layers of a video section with these lines: RID or SSRC and SSRC of retransmissions, lowest first.
    fn of(lines: &str) -> Vec<(String, Option<Ssrc>, Option<Ssrc>)> {
        let sdp = include_str!("../../tests/fixtures/chromium-v0-accept.sdp");
        let sdp = sdp.replace("a=mid:2\n", &format!("a=mid:2\n{lines}"));
        let section = &Description::parse(&sdp).unwrap().sections[2];
        let layers = layers(section);
        assert!(layers.iter().zip(0..).all(|(layer, n)| layer.spatial == n));
        layers
            .into_iter()
            .map(|layer| {
                let rid = layer.rid.map(|rid| rid.to_string()).unwrap_or_default();
                (rid, layer.ssrc, layer.rtx_ssrc)
            })
            .collect()
    }

    fn rids(list: &str) -> String {
        let layers = of(&format!("a=simulcast:send {list}\n"));
        layers
            .into_iter()
            .map(|layer| layer.0)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn rids_name_the_layers_whatever_their_order() {
        assert_eq!(rids("q;h;f"), "q h f");
        assert_eq!(rids("f;~h;~q"), "q h f");
        assert_eq!(rids("h;q"), "q h");
        assert_eq!(rids("f"), "f");
        assert_eq!(rids("2;1;0"), "2 1 0");
        assert_eq!(rids("0;1;2"), "2 1 0", "OBS: 0 is the full resolution");
        assert_eq!(
            rids("low,alt;mid;top"),
            "low mid top",
            "unknown: as offered"
        );
        assert_eq!(rids("a;b;c;d"), "a b c", "LiveKit knows three");
        assert_eq!(rids("q;q;h recv x"), "q h");
        assert_eq!(rids("q;h;f\na=simulcast:recv x"), "q h f");
        let pion = of("a=simulcast:recv x\na=simulcast:send q;h;f\n");
        assert_eq!(pion.len(), 3, "{pion:?}");
    }

    #[test]
    fn ssrc_groups_name_the_layers_of_old_clients() {
        let sim = "a=ssrc-group:SIM 1 2 3\na=ssrc-group:FID 1 11\na=ssrc-group:FID 2 12\na=ssrc-group:FID 3 13\n";
        let layer = |ssrc, rtx: Option<u32>| (String::new(), Some(Ssrc(ssrc)), rtx.map(Ssrc));
        assert_eq!(
            of(sim),
            [layer(1, Some(11)), layer(2, Some(12)), layer(3, Some(13))]
        );
        assert_eq!(
            of("a=ssrc-group:FID 7 8\na=ssrc:8 cname:x\n"),
            [layer(7, Some(8))]
        );
        assert_eq!(of("a=ssrc:9 cname:x\n"), [layer(9, None)]);
        assert_eq!(
            of(""),
            [(String::new(), None, None)],
            "learned from the first packet"
        );
    }
}
