//! One publication: what was announced, what the SDP and the first packets added. It owns its codecs, each of them an up
//! track of its own: the primary, and backups, which come when somebody needs them (`super::backup`).

#![expect(
    deprecated,
    reason = "older clients read the fields that newer ones replaced"
)]

use super::Now;
use super::dynacast::Dynacast;
use super::quality::UpQuality;
use crate::ids::{Rid, Ssrc, TrackSid, UpTrackId};
use crate::negotiate::Publish;
use crate::plan::{Codec, Format, Kind, ReceiveTrack};
use crate::protocol::livekit::{
    self as proto, AddTrackRequest, AudioTrackFeature, BackupCodecPolicy, PacketTrailerFeature,
    SimulcastCodec, SimulcastCodecInfo, TrackInfo, TrackSource, TrackType, VideoLayer, video_layer,
};
use crate::random::Random;
use std::time::Instant;

/// Bytes of a track's name, a bound of our own: everybody in the room is told of it, and again at every change.
const MAX_NAME: usize = 1024;
/// Bytes of a client's own ids, of a stream's name and of a RID: as much as is read in an SDP.
const MAX_ID: usize = 256;
/// Encodings of one codec; WebRTC has no more.
const MAX_LAYERS: usize = 3;
/// Codecs of one publication.
const MAX_CODECS: usize = 4;

/// What an `add_track` has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Excess {
    /// Encodings of one codec, or codecs.
    #[error("too many layers or codecs")]
    Layers,
    /// A name or an id.
    #[error("track description too long")]
    Text,
}

/// Brings a request into a form of which everything can be told to everybody: lists hold each value once, and numbers
/// that no enum has, which have no JSON form, give way to the default. A type that is not known is not one to publish.
pub(super) fn tidy(request: &mut AddTrackRequest) {
    if TrackType::try_from(request.r#type).is_err() {
        request.r#type = TrackType::Data as i32;
    }
    request.source = request.source() as i32;
    request.encryption = request.encryption() as i32;
    request.backup_codec_policy = request.backup_codec_policy() as i32;
    request.audio_features = known::<AudioTrackFeature>(&request.audio_features);
    request.packet_trailer_features =
        known::<PacketTrailerFeature>(&request.packet_trailer_features);
    for codec in &mut request.simulcast_codecs {
        codec.video_layer_mode = codec.video_layer_mode() as i32;
    }
    let of_codecs = request.simulcast_codecs.iter_mut();
    for layer in of_codecs
        .flat_map(|codec| &mut codec.layers)
        .chain(&mut request.layers)
    {
        layer.quality = layer.quality() as i32;
    }
}

/// Whether a request has more than is told to everybody.
pub(super) fn excess(request: &AddTrackRequest) -> Option<Excess> {
    let codecs = &request.simulcast_codecs;
    if codecs.len() > MAX_CODECS
        || request.layers.len() > MAX_LAYERS
        || codecs.iter().any(|codec| codec.layers.len() > MAX_LAYERS)
    {
        return Some(Excess::Layers);
    }
    let of_codecs = codecs.iter().flat_map(|codec| &codec.layers);
    let rids = request.layers.iter().chain(of_codecs).map(|l| &l.rid);
    let ids = codecs.iter().map(|codec| &codec.cid);
    let is_long = request.name.len() > MAX_NAME
        || ids
            .chain(rids)
            .chain([&request.cid, &request.stream])
            .any(|id| id.len() > MAX_ID);
    is_long.then_some(Excess::Text)
}

/// The values of a list that this version knows, each once.
pub(super) fn known<E: TryFrom<i32>>(values: &[i32]) -> Vec<i32> {
    let mut known = Vec::new();
    for value in values {
        if !known.contains(value) && E::try_from(*value).is_ok() {
            known.push(*value);
        }
    }
    known
}

