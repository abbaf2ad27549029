"""``FuturesWSClient``: the documented library interface, on the engine of the command line.

Rule of this room: it keeps no connection, session or count of its own. One task takes batches of
events from ``sources/`` and hands them on; it takes no next batch before the last one is handled,
so a slow callback fills the engine's bounded buffer and then the socket, not the memory.

The names, messages and rules of arguments are those of python-kraken-sdk 3.5
(``kraken.futures.FuturesWSClient``).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self, TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from kfws.errors import KfwsError, MissingCredentials, Unwelcome, UsageError
from kfws.exceptions import KrakenAuthenticationError
from kfws.protocol import wire
from kfws.protocol.auth import Credentials, Nonces, as_shown, is_loopback, sign_challenge
from kfws.protocol.book import Book
from kfws.protocol.events import (
    Beat,
    Broken,
    Closed,
    Data,
    Event,
    Gap,
    Notice,
    Opened,
    Redial,
    Refused,
    Stale,
    Subscribed,
    Tick,
)
from kfws.protocol.feeds import PRIVATE, PUBLIC
from kfws.protocol.session import Subscription
from kfws.protocol.strict import judge_strictly
from kfws.sources.connection import BUFFER_BYTES, Target
from kfws.sources.redundant import open_source

if TYPE_CHECKING:
    from kfws.rest import Rest
    from kfws.sources.live import Live
    from kfws.sources.redundant import Redundant

__all__ = ["FuturesWSClient", "Stream"]

LOG = logging.getLogger(__name__)

T = TypeVar("T")
Message = dict[str, Any]

GAVE_UP = "kraken.exceptions.MaxReconnectError"

# So long messages wait for somebody to say how they are taken, where nobody has said so yet.
SAY_HOW_S = 0.5
# A callback that is running when the client is closed has so long to come to its end.
CALLBACK_S = 5.0
# A stream in which so many wait holds back the client; so does none that nobody holds any more,
# which is looked at this often.
MOST_WAITING = 256
LOOK_EVERY_S = 0.5


class Stream(Generic[T]):
    """What comes from now on, one after the other: the asynchronous iterator of
    ``FuturesWSClient.messages`` and ``events``.

    Take from it, or close it, or let go of it: while 256 or more wait in it, the client reads no
    further. It ends when the client is closed, and raises what ended the client otherwise.
    """

    def __init__(self, on_room: Callable[[], None]) -> None:
        self._waiting: deque[T] = deque()
        self._on_room = on_room
        self._news = asyncio.Event()
        self._is_over = False
        self._error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        item = self._waiting.popleft()
        if not self.is_full:
            self._on_room()
        return item

    async def aclose(self) -> None:
        """Ends it; what waits in it is dropped."""
        self._waiting.clear()
        self.end(None)

    @property
    def is_full(self) -> bool:
        """Whether it holds back the client."""
        return len(self._waiting) >= MOST_WAITING and not self._is_over

    def put(self, item: T) -> None:
        """Adds one, full or not; nothing happens when it is closed."""
        if not self._is_over:
            self._waiting.append(item)
            self._news.set()

    def end(self, error: Exception | None) -> None:
        """What waits can still be taken, then it ends, or raises."""
        self._is_over, self._error = True, error
        self._news.set()
        self._on_room()


class FuturesWSClient:
    """Streams feeds of Kraken Futures to a callback: a drop-in for the class of the same name in
    python-kraken-sdk, and better behaved.

    ```python
    async def on_message(message):
        print(message)


    async with FuturesWSClient(callback=on_message) as client:
        await client.subscribe(feed="ticker", products=["PF_XBTUSD"])
        await asyncio.sleep(60)
    ```

    ``key`` and ``secret`` open the private feeds and signed requests. ``url`` is host and path
    (``futures.kraken.com/ws/v1``, taken as ``wss://``) or a whole ``wss://`` URL; ``ws://`` only
    leads to this very machine (ValueError). ``sandbox`` takes Kraken's demo venue.

    ``callback`` is given every message as a dict, control messages too (but for the challenge),
    in order, one at a time; it is a coroutine function or a plain one. Or override ``on_message``
    in a subclass, or use ``messages()``. Keys and signatures that the venue echoes are
    overwritten with ``*``. Never given: broken frames, which are not one JSON object or lack their
    feed, product or number (logged; ``Broken`` in ``events()``), second copies of a numbered
    message, and the heartbeats that the client subscribes to for itself.

    What the documented class cannot say:

    * ``redundancy``: so many connections (2, 3) at once as one stream; the first copy wins.
    * ``on_gap``: called with each ``Gap``: messages that never came, or of which nobody can prove
      that they all came. Plain or a coroutine function.
    * ``strict``: messages that are missing (Incomplete), a refused subscription (Refused) and a
      broken frame (ProtocolBroken) end the client.
    * ``on_error``: ``"raise"`` ends the client when a callback raises: the exception comes out of
      ``async with``, whose body is cancelled; without ``async with`` it is logged, and stands in
      ``error``. ``"log"`` logs it, counts it in ``callback_errors`` and goes on.
    * ``buffer_bytes``: of messages that wait for a slow callback; when they are that many, the
      venue is not read.
    * ``rest_url``: where ``request`` goes, if not to the host of ``url``.
    * ``proxy``: the URL of a proxy; ``ca_file``: authorities (PEM) to trust, not the system's.

    A lost connection is redialled for as long as it takes, all is subscribed anew, and what was
    lost is named. Nothing is left behind after ``close``. Use a client in one event loop at a time.

    Raises ValueError for a ``redundancy`` but 1, 2, 3 and for another ``on_error``.
    """

    PROD_ENV_URL: ClassVar[str] = "futures.kraken.com/ws/v1"
    DEMO_ENV_URL: ClassVar[str] = "demo-futures.kraken.com/ws/v1"
    TIMEOUT: float = 10
    """What ``request`` waits for an answer, in seconds; of the class or of one client."""

    def __init__(
        self,
        key: str = "",
        secret: str = "",
        url: str = "",
        callback: Callable[[Message], object] | None = None,
        *,
        sandbox: bool = False,
        redundancy: int = 1,
        strict: bool = False,
        on_gap: Callable[[Gap], object] | None = None,
        on_error: Literal["raise", "log"] = "raise",
        buffer_bytes: int = BUFFER_BYTES,
        rest_url: str = "",
        proxy: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        _check_options(redundancy, on_error)
        self.sandbox = sandbox
        self.error: Exception | None = None
        """What ended the client: the engine's KfwsError, or what a callback raised."""
        self.callback_errors = 0
        """How often a callback raised."""
        self._key, self._secret = key, secret
        self._given_url = url
        self._url = _full(url or (self.DEMO_ENV_URL if sandbox else self.PROD_ENV_URL))
        self._buffer_bytes = buffer_bytes
        self._rest_url = rest_url
        self._callback = callback
        self._redundancy = redundancy
        self._strict = strict
        self._on_gap = on_gap
        self._on_error = on_error
        self._proxy, self._ca_file = proxy, ca_file
        self._nonces = Nonces()
        self._rest: Rest | None = None
        self._conn = _Conn(self)

        self._wanted: list[Subscription] = []
        self._active: dict[tuple[str, str], dict[str, Any]] = {}
        """By feed and product in lower case, in the order of the acknowledgements."""
        self._recovering: set[tuple[str, str]] = set()
        self._standing: set[int] = set()
        """The numbers of the connections that stand."""
        self._books: dict[str, Book] = {}

        self._source: Live | Redundant | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        """A connection stood, or none will."""
        self._is_leaving = False
        self._is_calling = False
        """Whether a function of the user's is running."""
        self._is_heard = callback is not None or _is_overridden(self)
        """Whether ``on_message`` does more than to log."""
        self._is_default = False
        """Whether it logs, since nobody takes messages in another way."""
        self._taken = asyncio.Event()
        """It is known how messages are taken."""
        if self._is_heard:
            self._taken.set()
        self._messages: WeakSet[Stream[Message]] = WeakSet()
        self._events: WeakSet[Stream[Event]] = WeakSet()
        self._room = asyncio.Event()
        self._body: _Body | None = None

    # The documented interface

    async def start(self, timeout: float = 10) -> None:  # noqa: ASYNC109
        """Connects; returns when the connection stands. A client that runs is left alone.

        Raises TimeoutError after ``timeout`` seconds, and the KfwsError of a refusal that is
        permanent (HTTP 401, 403, 404, a certificate) at once. After ``close`` it may be started
        again: what was subscribed is subscribed anew.
        """
        if self._task is not None and not self._task.done():
            return
        if self._is_leaving:
            self._rest = None  # closed
        self.error, self._is_leaving = None, False
        self._ready.clear()
        self._room = asyncio.Event()
        self._source = self._open()
        self._task = asyncio.create_task(self._run(self._source))
        try:
            await asyncio.wait_for(self._ready.wait(), timeout)
        except TimeoutError:
            await self.close()
            raise TimeoutError("Could not connect to the Kraken API!") from None
        except asyncio.CancelledError:
            await self.close()
            raise
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        """Closes the connection and the HTTP session. A second call does nothing.

        A callback that is running has 5 s to end. From within a callback the client is closed
        when that callback returns.
        """
        await self._leave()
        await self.async_close()

    async def stop(self) -> None:
        """The same as ``close``."""
        await self.close()

    async def async_close(self) -> None:
        """Closes the HTTP session alone. A second call does nothing."""
        if self._rest is not None:
            await self._rest.close()

    async def __aenter__(self) -> Self:
        await self.start()
        self._body = _Body()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        body = self._body
        if body is not None:
            body.is_running = False
        await self.close()
        self._body = None
        if body is not None:
            body.judge(value)

    async def on_message(self, message: Message) -> None:
        """Given every message: calls the callback, or logs a warning and the message (INFO)."""
        if self._callback is None:
            LOG.warning("Received event but no callback is defined")
            LOG.info(message)
            return
        result = self._callback(message)
        if inspect.isawaitable(result):
            await result

    async def subscribe(self, feed: str, products: list[str] | None = None) -> None:
        """Subscribes to a feed, one request per product, so that each is answered alone.

        The answers come as messages. Waits until the client has been started and a connection
        stands; later it may be called at any time, connected or not.

        Raises TypeError when ``products`` is no list of str, ValueError for products on a private
        feed and for an unknown feed, MissingCredentials (an AttributeError) for a private feed
        without credentials, Unwelcome for malformed ones; UsageError when the client was closed,
        and what ended it when it failed.
        """
        subscriptions = self._checked(feed, products, "Not subscribing to it.")
        source = await self._engine()
        for each in subscriptions:
            if each not in self._wanted:
                self._wanted.append(each)
            source.subscribe(each)

    async def unsubscribe(self, feed: str, products: list[str] | None = None) -> None:
        """The opposite of ``subscribe``, with the same rules and errors; products in any case."""
        subscriptions = self._checked(feed, products, "Not unsubscribing it.")
        source = await self._engine()
        for each in subscriptions:
            # In place: connections that are made later look at this very list.
            self._wanted[:] = [other for other in self._wanted if not other.is_same(each)]
            source.unsubscribe(each)
        if not self._standing:
            self._drop_unwanted()

    def get_active_subscriptions(self) -> list[dict[str, Any]]:
        """What the venue has acknowledged, in that order, as it can be subscribed to anew:
        ``{"event": "subscribe", "feed": "ticker", "product_ids": ["PI_XBTUSD"]}``; private feeds
        without ``product_ids``. What was acknowledged before a connection was lost stays.
        """
        return [_copy(each) for each in self._active.values()]

    @staticmethod
    def get_available_public_subscription_feeds() -> list[str]:
        """The names of all public feeds."""
        return list(PUBLIC)

    @staticmethod
    def get_available_private_subscription_feeds() -> list[str]:
        """The names of all private feeds."""
        return list(PRIVATE)

    @property
    def key(self) -> str:
        """The API key."""
        return self._key

    @property
    def url(self) -> str:
        """As documented: the ``url`` that was given, else where ``request`` goes."""
        return self._given_url or self._rest_url or _rest_base(self._url)

    @property
    def is_auth(self) -> bool:
        """Whether key and secret are set."""
        return bool(self._key and self._secret)

    @property
    def exception_occur(self) -> bool:
        """Whether the client ended by a failure: it gave up, or a callback raised. A lost
        connection is none. ``error`` says which."""
        return self.error is not None

    def get_nonce(self) -> str:
        """A nonce for a signed request: a number higher than any before, as text."""
        return self._nonces.next(time.time_ns())

    def get_sign_challenge(self, challenge: str) -> str:
        """A challenge signed with the secret, in base64.

        Raises KrakenAuthenticationError without credentials, Unwelcome for a malformed secret.
        """
        if not self.is_auth:
            raise KrakenAuthenticationError
        return sign_challenge(self._credentials().secret, challenge)

    async def request(
        self,
        method: str,
        uri: str,
        post_params: Mapping[str, Any] | None = None,
        query_params: Mapping[str, Any] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # documented so
        *,
        auth: bool = True,
        return_raw: bool = False,
    ) -> Any:
        """One REST request, signed unless ``auth`` is off; its answer decoded from JSON, or with
        ``return_raw`` the ``aiohttp.ClientResponse``. GET, POST, PUT, DELETE.

        ``uri`` is the path, e.g. ``/derivatives/api/v3/openorders``; ``timeout`` is in seconds,
        ``TIMEOUT`` where none is given.

        Raises ValueError without credentials, a kind of ``kfws.exceptions.KrakenError`` for what
        the venue refuses, TimedOut (a TimeoutError) where the whole answer did not come in time,
        NoConnection (a ConnectionError) or another Unreachable where none came. Works on a client
        that was not started, too; ``close`` it afterwards.
        """
        if auth and self.is_auth:
            self._credentials()  # raises where they are malformed
        if self._rest is None:
            from kfws.rest import Rest

            self._rest = Rest(
                self._rest_url or _rest_base(self._url),
                self._usable_credentials(),
                proxy=self._proxy,
                ca_file=self._ca_file,
            )
        return await self._rest.request(
            method,
            uri,
            post_params,
            query_params,
            self.TIMEOUT if timeout is None else timeout,
            auth=auth,
            return_raw=return_raw,
        )

    # Beside it

    def messages(self) -> Stream[Message]:
        """Every message from now on, as ``callback`` would get it; beside a callback or instead:
        ``async for message in client.messages()``."""
        return self._new_stream(self._messages)

    def events(self) -> Stream[Event]:
        """All that the engine reports from now on, in order (``kfws.protocol.events``): messages
        as ``Data`` with their payload and time of arrival, and between them ``Gap``, ``Redial``,
        ``Opened``, ``Closed``, ``Subscribed``, ``Refused`` and the rest."""
        return self._new_stream(self._events)

    def book(self, product: str) -> Book:
        """The order book of a product, kept up to date while its ``book`` feed is subscribed;
        the same object each time. It is stale while it is not to be trusted: before its
        snapshot, after a loss, and from the end of a connection to the next snapshot."""
        self._take_otherwise()
        return self._books.setdefault(product, Book())

    # From us to the engine

    def _checked(self, feed: str, products: list[str] | None, otherwise: str) -> list[Subscription]:
        is_list = isinstance(products, list) and all(isinstance(each, str) for each in products)
        if products is not None and not is_list:
            raise TypeError(
                'Parameter products must be type of list[str] (e.g. products=["PI_XBTUSD"])'
            )
        if feed in PRIVATE:
            if products is not None:
                raise ValueError("There is no private feed that accepts products!")
            if not self.is_auth:
                raise MissingCredentials(
                    "Cannot access private endpoints with unauthenticated client!"
                )
            self._credentials()
        elif feed not in PUBLIC:
            raise ValueError(f"Feed: {feed} not found. {otherwise}")
        return [Subscription(feed, each) for each in ([None] if products is None else products)]

    async def _engine(self) -> Live | Redundant:
        await self._ready.wait()
        if self.error is not None:
            raise self.error
        if self._source is None:
            raise UsageError("the client is closed", hint="`await client.start()` opens it again")
        return self._source

    def _credentials(self) -> Credentials:
        return Credentials(self._key, self._secret)

    def _usable_credentials(self) -> Credentials | None:
        """None where there are none, and where they are malformed, which is said when they are
        needed: public feeds need none."""
        try:
            return self._credentials() if self.is_auth else None
        except Unwelcome:
            return None

    async def _leave(self) -> None:
        self._is_leaving = True
        task = self._task
        if task is asyncio.current_task():
            return  # within a callback: the task ends behind it
        if task is not None:
            if not self._is_calling:
                task.cancel()
            try:
                await asyncio.wait({task}, timeout=CALLBACK_S)
            finally:
                task.cancel()
            await asyncio.wait({task})
        self._task = None
        self._ready.set()
        self._ready = asyncio.Event()  # the next run may be in another loop
        self._ready.set()

    def _new_stream(self, streams: WeakSet[Stream[T]]) -> Stream[T]:
        stream: Stream[T] = Stream(lambda: self._room.set())
        streams.add(stream)
        if self._is_leaving or self.error is not None:
            stream.end(self.error)
        self._take_otherwise()
        return stream

    def _take_otherwise(self) -> None:
        self._is_default = False
        self._taken.set()

    # From the engine to the user

    def _open(self) -> Live | Redundant:
        target = Target(
            url=self._url,
            proxy=self._proxy,
            ca_file=self._ca_file,
            follow_redirects=not self.is_auth,
            buffer_bytes=self._buffer_bytes // self._redundancy,
        )
        return open_source(
            target,
            self._wanted,
            self._usable_credentials(),
            redundancy=self._redundancy,
            attempts=0,
            may_grow=True,
        )

    async def _run(self, source: Live | Redundant) -> None:
        try:
            async with aclosing(source.events()) as batches:
                async for events in batches:
                    for event in events:
                        await self._pass_on(event)
                        if self._is_leaving:
                            return
                    await self._let_others_run()
        except _Raised as raised:
            self._fail(raised.error)
        except KfwsError as exc:
            await self._give_up(exc)
        except Exception as exc:
            self._fail(exc)
        finally:
            for stream in self._streams():
                stream.end(self.error)
            self._source = None
            self._standing.clear()
            self._distrust_books()
            self._ready.set()

    async def _pass_on(self, event: Event) -> None:
        if isinstance(event, (Beat, Tick)) or getattr(event, "quiet", False):
            return
        self._note(event)
        if not self._taken.is_set():
            await self._hear_how()
        for each in self._events:
            each.put(event)
        if isinstance(event, Gap) and self._on_gap is not None:
            await self._call(self._on_gap, event)
        await self._pass_on_message(event)
        if self._strict:
            try:
                judge_strictly([event], hint="strict=True was given")
            except KfwsError as exc:
                raise _Raised(exc) from None

    async def _pass_on_message(self, event: Event) -> None:
        wants_message = self._is_heard or self._is_default
        if not wants_message and not self._messages:
            return
        message = _message(event)
        if message is None:
            return
        for each in self._messages:
            each.put(message)
        if wants_message:
            await self._call(self.on_message, message)

    async def _call(self, function: Callable[[Any], object], argument: object) -> None:
        self._is_calling = True
        try:
            result = function(argument)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # we are, not something that the callback waited for
            self._on_raised(RuntimeError("a callback was cancelled"), exc)
        except Exception as exc:
            self._on_raised(exc, exc)
        finally:
            self._is_calling = False

    def _on_raised(self, error: Exception, cause: BaseException) -> None:
        self.callback_errors += 1
        if self._on_error == "raise":
            raise _Raised(error) from cause
        LOG.error("a callback raised; going on", exc_info=cause)

    async def _hear_how(self) -> None:
        """``messages()`` comes behind ``start()``: nothing is lost in between, and the default
        does not warn of what is about to be taken. Waits once."""
        try:
            await asyncio.wait_for(self._taken.wait(), SAY_HOW_S)
        except TimeoutError:
            self._is_default = True
            self._taken.set()

    async def _let_others_run(self) -> None:
        """However fast messages come, and however slowly somebody takes them."""
        await asyncio.sleep(0)
        while any(each.is_full for each in self._streams()):
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), LOOK_EVERY_S)
            except TimeoutError:
                pass

    def _streams(self) -> list[Stream[Any]]:
        return [*self._messages, *self._events]

    def _note(self, event: Event) -> None:
        """What stands, what is active, what the books say."""
        match event:
            case Data(feed="book", product=str(product)):
                self._books.setdefault(product, Book()).apply(event)
            case Data():
                pass
            case Opened():
                if not self._standing:
                    self._drop_unwanted()
                self._standing.add(event.connection)
                # The documented class says the one or the other, by its version.
                LOG.info("Websocket connected! Websocket connection established! %s", event.url)
                self._ready.set()
            case Closed():
                self._standing.discard(event.connection)
                if not self._standing:
                    self._distrust_books()
                LOG.info("Connection closed (%d %s)", event.code, event.reason)
            case Redial():
                LOG.warning("%s; dialling again in %.1f s", event.reason, event.delay_s)
                if not self._standing:
                    self._recovering = set(self._active)
                    LOG.info("Recover subscriptions %s: waiting", self.get_active_subscriptions())
            case Subscribed():
                self._add_active(event.feed, event.products)
            case Notice(event="unsubscribed", payload=bytes(payload)):
                self._drop_active(wire.read_control(payload))
            case Refused():
                self._drop(_key(event.feed, event.product))
                refused = Subscription(event.feed, event.product)
                if refused in self._wanted:
                    self._wanted.remove(refused)
            case Broken():
                LOG.warning("the venue sent a broken frame: %s", event.reason)
            case Stale(product=str(product)) if product in self._books:
                self._books[product].distrust()

    def _add_active(self, feed: str, products: tuple[str, ...]) -> None:
        for product in products if feed in PUBLIC and products else (None,):
            entry: dict[str, Any] = {"event": "subscribe", "feed": feed}
            if product is not None:
                entry["product_ids"] = [product]
            self._active[_key(feed, product)] = entry
            self._recover(_key(feed, product))

    def _drop_active(self, answer: dict[str, Any]) -> None:
        """What is still wanted was only asked for anew."""
        wanted = self._wanted_keys()
        named = answer.get("product_ids")
        products = [x for x in named if isinstance(x, str)] if isinstance(named, list) else []
        for product in products or (None,):
            key = _key(str(answer.get("feed")), product)
            if key not in wanted:
                self._drop(key)
                if key[0] == "book" and product in self._books:
                    self._books[product].distrust()

    def _drop_unwanted(self) -> None:
        """No connection has anything: of what was given up meanwhile there will be no answer."""
        for key in self._active.keys() - self._wanted_keys():
            self._drop(key)

    def _drop(self, key: tuple[str, str]) -> None:
        self._active.pop(key, None)
        self._recover(key)

    def _recover(self, key: tuple[str, str]) -> None:
        """One less to wait for after a loss."""
        if key in self._recovering:
            self._recovering.remove(key)
            if not self._recovering:
                LOG.info("Recover subscriptions %s: done", self.get_active_subscriptions())

    def _wanted_keys(self) -> set[tuple[str, str]]:
        return {_key(each.feed, each.product) for each in self._wanted}

    def _distrust_books(self) -> None:
        for book in self._books.values():
            book.distrust()

    def _fail(self, error: Exception) -> None:
        self.error = error
        if self._body is not None:
            self._body.fail(error)
        else:
            LOG.error("the client is closed: %r", error, exc_info=error)

    async def _give_up(self, error: KfwsError) -> None:
        """A refusal that is permanent. Told in the documented way, and logged."""
        LOG.error("the client gave up: %s", error.message)
        if self._is_heard:
            try:
                await self._call(self.on_message, {"python-kraken-sdk": {"error": GAVE_UP}})
            except _Raised as raised:
                LOG.error("a callback raised", exc_info=raised.error)
        self.error = error


