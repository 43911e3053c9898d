//! Joining: a LiveKit server by its WebSocket, in both modes, or the yardstick by a plain exchange of descriptions.
//!
//! One task per participant; it ends with its socket. Media is [`crate::swarm`]'s.

use crate::client::Client;
use crate::sdp::{CID, Local, Remote, Section, candidate};
use crate::swarm::{Command, Swarm};
use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use futures_util::{SinkExt, StreamExt};
use parlor::media::certificate::Certificate;
use parlor::plan::Kind;
use parlor::protocol::livekit::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, Ping, SessionDescription,
    SignalRequest, SignalResponse, SignalTarget, TrackSource, TrackType, WrappedJoinRequest,
    signal_request, signal_response,
};
use parlor::protocol::token::{self, Claims};
use parlor::secret::Secret;
use prost::Message as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

/// The publisher's SSRC; retransmissions have the next.
pub const SSRC: u32 = 0x1234_5670;

/// What all joins of a run share.
pub struct Crowd {
    pub swarm: Swarm,
    pub bind: IpAddr,
    pub certificate: Arc<Certificate>,
    pub kind: Kind,
    /// Every how many-th subscriber opens all packets; the first does.
    pub sample: usize,
}

/// Which server.
pub enum Server {
    LiveKit {
        address: SocketAddr,
        /// What stands before `/rtc`.
        base: String,
        host: String,
        key: String,
        secret: String,
        room: String,
        single: bool,
    },
    /// `webrtc-forwarder`.
    Exchange(SocketAddr),
}

impl Crowd {
    fn client(&self, index: usize, offers: bool) -> Result<Local> {
        let is_sampled = index % self.sample == 1 || self.sample == 1;
        let (mut client, local) = Client::new(
            self.bind,
            Instant::now(),
            offers,
            is_sampled,
            &self.certificate,
        )?;
        if self.kind == Kind::Audio {
            client.payload_types = vec![crate::sdp::OPUS];
        }
        self.swarm.tell(Command::Add(Box::new(client)))?;
        Ok(local)
    }

    /// Joins one; number 0 publishes. Returns when it has said all that it says first.
    pub async fn join(&self, server: &Server, index: usize) -> Result<()> {
        match server {
            Server::Exchange(address) => self.exchange(*address, index).await,
            Server::LiveKit { single: true, .. } => self.join_v1(server, index).await,
            Server::LiveKit { .. } => self.join_v0(server, index).await,
        }
    }

