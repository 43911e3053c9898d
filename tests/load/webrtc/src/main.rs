//! One publisher, N subscribers, on the peer connections of the `webrtc` crate with its default interceptors: the
//! straightforward forwarder, as a yardstick. `parlor-load` posts offers to `/publish` and `/subscribe`.
//!
//! Each packet is written to every subscriber's track by the task that reads the publisher's: no queue between them
//! that could drop, and less work than one task per subscriber.

use anyhow::{Context, Result};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
};
use webrtc::runtime::default_runtime;

type Tracks = Arc<Mutex<Arc<Vec<(u32, Arc<TrackLocalStaticRTP>)>>>>;

/// Shared by all connections.
#[derive(Clone, Default)]
struct Room {
    tracks: Tracks,
    codec: Arc<Mutex<Option<RTCRtpCodec>>>,
}

fn locked<T: Clone>(value: &Mutex<T>) -> T {
    value.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

struct Handler {
    room: Room,
    gathered: mpsc::Sender<()>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.gathered.try_send(());
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let Some(ssrc) = track.ssrcs().await.first().copied() else {
            return;
        };
        let codec = track.codec(ssrc).await.clone();
        *self
            .room
            .codec
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = codec;
        let tracks = Arc::clone(&self.room.tracks);
        tokio::spawn(async move {
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(mut packet) = event else {
                    continue;
                };
                // Ids of one connection mean nothing on another, and a write with an unknown one is refused.
                packet.header.extension = false;
                packet.header.extensions.clear();
                for (ssrc, track) in locked(&tracks).iter() {
                    let mut packet = packet.clone();
                    packet.header.ssrc = *ssrc;
                    let _ = track.write_rtp(packet).await;
                }
            }
        });
    }
}

async fn connection(
    room: &Room,
    bind: SocketAddr,
) -> Result<(Arc<dyn PeerConnection>, mpsc::Receiver<()>)> {
    let (gathered, done) = mpsc::channel(1);
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let settings = SettingEngineBuilder::new()
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_include_loopback_candidate(true)
        .build();
    let handler = Handler {
        room: room.clone(),
        gathered,
    };
    let connection = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(handler) as Arc<dyn PeerConnectionEventHandler>)
        .with_runtime(default_runtime().context("no runtime")?)
        .with_udp_addrs(vec![format!("{}:0", bind.ip())])
        .build()
        .await?;
    Ok((Arc::new(connection), done))
}

async fn answer(
    room: &Room,
    bind: SocketAddr,
    publishes: bool,
    offer: String,
) -> Result<(String, Arc<dyn PeerConnection>)> {
    let (connection, mut gathered) = connection(room, bind).await?;
    if publishes {
        let receive = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..Default::default()
        };
        connection
            .add_transceiver_from_kind(RtpCodecKind::Video, Some(receive))
            .await?;
    } else {
        let codec = locked(&room.codec).context("nothing is published yet")?;
        let ssrc = 1_000 + locked(&room.tracks).len() as u32;
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            "load".to_owned(),
            "load-track".to_owned(),
            "load".to_owned(),
            RtpCodecKind::Video,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..Default::default()
                },
                codec,
                ..Default::default()
            }],
        )));
        connection
            .add_track(Arc::clone(&track) as Arc<dyn TrackLocal>)
            .await?;
        let mut tracks = room.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut tracks).push((ssrc, track));
    }
    connection
        .set_remote_description(RTCSessionDescription::offer(offer)?)
        .await?;
    let answer = connection.create_answer(None).await?;
    connection.set_local_description(answer).await?;
    gathered.recv().await;
    let local = connection
        .local_description()
        .await
        .context("no description")?;
    Ok((local.sdp, connection))
}

async fn request(stream: &mut TcpStream) -> Result<(bool, String)> {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4_096];
        let len = stream.read(&mut buffer).await?;
        anyhow::ensure!(len > 0, "it hung up");
        text.push_str(std::str::from_utf8(&buffer[..len])?);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let wanted: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .context("no length")?
            .parse()?;
        if body.len() >= wanted {
            return Ok((head.starts_with("POST /publish"), body.to_owned()));
        }
    }
}

/// One thread: on few cores a second costs more than it gives.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let bind: SocketAddr = std::env::args()
        .nth(1)
        .context("address:port to listen on")?
        .parse()?;
    let listener = TcpListener::bind(bind).await?;
    let room = Room::default();
    let mut connections = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().await?;
        // Whoever only looks whether we are there hangs up.
        let Ok((publishes, offer)) = request(&mut stream).await else {
            continue;
        };
        match answer(&room, bind, publishes, offer).await {
            Ok((sdp, connection)) => {
                connections.push(connection);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sdp.len());
                stream.write_all((head + &sdp).as_bytes()).await?;
            }
            Err(error) => eprintln!("{error:#}"),
        }
    }
}
