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