/// One codec of a publication: an up track of its own.
#[derive(Debug)]
pub(super) struct CodecTrack {
    pub(super) up: UpTrackId,
    /// A backup: its publisher has said that its section comes.
    pub(super) expected: bool,
    /// The formats that the publisher may send, preferred first; empty before the SDP.
    pub(super) formats: Vec<Format>,
    /// Encodings signalled by RID, lowest first.
    pub(super) rids: Vec<Rid>,
    /// What is wanted of it.
    pub(super) dynacast: Dynacast,
    /// How it comes in.
    pub(super) quality: UpQuality,
    /// What its packets have shown it to be; its section may list other codecs too.
    pub(super) came: Option<Codec>,
    /// How loud it was when the worker last said so.
    pub(super) heard: Option<(f32, Instant)>,
}

impl CodecTrack {
    pub(super) fn new(up: UpTrackId) -> Self {
        Self {
            up,
            expected: false,
            formats: Vec::new(),
            rids: Vec::new(),
            dynacast: Dynacast::default(),
            quality: UpQuality::default(),
            came: None,
            heard: None,
        }
    }

    /// Its publisher has a section for it.
    pub(super) fn is_live(&self) -> bool {
        !self.formats.is_empty()
    }
}

/// One publication.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) sid: TrackSid,
    pub(super) info: TrackInfo,
    pub(super) cid: String,
    pub(super) kind: Kind,
    /// The codec that stands first in `info.codecs`.
    pub(super) primary: CodecTrack,
    /// The codecs that stand behind it there, in that order.
    pub(super) backups: Vec<CodecTrack>,
    /// Everybody gets the first of the backups.
    pub(super) regressed: bool,
    /// Others know of it.
    pub(super) announced: bool,
    /// Announced at this moment even if no packet has come.
    pub(super) announce_by: Option<Instant>,
    /// The publisher was told that somebody has it.
    pub(super) subscribed: bool,
}

