"""Decoder processes: a slow, large or crashing file does not harm other files."""

import asyncio
import os
import signal
import struct
import sys
import zlib
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress

import asyncpg
import httpx
import psutil
import pytest
from PIL import Image

from backend import uploads
from backend.decoders import Decoders, OverLimits
from backend.settings import Settings
from images.decode import decode
from images.errors import DamagedImage, ImageError, TooManyPixels, UnknownFormat
from scripts.local.config import REPOSITORY, Config, find_free_ports
from tests.backend.conftest import Api, Serve, assert_problem
from tests.conftest import ended, eventually
from tests.images.files import chunk, encode

PHOTO = encode(Image.radial_gradient("L").resize((640, 480)).convert("RGB"), "JPEG")


@pytest.fixture(autouse=True)
def decoders_start_late() -> None:
    """Switches off the fixture of conftest.py: in these tests a backend starts its decoders at once."""


def slow_png(width: int = 4_000, height: int = 3_900) -> bytes:
    """A PNG of 91 kB with 16-bit pixels and a transparent colour. It takes about a second to decode."""
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    rows = zlib.compress(bytes(height * (1 + 6 * width)))
    chunks = [(b"IHDR", header), (b"tRNS", bytes(6)), (b"IDAT", rows), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def decoder_processes(of: int | None = None) -> list[psutil.Process]:
    """The decoder processes of a backend: of this process, or of the process with the id `of`."""
    found: list[psutil.Process] = []
    for child in psutil.Process(of).children():
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if "backend.decoder" in child.cmdline():
                found.append(child)
    return found


@contextmanager
def frozen(processes: list[psutil.Process]) -> Generator[None]:
    """Suspend the processes, so that they answer nothing within the block."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.fixture
async def decoders() -> AsyncGenerator[Decoders]:
    decoders = Decoders(max_pixels=20_000_000, max_seconds=0.2)
    await decoders.start()
    yield decoders
    await decoders.stop()


async def test_a_decoder_process_returns_the_same_pixels_as_decode(decoders: Decoders) -> None:
    assert await decoders.decode(PHOTO) == decode(PHOTO, 10**6)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not an image", UnknownFormat),
        (encode(Image.effect_noise((99, 99), 50))[:-2000], DamagedImage),
        (encode(Image.new("1", (5000, 4001))), TooManyPixels),
    ],
    ids=["unknown", "damaged", "many pixels"],
)
async def test_a_process_reports_why_a_file_cannot_be_decoded(
    data: bytes, reason: type[ImageError], decoders: Decoders
) -> None:
    refused = await decoders.decode(data)
    assert type(refused) is reason
    with pytest.raises(reason, match=str(refused)):
        decode(data, 20_000_000)


async def test_an_image_over_the_limit_of_the_ordinary_lane_is_decoded_in_the_large_one(
    decoders: Decoders,
) -> None:
    pixels = await decoders.decode(encode(Image.new("1", (5000, 4000), 1)))
    assert pixels == b"\xff" * 3072


async def test_photos_are_decoded_after_a_slow_file_has_ended_two_processes(decoders: Decoders) -> None:
    before = decoder_processes()
    assert isinstance(await decoders.decode(slow_png()), OverLimits)
    photos = await asyncio.gather(*(decoders.decode(PHOTO) for _ in range(4)))
    assert all(pixels == decode(PHOTO, 10**6) for pixels in photos)
    assert len(before) == 3
    _, ordinary, large = before  # the ordinary lane takes its second process first
    await eventually(lambda: ended(ordinary, large))


async def test_a_file_that_needs_too_much_memory_is_refused_and_the_next_is_decoded() -> None:
    decoders = Decoders(max_pixels=1_000_000, max_seconds=1)
    await decoders.start()
    try:
        assert isinstance(await decoders.decode(bytes(200_000_000)), OverLimits)
        assert await decoders.decode(PHOTO) == decode(PHOTO, 10**6)
    finally:
        await decoders.stop()


async def test_a_process_that_ends_while_it_waits_is_replaced(decoders: Decoders) -> None:
    before = decoder_processes()
    for process in before:
        process.kill()
    await eventually(lambda: ended(*before))
    assert await decoders.decode(PHOTO) == decode(PHOTO, 10**6)


async def test_files_are_decoded_in_the_order_of_arrival(decoders: Decoders) -> None:
    """A request with one file does not wait for the end of three requests with many files."""
    order: list[str] = []

    async def send(name: str, count: int) -> None:
        for _ in range(count):
            assert isinstance(await decoders.decode(PHOTO), bytes)
            order.append(name)

    await asyncio.gather(send("a", 8), send("b", 8), send("c", 8), send("d", 1))
    assert order.index("d") <= 5


async def test_an_ordinary_photo_is_answered_while_another_file_is_slow(
    serve: Serve, settings: Settings
) -> None:
    api = await serve(settings.model_copy(update={"max_decode_seconds": 1}))
    answered: list[str] = []

    async def send(name: str) -> httpx.Response:
        answer = await api.upload(PHOTO)
        answered.append(name)
        return answer

    first, second, large = decoder_processes()
    with frozen([second, large]):  # the ordinary lane takes its second process first
        slow = asyncio.create_task(send("slow"))
        await eventually(lambda: held(api))
        assert (await send("photo")).status_code == 202
        assert_problem(await slow, 422, "too much time or memory to decode", "1 s", "Save the image again")
    assert answered == ["photo", "slow"]
    await eventually(lambda: ended(second, large))
    assert first.is_running()
    assert (await api.upload(PHOTO, PHOTO)).status_code == 202


async def held(api: Api) -> bool:
    """Whether the backend holds the bytes of an upload."""
    return api.services.uploads.held_bytes > 0


async def test_a_file_whose_processes_are_killed_is_refused_and_the_next_one_gets_its_own_answer(
    api: Api, database: asyncpg.Connection
) -> None:
    *ordinary, large = decoder_processes()
    with frozen([*ordinary, large]):
        upload = asyncio.create_task(api.upload(PHOTO, b"no image"))
        await eventually(lambda: held(api))
        for process in ordinary:
            process.kill()
        await eventually(lambda: in_the_large_lane(api))
        large.kill()
    body = assert_problem(await upload, 422, "No file could be accepted")
    titles = [entry["error"]["title"] for entry in body["predictions"]]
    assert titles == ["Image needs too much time or memory to decode", "Not a supported image"]
    assert (await api.upload(PHOTO)).status_code == 202


async def in_the_large_lane(api: Api) -> bool:
    return not api.services.decoders._large._idle


async def test_a_file_whose_process_was_killed_once_is_decoded_by_another(api: Api) -> None:
    *ordinary, _large = decoder_processes()
    with frozen(ordinary):
        upload = asyncio.create_task(api.upload(PHOTO))
        await eventually(lambda: held(api))
        for process in ordinary:
            process.kill()  # as the kernel does when memory runs out
    assert (await upload).status_code == 202


async def test_files_beyond_the_time_limit_are_refused_and_the_request_is_answered(
    api: Api, cat: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short, frozen(decoder_processes()):
        short.setattr(uploads, "REQUEST_SECONDS", 0.2)
        lone = await api.upload(PHOTO)
        assert_problem(lone, 429, "Not decoded in time", "Upload it again")
        assert lone.headers["Retry-After"] == "10"
        answer = await api.upload(cat, PHOTO, PHOTO)
        assert answer.status_code == 202
        taken, *late = answer.json()["predictions"]
        assert taken["status"] == "queued"  # a tiny file needs no process
        assert [entry["error"]["title"] for entry in late] == ["Not decoded in time"] * 2
    assert (await api.upload(PHOTO)).status_code == 202


@pytest.fixture
async def backend(
    servers: Config, database: asyncpg.Connection
) -> AsyncGenerator[tuple[psutil.Process, str]]:
    """A backend in a process of its own, and its address."""
    (port,) = find_free_ports(1)
    environment = os.environ | {
        "DATABASE_URL": servers.database_url("backend"),
        "BROKER_URL": servers.broker_url("backend"),
        "MAX_DECODE_SECONDS": "1",
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "backend.main:create_app", "--port", str(port)]
    process = psutil.Popen([*command, "--timeout-graceful-shutdown", "10"], cwd=REPOSITORY, env=environment)
    address = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"{address}/api/health/ready")).is_success
        except httpx.TransportError:
            return False

    try:
        await eventually(answers, 60)
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


async def busy(client: httpx.AsyncClient) -> bool:
    """Whether an upload is being read or decoded."""
    figures = (await client.get("/metrics")).text
    return float(figures.split("\nbackend_upload_bytes_held ")[1].split()[0]) > 0


async def test_a_backend_that_is_told_to_stop_does_not_wait_for_a_slow_file(
    backend: tuple[psutil.Process, str],
) -> None:
    process, address = backend
    children = decoder_processes(process.pid)
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        with frozen(children):
            upload = asyncio.create_task(client.post("/api/predict", files={"file": PHOTO}))
            await eventually(lambda: busy(client))
            process.send_signal(signal.SIGTERM)
            answer = await upload
            assert_problem(answer, 503, "stopping", "Send this again")
            assert int(answer.headers["retry-after"]) >= 1
            assert await asyncio.to_thread(process.wait, 5) in (0, -signal.SIGTERM)
    await eventually(lambda: ended(*children), 5)


async def test_decoders_end_with_a_backend_that_is_killed(backend: tuple[psutil.Process, str]) -> None:
    process, address = backend
    children = decoder_processes(process.pid)
    async with httpx.AsyncClient(base_url=address, timeout=30) as client:
        upload = asyncio.create_task(client.post("/api/predict", files={"file": slow_png()}))
        await eventually(lambda: busy(client))
        process.kill()
        with pytest.raises(httpx.TransportError):
            await upload
    await eventually(lambda: ended(*children), 15)  # one process decodes until its limit
