"""Chunks that this server keeps itself, by signed URL: no token, no database.

These routes are coroutines, unlike the others: they stream. Files are read and written in the
thread pool, a large piece at a time, because each hop there costs as much as copying 100 KB.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from periflow_sdk.errors import ForbiddenError, IntegrityError, InvalidRequestError, NotFoundError
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import CurrentSettings, CurrentStore
from periflow_server.settings import Settings
from periflow_server.storage.folder import ChunkWriter, FolderStore
from periflow_server.storage.key import chunk_key
from periflow_server.storage.signing import ChunkGrant, UrlSigner
from periflow_server.storage.store import Store

router = APIRouter(
    prefix=PREFIX + "/blobs/{project}/{name}", tags=["blobs"], responses={403: {}, 413: {}}
)

_PIECE_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
Signed = Annotated[str, Query(max_length=128)]
Number = Annotated[int, Query(ge=0, lt=1 << 53)]


@router.put("", status_code=201, responses={200: {"description": "There already"}})
async def put_blob(
    request: Request,
    project: str,
    name: str,
    size: Number,
    expires: Number,
    signature: Signed,
    store: CurrentStore,
    settings: CurrentSettings,
) -> Response:
    """Store a chunk: 201, or 200 when it is there already. Its bytes must hash to its name."""
    grant = ChunkGrant("PUT", project, name, size, expires)
    _check(settings, grant, signature)
    folder = _folder(store)
    key = chunk_key(project, name)
    if folder.size(key) == size:
        return Response(status_code=200)
    length = request.headers.get("content-length")
    if length is not None and length != str(size):
        raise _wrong_size(size)
    writer = await run_sync(ChunkWriter, folder, key)
    try:
        await _receive(request, writer, size)
        if writer.hash() != name:
            raise IntegrityError("The bytes do not hash to the chunk's name.", code="wrong_hash")
        await run_sync(writer.commit)
    finally:
        writer.close()
    return Response(status_code=201)


@router.get(
    "",
    response_class=StreamingResponse,
    responses={206: {"description": "The range that was asked for"}, 416: {}},
)
async def get_blob(
    request: Request,
    project: str,
    name: str,
    size: Number,
    expires: Number,
    signature: Signed,
    store: CurrentStore,
    settings: CurrentSettings,
) -> Response:
    """A chunk or a range of it."""
    _check(settings, ChunkGrant("GET", project, name, size, expires), signature)
    try:
        file = await run_sync(_folder(store).open, chunk_key(project, name))
    except FileNotFoundError as error:
        raise NotFoundError("This chunk is not in the store.", code="chunk_not_found") from error
    total = file.seek(0, 2)
    first, last = _requested(request.headers.get("range"), total)
    headers = {
        "Content-Length": str(last - first + 1),
        "Accept-Ranges": "bytes",
        "ETag": f'"{name}"',
        "Cache-Control": "private, immutable, max-age=31536000",
    }
    if "range" in request.headers:
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
    return StreamingResponse(
        _pieces(file, first, last - first + 1),
        status_code=206 if "range" in request.headers else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


def _check(settings: Settings, grant: ChunkGrant, signature: str) -> None:
    if not UrlSigner(settings.key).is_valid(grant, signature):
        raise ForbiddenError(
            "This URL was not made here.", code="url_refused", hint="Ask for a new one."
        )
    if grant.is_over:
        raise ForbiddenError("This URL has expired.", code="url_expired", hint="Ask for a new one.")


def _folder(store: Store) -> FolderStore:
    """The store, which is a folder: nobody else is given addresses that lead here."""
    if not isinstance(store, FolderStore):
        raise NotFoundError("Chunks are not kept by this server.", code="chunk_not_found")
    return store


async def _receive(request: Request, writer: ChunkWriter, size: int) -> None:
    buffered: list[bytes] = []
    waiting = received = 0
    async for piece in request.stream():
        received += len(piece)
        if received > size:
            raise _wrong_size(size)
        buffered.append(piece)
        waiting += len(piece)
        if waiting >= _PIECE_BYTES:
            await run_sync(writer.write, buffered)
            buffered, waiting = [], 0
    await run_sync(writer.write, buffered)
    if received != size:
        raise _wrong_size(size)


async def _pieces(file: BinaryIO, offset: int, length: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(offset)
        while length > 0:
            piece = await run_sync(file.read, min(_PIECE_BYTES, length))
            if not piece:
                return
            length -= len(piece)
            yield piece


def _requested(header: str | None, total: int) -> tuple[int, int]:
    """First and last byte asked for."""
    if header is None:
        return 0, total - 1
    match = _RANGE.fullmatch(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        begin, end = int(first), min(int(last), total - 1) if last else total - 1
    elif last:
        begin, end = max(0, total - int(last)), total - 1
    else:
        begin, end = total, 0
    if begin > end:
        raise InvalidRequestError(
            f"There is no such range in {total} bytes.", code="range_not_satisfiable"
        )
    return begin, end


def _wrong_size(size: int) -> InvalidRequestError:
    return InvalidRequestError(f"The chunk must have exactly {size} bytes.", code="wrong_size")
