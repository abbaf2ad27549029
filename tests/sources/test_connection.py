"""One WebSocket, against a real server on loopback."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from functools import partial
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from kfws.errors import KfwsError, MissingExtra, Unreachable, Unwelcome, UsageError
from kfws.protocol.events import BinaryFrame
from kfws.sources.connection import Connection, Read, Target, dial
from tests.frames_of import frames
from tests.loopback import INFO, loopback

TRADES = frames("trade", kind="delta")


async def frames_of(connection: Connection, count: int) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < count and not (connection.ended and not connection._reads):
        await connection.wait()
        while (read := connection.take()) is not None:
            found += read.frames
    return found


async def one_by_one(server: ServerConnection, *, payloads: list[bytes] = TRADES) -> None:
    for payload in payloads:
        await server.send(payload, text=True)
        await (await server.ping())  # each frame in a read of its own, or later


async def paused(connection: Connection) -> None:
    """Until the socket is not read any more."""
    while not connection.is_paused:
        await connection.wait()
        await asyncio.sleep(0)  # frames that nobody takes do not wake us again


async def test_frames_come_whole_in_order_and_byte_for_byte() -> None:
    async def script(server: ServerConnection) -> None:
        for payload in TRADES:
            await server.send(payload, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        assert await frames_of(connection, 1 + len(TRADES)) == [INFO.encode(), *TRADES]
        await connection.leave()
        await venue.until(lambda seen: seen.closes == [1000])


async def test_reads_can_be_kept_apart_and_bring_all_the_same() -> None:
    apart_s = 0.01

    async with loopback(partial(one_by_one, payloads=TRADES[:4])) as venue:
        connection = await dial(Target(venue.url, coalesce_s=apart_s))
        reads: list[Read] = []
        while sum(len(each.frames) for each in reads) < 5:
            await connection.wait()
            while (read := connection.take()) is not None:
                reads.append(read)
        await connection.leave()
        await venue.until(lambda seen: seen.closes == [1000])
    assert [frame for each in reads for frame in each.frames] == [INFO.encode(), *TRADES[:4]]
    moments = [each.received_ns for each in reads]
    # 1 ms less: a timer of the loop may be as early as the clock is coarse.
    assert all(b - a >= (apart_s - 0.001) * 1e9 for a, b in itertools.pairwise(moments))


async def test_a_fragmented_message_is_one_frame_and_a_ping_between_is_answered() -> None:
    async def script(server: ServerConnection) -> None:
        whole = TRADES[0]

        async def parts() -> object:
            yield whole[:7]
            pong = await server.ping()
            await pong
            yield whole[7:]

        await server.send(parts(), text=True)  # type: ignore[arg-type]

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        assert await frames_of(connection, 2) == [INFO.encode(), TRADES[0]]
        await connection.leave()


async def test_binary_frames_are_marked() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(b"\x00\x01")

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        _, binary = await frames_of(connection, 2)
        assert binary == b"\x00\x01"
        assert isinstance(binary, BinaryFrame)
        await connection.leave()


async def test_a_frame_of_five_megabytes_passes_and_one_above_sixteen_ends_the_connection() -> None:
    big, huge = b'"' + b"x" * 5_000_000 + b'"', b'"' + b"x" * 17_000_000 + b'"'

    async def script(server: ServerConnection) -> None:
        await server.send(big, text=True)
        await server.send(huge, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        assert await frames_of(connection, 3) == [INFO.encode(), big]
        assert connection.ending[0] == 1009
        await connection.leave()


async def test_a_small_frame_that_swells_above_sixteen_megabytes_ends_the_connection() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(b'"' + b"x" * 17_000_000 + b'"', text=True)

    async with loopback(script, compression="deflate") as venue:
        connection = await dial(Target(venue.url, compression=True))
        assert await frames_of(connection, 2) == [INFO.encode()]
        assert connection.ending[0] == 1009
        await connection.leave()


async def test_invalid_utf8_is_handed_on_and_ends_the_connection_with_1007() -> None:
    async def script(server: ServerConnection) -> None:
        server.protocol.send_text(b'{"feed":"\xff"}')
        server.send_data()

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        assert await frames_of(connection, 9) == [INFO.encode(), b'{"feed":"\xff"}']
        assert connection.ending[0] == 1007
        await connection.leave()


async def test_compression_is_used_when_it_is_offered_and_taken() -> None:
    async def script(server: ServerConnection) -> None:
        await server.send(TRADES[0], text=True)

    async with loopback(script, compression="deflate") as venue:
        connection = await dial(Target(venue.url, compression=True))
        assert await frames_of(connection, 2) == [INFO.encode(), TRADES[0]]
        await connection.leave()
        plain = await dial(Target(venue.url))
        await plain.leave()
        offers = [each.headers.get("Sec-WebSocket-Extensions") for each in venue.handshakes]
        assert offers[0] is not None
        assert offers[0].startswith("permessage-deflate")
        assert offers[1] is None


async def test_a_full_buffer_stops_reading_until_it_is_taken() -> None:
    sent = [b"%d" % n + b"x" * 100_000 for n in range(100)]

    async def script(server: ServerConnection) -> None:
        for payload in sent:
            await server.send(payload, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url, buffer_bytes=1_000_000))
        await paused(connection)
        assert connection._held < 2_000_000
        assert await frames_of(connection, 101) == [INFO.encode(), *sent]
        await connection.leave()


async def test_who_takes_has_a_turn_before_more_than_a_megabyte_is_held() -> None:
    sent = [b"%d" % n + b"x" * 100_000 for n in range(100)]

    async def script(server: ServerConnection) -> None:
        for payload in sent:
            await server.send(payload, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        connection.turn_rate = 0.1  # a turn that does not end by itself
        while connection.transport.is_reading():
            await connection.wait()
            await asyncio.sleep(0)
        assert connection.held < 2_000_000
        assert not connection.is_paused
        assert await frames_of(connection, 101) == [INFO.encode(), *sent]
        await connection.leave()


async def test_a_turn_ends_where_nobody_takes() -> None:
    async def script(server: ServerConnection) -> None:
        for _ in range(50):
            await server.send(b"x" * 100_000, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        while connection.held < 5_000_000:
            await connection.wait()
            await asyncio.sleep(0)
        await connection.leave()


async def test_what_has_just_come_is_never_shed_however_large() -> None:
    large = b"x" * 500_000
    shed: list[Read] = []

    async def script(server: ServerConnection) -> None:
        await server.send(large, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url, buffer_bytes=64_000))
        connection.shed = shed.extend
        assert (await frames_of(connection, 2))[-1] == large
        assert shed == []
        await connection.leave()


async def test_what_was_not_taken_makes_us_behind() -> None:
    async def script(server: ServerConnection) -> None:
        for payload in TRADES:
            await server.send(payload, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        await connection.wait()
        assert connection.behind_ns > 0
        await frames_of(connection, 1 + len(TRADES))
        assert connection.behind_ns == 0
        await connection.leave()


async def test_what_comes_while_somebody_waits_can_be_taken_at_once_and_else_is_held() -> None:
    taken: list[bytes] = []

    def take(read: Read) -> bool:
        if len(taken) < 3:
            taken.extend(read.frames)
            return True
        return False

    async with loopback(one_by_one) as venue:
        connection = await dial(Target(venue.url))
        before = await frames_of(connection, 1)
        connection.at_once = take
        held: list[bytes] = []
        while (count := len(before) + len(taken) + len(held)) < 1 + len(TRADES):
            held += await frames_of(connection, 1)
        assert count == 1 + len(TRADES) > 4
        assert len(taken) >= 3
        assert [*before, *taken, *held] == [INFO.encode(), *TRADES]
        await connection.leave()


async def test_what_goes_wrong_with_what_is_taken_at_once_is_raised_where_it_is_waited_for() -> (
    None
):
    def take(read: Read) -> bool:
        raise ZeroDivisionError(read.size)

    async with loopback(one_by_one) as venue:
        connection = await dial(Target(venue.url))
        connection.at_once = take
        with pytest.raises(ZeroDivisionError):
            await frames_of(connection, 1 + len(TRADES))
        await connection.leave()


async def test_leaving_with_a_full_buffer_still_closes_with_1000() -> None:
    async def script(server: ServerConnection) -> None:
        for _ in range(40):
            await server.send(b"x" * 100_000, text=True)

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url, buffer_bytes=1_000_000))
        await paused(connection)
        await connection.leave()
        await venue.until(lambda seen: seen.closes == [1000])


async def test_a_venue_that_does_not_answer_the_close_is_left_in_half_a_second() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.server import ServerProtocol

        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        [request] = protocol.events_received()
        protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
        writer.write(b"".join(protocol.data_to_send()))
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        connection = await dial(Target(f"ws://127.0.0.1:{port}/ws/v1"))
        await asyncio.wait_for(connection.leave(), 5)
        assert connection.ended


async def test_a_connection_that_breaks_off_ends_with_1006() -> None:
    async def script(server: ServerConnection) -> None:
        server.transport.abort()

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        await frames_of(connection, 2)
        assert connection.ending[0] == 1006
        connection.say("too late")
        connection.send_ping()
        await connection.leave()


async def test_the_close_code_and_reason_of_the_venue_are_kept() -> None:
    async def script(server: ServerConnection) -> None:
        await server.close(1012, "restart")

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        await frames_of(connection, 2)
        assert connection.ending == (1012, "restart")
        await connection.leave()


async def test_ping_frames_are_sent_as_frames() -> None:
    pinged = asyncio.Event()

    async def script(server: ServerConnection) -> None:
        original = server.process_event

        def spy(event: object) -> None:
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                pinged.set()
            original(event)  # type: ignore[arg-type]

        server.process_event = spy  # type: ignore[method-assign]

    async with loopback(script) as venue:
        connection = await dial(Target(venue.url))
        await frames_of(connection, 1)
        connection.send_ping()
        await pinged.wait()
        await connection.leave()


# What can be wrong when dialling


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, Unwelcome, "HTTP 401"),
        (403, Unwelcome, "HTTP 403"),
        (404, Unreachable, "no such path"),
        (429, Unreachable, "HTTP 429"),
        (503, Unreachable, "HTTP 503"),
        (200, Unreachable, "HTTP 200"),
    ],
)
async def test_http_answers_are_told_apart(status: int, kind: type[KfwsError], text: str) -> None:
    async with loopback(status=status) as venue:
        with pytest.raises(kind, match=text):
            await dial(Target(venue.url))


async def test_a_redirect_is_followed_only_without_credentials() -> None:
    async with loopback() as final, loopback(status=302, headers={"Location": final.url}) as first:
        connection = await dial(Target(first.url))
        await connection.leave()
        assert len(final.handshakes) == 1
        with pytest.raises(Unreachable, match="a redirect, not followed"):
            await dial(Target(first.url, follow_redirects=False))
        assert len(final.handshakes) == 1


async def test_nobody_listening_is_said(unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=f"nothing is listening at 127.0.0.1:{unused_tcp_port}"):
        await dial(Target(f"ws://127.0.0.1:{unused_tcp_port}/ws/v1"))


async def test_a_name_without_address_is_said() -> None:
    with pytest.raises(Unreachable, match=r"no address for nowhere\.invalid"):
        await dial(Target("wss://nowhere.invalid/ws/v1"))


async def test_what_is_no_websocket_is_said() -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match="did not answer as a WebSocket"):
            await dial(Target(f"ws://127.0.0.1:{port}/ws/v1"))


async def test_a_proxy_that_is_none_is_a_mistake_of_typing() -> None:
    with pytest.raises(UsageError, match="proxy"):
        await dial(Target("ws://127.0.0.1:1/ws/v1", proxy="gopher://x"))


async def test_the_proxy_is_asked_to_connect_through(unused_tcp_port: int) -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Unreachable, match=r"the proxy .* refused"):
            await dial(Target("wss://kraken.invalid/ws/v1", proxy=f"http://127.0.0.1:{port}"))
    assert asked[0].startswith(b"CONNECT kraken.invalid:443 ")


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> tuple[str, ssl.SSLContext]:
    """The file of an authority, and a server's context with a certificate that it signed."""
    ca = trustme.CA()
    path = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return str(path), context