impl Publication {
    /// From a tidy request whose type, source and size were checked; without backups.
    pub(super) fn new(request: &AddTrackRequest, up: UpTrackId, random: &mut Random) -> Self {
        let kind = if request.r#type() == TrackType::Video {
            Kind::Video
        } else {
            Kind::Audio
        };
        let sid = TrackSid::from(format!(
            "TR_{}{}{}",
            if kind == Kind::Video { 'V' } else { 'A' },
            match request.source() {
                TrackSource::Camera => "C",
                TrackSource::Microphone => "M",
                TrackSource::ScreenShare => "S",
                TrackSource::ScreenShareAudio => "s",
                TrackSource::Unknown => "",
            },
            random.text(12)
        ));
        let info = info_of(request, kind, &sid);
        Self {
            sid,
            info,
            cid: request.cid.clone(),
            kind,
            primary: CodecTrack::new(up),
            backups: Vec::new(),
            regressed: false,
            announced: false,
            announce_by: None,
            subscribed: false,
        }
    }

    /// Its codecs, in the order of `info.codecs`.
    pub(super) fn codecs(&self) -> impl Iterator<Item = &CodecTrack> {
        std::iter::once(&self.primary).chain(&self.backups)
    }

    pub(super) fn codecs_mut(&mut self) -> impl Iterator<Item = &mut CodecTrack> {
        std::iter::once(&mut self.primary).chain(&mut self.backups)
    }

    pub(super) fn codec_track_mut(&mut self, up: UpTrackId) -> Option<&mut CodecTrack> {
        self.codecs_mut().find(|codec| codec.up == up)
    }

    /// Where in `info.codecs` an up track of it stands.
    pub(super) fn place_of(&self, up: UpTrackId) -> Option<usize> {
        self.codecs().position(|codec| codec.up == up)
    }

    /// Whether a client's track id names this publication.
    pub(super) fn has_cid(&self, cid: &str) -> bool {
        !cid.is_empty()
            && (self.cid == cid
                || self
                    .info
                    .codecs
                    .iter()
                    .any(|codec| codec.cid == cid || codec.sdp_cid == cid))
    }

    /// What the SDP machine must know of the codec at this place.
    pub(super) fn publish(&self, place: usize) -> Option<Publish> {
        let codec = self.codecs().nth(place)?;
        // Of audio that was announced with a single codec the client's own order counts.
        let preferred = self
            .info
            .codecs
            .get(place)
            .filter(|_| self.kind == Kind::Video || !self.backups.is_empty())
            .and_then(|codec| Codec::from_mime(&codec.mime_type))
            .filter(|codec| codec.kind() == self.kind);
        Some(Publish {
            up: codec.up,
            preferred,
            dtx: !self.has_feature(AudioTrackFeature::TfNoDtx),
            stereo: self.has_feature(AudioTrackFeature::TfStereo),
            red: !self.info.disable_red,
            layers: self.layers(place).len(),
        })
    }

    pub(super) fn has_feature(&self, feature: AudioTrackFeature) -> bool {
        self.info.audio_features.contains(&(feature as i32))
    }

    /// What a client says of its microphone now, known values only; of anything else it cannot say that.
    pub(super) fn set_features(&mut self, features: &[i32]) {
        if self.kind == Kind::Audio {
            self.info.audio_features = features.to_vec();
            self.info.stereo = self.has_feature(AudioTrackFeature::TfStereo);
            self.info.disable_dtx = self.has_feature(AudioTrackFeature::TfNoDtx);
        }
    }

    /// What a client says of its camera's size now.
    pub(super) fn set_size(&mut self, width: u32, height: u32) {
        if self.kind == Kind::Video {
            (self.info.width, self.info.height) = (width, height);
        }
    }

    /// Whether frames of the codec at this place hold several spatial layers in one stream.
    pub(super) fn is_svc(&self, place: usize) -> bool {
        self.info.codecs.get(place).is_some_and(|codec| {
            codec.video_layer_mode == video_layer::Mode::MultipleSpatialLayersPerStream as i32
        })
    }

    /// The codec at this place; `None` before the SDP, if it was not announced.
    pub(super) fn codec(&self, place: usize) -> Option<Codec> {
        let mime = match place {
            0 => &self.info.mime_type,
            _ => &self.info.codecs.get(place)?.mime_type,
        };
        Codec::from_mime(mime)
    }

    /// The encodings of the codec at this place as announced, lowest first.
    pub(super) fn layers(&self, place: usize) -> &[VideoLayer] {
        match place {
            0 => &self.info.layers,
            _ => {
                let codec = self.info.codecs.get(place);
                codec.map_or(&[], |codec| &codec.layers)
            }
        }
    }

    /// Takes over what an answer decided about the section of one of its codecs.
    pub(super) fn bind(&mut self, section: &ReceiveTrack, msid_track: Option<&str>) {
        let Some(place) = self.place_of(section.up) else {
            return;
        };
        let mut formats: Vec<Format> = section.formats.iter().map(|f| f.format).collect();
        if place > 0 {
            // It is there for those who take nothing else.
            let codec = self.codec(place);
            formats.retain(|format| codec.is_some_and(|codec| is_same(format.codec, codec)));
        }
        let mime = formats.first().map(|format| format.codec.mime());
        if place == 0 {
            section.mid.as_str().clone_into(&mut self.info.mid);
            mime.unwrap_or_default()
                .clone_into(&mut self.info.mime_type);
        }
        if let Some(codec) = self.info.codecs.get_mut(place) {
            if let Some(mime) = mime {
                mime.clone_into(&mut codec.mime_type);
            }
            section.mid.as_str().clone_into(&mut codec.mid);
            if let Some(id) = msid_track
                && id != codec.cid
            {
                id.clone_into(&mut codec.sdp_cid);
            }
        }
        if let Some(codec) = self.codec_track_mut(section.up) {
            codec.expected = false;
            codec.formats = formats;
            let rids = section.layers.iter();
            codec.rids = rids.filter_map(|layer| layer.rid.clone()).collect();
        }
        for (index, layer) in self.layers_mut(place).iter_mut().enumerate() {
            layer.spatial_layer = index as i32;
        }
        for layer in &section.layers {
            self.set_layer(place, layer.spatial, layer.rid.as_ref(), layer.ssrc);
        }
        self.copy_layers();
    }

    /// The first packet of a layer: its SSRC. `true` when that was news.
    pub(super) fn layer_seen(&mut self, up: UpTrackId, spatial: u8, ssrc: Ssrc) -> bool {
        let Some(place) = self.place_of(up) else {
            return false;
        };
        let before = self.layers(place).to_vec();
        self.set_layer(place, spatial, None, Some(ssrc));
        self.copy_layers();
        before != self.layers(place)
    }

    /// The format that packets of the primary really have (RED or Opus, the publisher decides).
    pub(super) fn format_seen(&mut self, format: Format) {
        let mime = format.codec.mime();
        if self.kind == Kind::Video && self.info.mime_type != mime {
            mime.clone_into(&mut self.info.mime_type);
            if let Some(codec) = self.info.codecs.first_mut() {
                mime.clone_into(&mut codec.mime_type);
            }
        }
    }

    fn layers_mut(&mut self, place: usize) -> &mut [VideoLayer] {
        match place {
            0 => &mut self.info.layers,
            _ => {
                let codec = self.info.codecs.get_mut(place);
                codec.map_or(&mut [], |codec| &mut codec.layers)
            }
        }
    }

    fn set_layer(&mut self, place: usize, spatial: u8, rid: Option<&Rid>, ssrc: Option<Ssrc>) {
        let layers = self.layers_mut(place);
        // One encoding alone is the layer that was announced alone, whatever its quality.
        let index = usize::from(spatial).min(layers.len().saturating_sub(1));
        if let Some(layer) = layers.get_mut(index) {
            if let Some(rid) = rid {
                rid.as_str().clone_into(&mut layer.rid);
            }
            if let Some(ssrc) = ssrc {
                layer.ssrc = ssrc.0;
            }
        }
    }

    fn copy_layers(&mut self) {
        if let Some(codec) = self.info.codecs.first_mut() {
            codec.layers.clone_from(&self.info.layers);
        }
    }

    /// What it may be sent in to a subscriber, preferred first. A backup that has not come may have any form.
    pub(super) fn formats(&self) -> Vec<Format> {
        let mut formats = Vec::new();
        for (backup, place) in self.backups.iter().zip(1..) {
            let of_codec = match self.codec(place) {
                Some(codec) if !backup.is_live() => codec.formats(),
                _ => backup.formats.clone(),
            };
            formats.extend(of_codec);
        }
        let primary = self.primary.formats.iter().copied();
        if self.regressed {
            formats.extend(primary);
            formats
        } else {
            primary.chain(formats).collect()
        }
    }

    /// Stamps a change (livekit `TimedVersion`).
    pub(super) fn touch(&mut self, now: Now) {
        let last = self
            .info
            .version
            .as_ref()
            .map_or((0, 0), |v| (v.unix_micro, v.ticks));
        let micro = now.unix_us as i64;
        self.info.version = Some(if micro > last.0 {
            proto::TimedVersion {
                unix_micro: micro,
                ticks: 0,
            }
        } else {
            proto::TimedVersion {
                unix_micro: last.0,
                ticks: last.1 + 1,
            }
        });
    }
}

