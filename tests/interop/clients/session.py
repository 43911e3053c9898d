"""What every Python client needs: arguments of a connection, tokens, room options."""

import argparse
import logging

from livekit import api, rtc

logging.getLogger("livekit").setLevel(logging.ERROR)


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="ws://127.0.0.1:7880")
    p.add_argument("--key", default="devkey")
    p.add_argument("--secret", default="secretsecretsecretsecretsecretsecret")
    p.add_argument("--room", default="load")
    p.add_argument(
        "--single-pc",
        choices=["default", "on", "off"],
        default="default",
        help="on: /rtc/v1 and one peer connection; off: /rtc and two",
    )
    p.add_argument("--relay", action="store_true", help="media by TURN servers only")
    return p


def token(args, identity, publish=True):
    grants = api.VideoGrants(
        room_join=True, room=args.room, can_publish=publish, can_subscribe=True, can_publish_data=publish
    )
    access = api.AccessToken(args.key, args.secret).with_identity(identity).with_name(identity)
    return access.with_grants(grants).to_jwt()


def options(args, **more):
    o = rtc.RoomOptions(**more)
    if args.relay:
        o.rtc_config = rtc.RtcConfiguration(ice_transport_type=rtc.IceTransportType.TRANSPORT_RELAY)
    if args.single_pc != "default":
        o.single_peer_connection = args.single_pc == "on"
    return o
