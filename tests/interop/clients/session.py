"""What every Python client needs: arguments of a connection, tokens, room options, a word about where it hangs."""

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys

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


async def connect(args, identity):
    room = rtc.Room()
    await asyncio.wait_for(room.connect(args.url, token(args, identity), options(args, connect_timeout=10)), 30)
    return room


def run(main):
    """Runs main() and ends with its status; where it hangs, SIGTERM has it say in which task, SIGABRT in which call."""

    async def watched():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, show_tasks)
        return await main()

    faulthandler.enable()
    sys.exit(asyncio.run(watched()))


def show_tasks():
    """A line for each task: where each of the coroutines stands that wait for each other in it."""
    for task in asyncio.all_tasks():
        waits, places = task.get_coro(), []
        while frame := getattr(waits, "cr_frame", None):
            places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            waits = waits.cr_await
        print(" ".join(places), file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)