fn info_of(request: &AddTrackRequest, kind: Kind, sid: &TrackSid) -> TrackInfo {
    let mut layers = request.layers.clone();
    if layers.is_empty() {
        layers = request
            .simulcast_codecs
            .first()
            .map(|codec| codec.layers.clone())
            .unwrap_or_default();
    }
    if layers.is_empty() && kind == Kind::Video {
        layers.push(VideoLayer {
            quality: proto::VideoQuality::High as i32,
            width: request.width,
            height: request.height,
            ..Default::default()
        });
    }
    layers.sort_by_key(|layer| layer.quality);
    let codecs = codecs_of(request, kind, &layers);
    let one_per_stream = codecs.first().is_none_or(|codec| {
        codec.video_layer_mode == video_layer::Mode::OneSpatialLayerPerStream as i32
    });
    let mut features = request.audio_features.clone();
    let no_dtx = AudioTrackFeature::TfNoDtx as i32;
    let stereo = AudioTrackFeature::TfStereo as i32;
    if request.disable_dtx && !features.contains(&no_dtx) {
        features.insert(0, no_dtx);
    }
    if request.stereo && !features.contains(&stereo) {
        features.push(stereo);
    }
    let policy = match (kind, request.backup_codec_policy()) {
        (Kind::Audio, BackupCodecPolicy::PreferRegression) => BackupCodecPolicy::Simulcast,
        (_, policy) => policy,
    };
    TrackInfo {
        sid: sid.as_str().to_owned(),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: kind == Kind::Video && one_per_stream && layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        mime_type: String::new(),
        mid: String::new(),
        codecs,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream: stream_of(request),
        version: None,
        audio_features: features,
        backup_codec_policy: policy as i32,
        packet_trailer_features: request.packet_trailer_features.clone(),
    }
}