class _Body:
    """The body of an ``async with``: cancelled when the client fails, and left with its error."""

    def __init__(self) -> None:
        self.is_running = True
        self._task = asyncio.current_task()
        self._cancels = self._task.cancelling() if self._task else 0
        self._error: Exception | None = None
        self._has_cancelled = False

    def fail(self, error: Exception) -> None:
        self._error = error
        if self.is_running and self._task is not None:
            self._has_cancelled = self._task.cancel()

    def judge(self, left_with: BaseException | None) -> None:
        """Raises the error, unless the body raised one of its own or was cancelled by others."""
        if self._error is None or left_with is self._error:
            return
        by_others = isinstance(left_with, asyncio.CancelledError)
        if self._has_cancelled and self._task is not None:
            by_others = by_others and self._task.uncancel() > self._cancels
        if left_with is None or (isinstance(left_with, asyncio.CancelledError) and not by_others):
            raise self._error
        LOG.error("the client is closed: %r", self._error, exc_info=self._error)


class _Conn:
    """What the tests of the documented class reach for inside of it."""

    def __init__(self, client: FuturesWSClient) -> None:
        self._client = client

    async def close_connection(self) -> None:
        """Closes the connection that stands, which is dialled anew."""
        source = self._client._source
        if source is not None:
            await source.hang_up()
            LOG.warning("the connection got an exception sent 1000 (OK); then received 1000 (OK)")

    def _ConnectFuturesWebsocket__get_reconnect_wait(self, attempts: int) -> float:
        """Unused: the engine knows how long to wait. There to be patched."""
        return 0.0


