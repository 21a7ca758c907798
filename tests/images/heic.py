"""HEIC files built around one encoded tile, since no encoder is installed."""

import base64
import struct

# 64 x 64 pixels coded by x265. The image shows the first 40 x 24: a gradient from red (top) to blue.
CONFIGURATION = base64.b64decode(
    "AQNwAAAAAAAAAAAAHvAA/P34+AAADwMgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQCEAAQAnQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "rprmwIAAAAMAgAAAAwCEIgABAAZEAcFzwYk="
)
TILE = base64.b64decode(
    "AAAARCgBrxMhbURA9TJgwvt2Kv7E/NO4ivlvVx+OVo0Mx0D3HAnJRn42FP+gXLmj9xpzDKy/1IDmzyHthdvNtkCSVfMQf6DA"
)
SIZE = (40, 24)


def box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def full_box(name: bytes, version: int, *parts: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24), *parts)


def size(width: int, height: int) -> bytes:
    return full_box(b"ispe", 0, struct.pack(">II", width, height))


def heic(
    *turns: bytes, exif: bytes = b"", shown: tuple[int, int] = SIZE, tiles: tuple[int, int] = (1, 1)
) -> bytes:
    """A grid of tiles, cropped to the size `shown`. `turns` are properties that turn or mirror the image."""
    rows, columns = tiles
    count = rows * columns
    coded = range(2, count + 2)  # each tile is an item; all tiles share the same bytes
    exif_id = count + 2
    types = [(1, b"grid"), *((number, b"hvc1") for number in coded), *([(exif_id, b"Exif")] if exif else [])]
    entries = [full_box(b"infe", 2, struct.pack(">HH4s", number, 0, name), b"\0") for number, name in types]
    properties = [box(b"hvcC", CONFIGURATION), size(64, 64), size(*shown), *turns]
    of_grid = bytes((3, *(0x80 | (4 + n) for n in range(len(turns)))))
    associations = [struct.pack(">IHB", count + 1, 1, len(of_grid)) + of_grid]
    associations += [struct.pack(">HBBB", number, 2, 0x81, 2) for number in coded]
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *shown)
    links = [box(b"dimg", struct.pack(f">HH{count}H", 1, count, *coded))]
    if exif:
        links.append(box(b"cdsc", struct.pack(">HHH", exif_id, 1, 1)))

    def meta(tile_at: int) -> bytes:
        places = [(1, 1, 0, len(grid)), *((number, 0, tile_at, len(TILE)) for number in coded)]
        places += [(exif_id, 0, tile_at + len(TILE), 4 + len(exif))] if exif else []
        located = [
            struct.pack(">HHHHII", number, method, 0, 1, at, length) for number, method, at, length in places
        ]
        return full_box(
            b"meta", 0,
            full_box(b"hdlr", 0, bytes(4), b"pict", bytes(13)),
            full_box(b"pitm", 0, struct.pack(">H", 1)),
            box(b"idat", grid),
            full_box(b"iloc", 1, struct.pack(">HH", 0x4400, len(located)), *located),
            full_box(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
            box(b"iprp", box(b"ipco", *properties), full_box(b"ipma", 0, *associations)),
            full_box(b"iref", 0, *links),
        )  # fmt: skip

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    data = TILE + (bytes(4) + exif if exif else b"")
    return head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", data)


def irot(quarters: int) -> bytes:
    """A property that turns the image left by this many quarter turns."""
    return box(b"irot", bytes((quarters,)))


def imir(axis: int) -> bytes:
    return box(b"imir", bytes((axis,)))
