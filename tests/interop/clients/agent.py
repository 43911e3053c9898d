#!/usr/bin/env python3
"""A worker of livekit-agents and people who get its agent; one JSON summary.

The agent echoes text on the topic "ask". Called are: an agent without a name, by the room; one with
a name, by a token's room configuration and by CreateDispatch; a second worker takes over when the
first is killed. Exit status: 0 good, 1 something is missing.
"""

import asyncio
import datetime
import json
import os
import sys

from livekit import api, rtc

import session

ap = session.parser(__doc__)
ap.add_argument("--limit", type=float, default=15, help="seconds until an agent is there")
ap.add_argument("--worker", metavar="NAME", help="(of this program itself) run a worker of that name")
args = ap.parse_args()

AGENT = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT


def run_worker(name):
    import logging

    from livekit.agents import AgentServer, JobContext, JobExecutorType

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    server = AgentServer(
        ws_url=args.url,
        api_key=args.key,
        api_secret=args.secret,
        host="127.0.0.1",
        port=0,
        job_executor_type=JobExecutorType.THREAD,
    )

    async def entry(ctx: JobContext):
        await ctx.connect()

        async def echo(packet):
            await ctx.room.local_participant.publish_data(packet.data, topic="answer")

        tasks = set()

        @ctx.room.on("data_received")
        def _(packet):
            if packet.topic == "ask":
                task = asyncio.ensure_future(echo(packet))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    server.rtc_session(entry, agent_name=name)
    asyncio.run(server.run(devmode=True))


class Person:
    """Somebody in a room, who waits for agents."""

    def __init__(self, name):
        self.name = name
        self.room = rtc.Room()
        self.changed = asyncio.Event()
        self.answers = []
        for event in ("participant_connected", "participant_disconnected", "participant_attributes_changed"):
            self.room.on(event, lambda *_: self.changed.set())
        self.room.on("data_received", self.hear)

    def hear(self, packet):
        if packet.topic == "answer":
            self.answers.append((packet.participant.identity, packet.data))
            self.changed.set()

    async def join(self, agents=()):
        grants = api.VideoGrants(room_join=True, room=self.name)
        token = api.AccessToken(args.key, args.secret).with_identity("person").with_grants(grants)
        if agents:
            dispatches = [api.RoomAgentDispatch(agent_name=name, metadata="m") for name in agents]
            token = token.with_room_config(api.RoomConfiguration(agents=dispatches))
        token = token.with_ttl(datetime.timedelta(minutes=10)).to_jwt()
        await asyncio.wait_for(self.room.connect(args.url, token, session.options(args)), 20)

    def agents(self):
        return [p for p in self.room.remote_participants.values() if p.kind == AGENT]

    async def until(self, condition, limit=None):
        async def wait():
            while not condition():
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(wait(), limit or args.limit)
            return True
        except asyncio.TimeoutError:
            return False


class Workers:
    def __init__(self):
        self.running = []

    async def start(self, name):
        me = [sys.executable, os.path.abspath(__file__), "--url", args.url, "--worker", name]
        process = await asyncio.create_subprocess_exec(*me, stdout=asyncio.subprocess.DEVNULL)
        self.running.append(process)
        return process

    async def stop(self):
        for process in self.running:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def story(problems, figures, workers):
    loop = asyncio.get_running_loop()

    async def met(person, name, how):
        start = loop.time()
        there = await person.until(lambda: person.agents())
        figures[f"seconds until {how}"] = round(loop.time() - start, 2)
        if not there:
            problems.append(f"no agent {how}")
            return False
        agent = person.agents()[0]
        if not agent.identity.startswith("agent-"):
            problems.append(f"{how}: the agent is called {agent.identity}")
        if agent.attributes.get("lk.agent_name") != name:
            problems.append(f"{how}: attributes are {agent.attributes}")
        # The agent hears data once its handler is there, which is after it joined.
        for _ in range(20):
            await person.room.local_participant.publish_data(b"hello", topic="ask")
            if await person.until(lambda: (agent.identity, b"hello") in person.answers, 0.5):
                return True
        problems.append(f"{how}: the agent does not answer")
        return False

    # The room is there before the worker is.
    early = Person("agents-auto")
    await early.join()
    nameless = await workers.start("")
    await met(early, "", "by itself")

    await workers.start("helper")
    named = Person("agents-named")
    await named.join(["helper"])
    await met(named, "helper", "by token")

    called = Person("agents-called")
    await called.join(["nobody"])
    async with api.LiveKitAPI(args.url.replace("ws", "http", 1), args.key, args.secret) as lk:
        request = api.CreateAgentDispatchRequest(agent_name="helper", room=called.name, metadata="m")
        dispatch = await lk.agent_dispatch.create_dispatch(request)
        await met(called, "helper", "by dispatch")
        listed = await lk.agent_dispatch.list_dispatch(called.name)
        names = sorted(d.agent_name for d in listed)
        if names != ["helper", "nobody"]:
            problems.append(f"dispatches listed: {names}")
        states = [job.state for d in listed for job in d.state.jobs]
        if [state.status for state in states] != [api.JobStatus.JS_RUNNING]:
            problems.append(f"jobs listed: {states}")
        await lk.agent_dispatch.delete_dispatch(dispatch.id, called.name)
        if not await called.until(lambda: not called.agents()):
            problems.append("the agent stays though its dispatch is deleted")

        # Its worker and it are killed; another one takes over.
        before = early.agents()[0].identity if early.agents() else ""
        await workers.start("")
        nameless.kill()
        start = loop.time()
        replaced = lambda: any(agent.identity != before for agent in early.agents())
        if not await early.until(replaced, 60):
            problems.append("nobody takes the killed worker's place")
        figures["seconds until another worker"] = round(loop.time() - start, 2)
    for person in (early, named, called):
        await asyncio.wait_for(person.room.disconnect(), 15)


async def main():
    problems, figures, workers = [], {}, Workers()
    try:
        await story(problems, figures, workers)
    except Exception as e:
        problems.append(f"{type(e).__name__}: {e}")
    await workers.stop()
    print(json.dumps(dict(problems=problems, **figures)), flush=True)
    return 1 if problems else 0


if __name__ == "__main__":
    if args.worker is not None:
        run_worker(args.worker)
        sys.exit()
    session.run(main)