fn codecs_of(
    request: &AddTrackRequest,
    kind: Kind,
    layers: &[VideoLayer],
) -> Vec<SimulcastCodecInfo> {
    let one = video_layer::Mode::OneSpatialLayerPerStream;
    if request.simulcast_codecs.is_empty() {
        return vec![SimulcastCodecInfo {
            cid: request.cid.clone(),
            layers: layers.to_vec(),
            video_layer_mode: one as i32,
            ..Default::default()
        }];
    }
    let mut codecs: Vec<SimulcastCodecInfo> = Vec::new();
    for codec in &request.simulcast_codecs {
        let known = Codec::from_mime(&codec.codec).filter(|known| known.kind() == kind);
        let asked = codec.video_layer_mode();
        let mode = if asked == video_layer::Mode::Unused {
            match known {
                Some(Codec::Vp9 | Codec::Av1) => video_layer::Mode::MultipleSpatialLayersPerStream,
                _ => one,
            }
        } else {
            asked
        };
        let mime_type = known.map_or_else(String::new, |known| known.mime().to_ascii_lowercase());
        if codecs.iter().any(|other| other.mime_type == mime_type) {
            continue;
        }
        codecs.push(SimulcastCodecInfo {
            mime_type,
            cid: codec.cid.clone(),
            layers: layers_of(codec)
                .filter(|_| !codecs.is_empty())
                .unwrap_or_else(|| layers.to_vec()),
            video_layer_mode: mode as i32,
            ..Default::default()
        });
    }
    codecs
}

/// The layers that a codec was announced with, lowest first; `None`: those of the track.
pub(super) fn layers_of(codec: &SimulcastCodec) -> Option<Vec<VideoLayer>> {
    let mut layers = codec.layers.clone();
    layers.sort_by_key(|layer| layer.quality);
    (!layers.is_empty()).then_some(layers)
}

/// Whether whoever takes one codec takes the other: RED is unwrapped for those who take Opus alone.
pub(super) fn is_same(codec: Codec, other: Codec) -> bool {
    let inner = |codec| match codec {
        Codec::Red => Codec::Opus,
        codec => codec,
    };
    inner(codec) == inner(other)
}

fn stream_of(request: &AddTrackRequest) -> String {
    if !request.stream.is_empty() {
        return request.stream.clone();
    }
    match request.source() {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "unknown",
    }
    .to_owned()
}