class _Raised(Exception):
    """What came out of a function of the user's, told apart from what the engine raises."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _message(event: Event) -> Message | None:
    """What a callback is given of an event; None of what is no message of the venue."""
    match event:
        case Data():
            return event.message
        case Notice(event="challenge"):
            return None
        case Notice() | Subscribed() | Refused():
            return None if event.payload is None else wire.read_control(event.payload)
        case _:
            return None


def _key(feed: str, product: str | None) -> tuple[str, str]:
    return feed, (product or "").lower()


def _check_options(redundancy: object, on_error: object) -> None:
    if type(redundancy) is not int or redundancy not in (1, 2, 3):
        raise ValueError(f"redundancy is 1, 2 or 3 connections, not {redundancy!r}")
    if on_error not in ("raise", "log"):
        raise ValueError(f'on_error is "raise" or "log", not {on_error!r}')


def _copy(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: [*value] if isinstance(value, list) else value for key, value in entry.items()}


def _is_overridden(client: FuturesWSClient) -> bool:
    return type(client).on_message is not FuturesWSClient.on_message


def _full(url: str) -> str:
    """The URL to dial, of host and path as documented, or of a whole one."""
    url = url if "://" in url else f"wss://{url}"
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"{as_shown(url)} is no WebSocket: host and path, or wss://")
    if parts.scheme == "ws" and not is_loopback(parts.hostname or ""):
        raise ValueError(
            f"{as_shown(url)} is not encrypted: ws:// is for this machine alone, use wss://"
        )
    return url


def _rest_base(url: str) -> str:
    parts = urlsplit(url)
    return f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