    async fn exchange(&self, server: SocketAddr, index: usize) -> Result<()> {
        let local = self.client(index, true)?;
        let (path, section) = if index == 0 {
            ("publish", Section::Send(self.kind, SSRC))
        } else {
            ("subscribe", Section::Receive(self.kind))
        };
        let offer = local.offer(1, &[section]);
        let mut stream = TcpStream::connect(server).await?;
        let request = format!(
            "POST /{path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{offer}",
            offer.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        let (_, answer) = response.split_once("\r\n\r\n").context("no answer")?;
        let remote = Remote::read(answer, false)?;
        self.swarm.tell(Command::Remote(index, remote))
    }

    async fn join_v1(&self, server: &Server, index: usize) -> Result<()> {
        let local = self.client(index, true)?;
        let mut sections = if index == 0 {
            vec![Section::Send(self.kind, SSRC), Section::Data]
        } else {
            vec![
                Section::Receive(Kind::Audio),
                Section::Receive(Kind::Video),
                Section::Data,
            ]
        };
        let request = JoinRequest {
            client_info: Some(ClientInfo {
                protocol: 17,
                ..ClientInfo::default()
            }),
            connection_settings: Some(ConnectionSettings {
                auto_subscribe: true,
                ..ConnectionSettings::default()
            }),
            add_track_requests: if index == 0 {
                vec![self.track()]
            } else {
                vec![]
            },
            publisher_offer: Some(description("offer", local.offer(1, &sections), 1)),
            ..JoinRequest::default()
        };
        let wrapped = WrappedJoinRequest {
            compression: 0,
            join_request: request.encode_to_vec(),
        };
        let path = format!(
            "/rtc/v1?join_request={}",
            URL_SAFE.encode(wrapped.encode_to_vec())
        );
        let mut socket = connect(server, &path, index).await?;
        let swarm = self.swarm.clone();
        let mut id = 1;
        tokio::spawn(async move {
            while let Some(message) = next(&mut socket).await {
                match message {
                    signal_response::Message::Answer(answer) => {
                        let remote = Remote::read(&answer.sdp, false)?;
                        swarm.tell(Command::Remote(index, remote))?;
                    }
                    signal_response::Message::MediaSectionsRequirement(more) => {
                        let audios = std::iter::repeat_n(Kind::Audio, more.num_audios as usize);
                        let videos = std::iter::repeat_n(Kind::Video, more.num_videos as usize);
                        sections.extend(audios.chain(videos).map(Section::Receive));
                        id += 1;
                        let offer = description("offer", local.offer(id, &sections), id);
                        send(&mut socket, signal_request::Message::Offer(offer)).await?;
                    }
                    other => common(&swarm, index, &mut socket, other).await?,
                }
            }
            anyhow::Ok(())
        });
        Ok(())
    }

    async fn join_v0(&self, server: &Server, index: usize) -> Result<()> {
        let publishes = index == 0;
        let local = self.client(index, publishes)?;
        let path = "/rtc?protocol=16&sdk=js&version=2.0.0&auto_subscribe=1";
        let mut socket = connect(server, path, index).await?;
        if publishes {
            send(&mut socket, signal_request::Message::AddTrack(self.track())).await?;
        }
        let swarm = self.swarm.clone();
        let kind = self.kind;
        tokio::spawn(async move {
            while let Some(message) = next(&mut socket).await {
                match message {
                    signal_response::Message::TrackPublished(_) if publishes => {
                        let offer = local.offer(1, &[Section::Send(kind, SSRC), Section::Data]);
                        let offer = description("offer", offer, 1);
                        send(&mut socket, signal_request::Message::Offer(offer)).await?;
                    }
                    signal_response::Message::Answer(answer) => {
                        let remote = Remote::read(&answer.sdp, false)?;
                        swarm.tell(Command::Remote(index, remote))?;
                    }
                    signal_response::Message::Offer(offer) if !publishes => {
                        let answer = description("answer", local.answer(&offer.sdp), offer.id);
                        send(&mut socket, signal_request::Message::Answer(answer)).await?;
                        let remote = Remote::read(&offer.sdp, true)?;
                        swarm.tell(Command::Remote(index, remote))?;
                    }
                    other => common(&swarm, index, &mut socket, other).await?,
                }
            }
            anyhow::Ok(())
        });
        Ok(())
    }

    fn track(&self) -> AddTrackRequest {
        let (kind, source) = match self.kind {
            Kind::Audio => (TrackType::Audio, TrackSource::Microphone),
            Kind::Video => (TrackType::Video, TrackSource::Camera),
        };
        AddTrackRequest {
            cid: CID.to_owned(),
            name: "load".to_owned(),
            r#type: kind.into(),
            source: source.into(),
            width: 640,
            height: 480,
            disable_red: true,
            ..AddTrackRequest::default()
        }
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn connect(server: &Server, path: &str, index: usize) -> Result<Socket> {
    let Server::LiveKit {
        address,
        base,
        host,
        key,
        secret,
        room,
        ..
    } = server
    else {
        bail!("this server has no signalling");
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)?
        .as_secs();
    let identity = if index == 0 {
        "publisher".to_owned()
    } else {
        format!("subscriber-{index}")
    };
    let mut claims = Claims::for_join(key, room, &identity, now, Duration::from_secs(3_600));
    if let Some(video) = &mut claims.video {
        video.can_publish = Some(index == 0);
        video.can_subscribe = Some(index != 0);
    }
    let token = token::sign(&claims, &Secret::new(secret.clone()));
    let stream = TcpStream::connect(address)
        .await
        .context("connecting to the server")?;
    stream.set_nodelay(true)?;
    let url = format!("ws://{host}{base}{path}&access_token={token}");
    match tokio_tungstenite::client_async(url, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            bail!(
                "refused: {} {}",
                response.status(),
                String::from_utf8_lossy(&body)
            )
        }
        Err(error) => Err(error.into()),
    }
}

/// The next message of the server; a ping of ours goes out in each pause.
async fn next(socket: &mut Socket) -> Option<signal_response::Message> {
    loop {
        match tokio::time::timeout(Duration::from_secs(5), socket.next()).await {
            Err(_) => {
                let ping = Ping {
                    timestamp: 1,
                    rtt: 0,
                };
                send(socket, signal_request::Message::PingReq(ping))
                    .await
                    .ok()?;
            }
            Ok(Some(Ok(Message::Binary(bytes)))) => {
                if let Some(message) = SignalResponse::decode(bytes).ok()?.message {
                    return Some(message);
                }
            }
            Ok(Some(Ok(_))) => {}
            Ok(_) => return None,
        }
    }
}

/// What is the same in both modes.
async fn common(
    swarm: &Swarm,
    index: usize,
    _socket: &mut Socket,
    message: signal_response::Message,
) -> Result<()> {
    match message {
        signal_response::Message::Trickle(trickle) => {
            let json: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
            let for_us = index != 0 || trickle.target == i32::from(SignalTarget::Publisher);
            if let Some(candidate) = json["candidate"]
                .as_str()
                .and_then(candidate)
                .filter(|_| for_us)
            {
                swarm.tell(Command::Candidate(index, candidate))?;
            }
        }
        signal_response::Message::Leave(leave) => {
            eprintln!("client {index} is told to leave: {:?}", leave.reason());
        }
        _ => {}
    }
    Ok(())
}

async fn send(socket: &mut Socket, message: signal_request::Message) -> Result<()> {
    let request = SignalRequest {
        message: Some(message),
    };
    socket
        .send(Message::Binary(request.encode_to_vec().into()))
        .await?;
    Ok(())
}

fn description(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription {
        r#type: kind.to_owned(),
        sdp,
        id,
        ..SessionDescription::default()
    }
}