async def test_tls_is_trusted_by_the_authority_that_was_named(
    authority: tuple[str, ssl.SSLContext],
) -> None:
    ca_file, context = authority
    async with loopback(tls=context) as venue:
        connection = await dial(Target(venue.url, ca_file=ca_file))
        assert await frames_of(connection, 1) == [INFO.encode()]
        await connection.leave()


async def test_a_certificate_of_a_stranger_is_not_trusted(
    authority: tuple[str, ssl.SSLContext],
) -> None:
    async with loopback(tls=authority[1]) as venue:
        with pytest.raises(Unreachable, match="is not trusted") as caught:
            await dial(Target(venue.url))
    assert "--ca-file" in caught.value.hint


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("other.example").configure_cert(context)
    async with loopback(tls=context) as venue:
        with pytest.raises(Unreachable, match="is not trusted"):
            await dial(Target(venue.url, ca_file=str(tmp_path / "ca.pem")))


async def test_tls_to_a_plain_port_is_said() -> None:
    async with loopback() as venue:
        with pytest.raises(Unreachable, match=r"hung up on the TLS handshake|does not speak TLS"):
            await dial(Target(venue.url.replace("ws://", "wss://")))


async def test_a_ca_file_that_is_not_there_is_said() -> None:
    with pytest.raises(UsageError, match="no-such-file"):
        await dial(Target("wss://127.0.0.1:1/ws/v1", ca_file="no-such-file"))


async def test_socks_without_its_extra_says_what_to_install() -> None:
    try:
        import python_socks  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match="socks"):
            await dial(Target("wss://127.0.0.1:1/ws/v1", proxy="socks5://127.0.0.1:1"))
    else:
        with pytest.raises(Unreachable):
            await dial(Target("wss://127.0.0.1:1/ws/v1", proxy="socks5://127.0.0.1:1"))
