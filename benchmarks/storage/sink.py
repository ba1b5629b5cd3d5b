"""A server that keeps what it is sent and gives it back, and nothing else: what a client costs.

    python benchmarks/storage/sink.py

Speaks as much of S3's language as the tools need, checks nobody, keeps each object in one piece of
memory: parts are joined. Prints its address, and serves until its input ends.
"""

from __future__ import annotations

import itertools
import re
import socket
import sys
import threading
from typing import BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

_PIECE_BYTES = 1 << 20
_DATE = "Wed, 01 Jul 2026 00:00:00 GMT"
_MOMENT = "2026-07-01T00:00:00.000Z"
_PAGE = 1000


class Store:
    """Objects in memory; that of removed ones is used again, as fresh memory costs time."""

    def __init__(self) -> None:
        self.objects: dict[str, memoryview] = {}
        self.parts: dict[str, dict[int, memoryview]] = {}
        self.numbers = itertools.count(1)
        self._free: dict[int, list[memoryview]] = {}
        self._lock = threading.Lock()

    def memory(self, size: int) -> memoryview:
        with self._lock:
            free = self._free.get(size)
            return free.pop() if free else memoryview(bytearray(size))

    def put(self, key: str, body: memoryview) -> None:
        self.delete(key)
        self.objects[key] = body

    def join(self, key: str, number: str) -> None:
        """Make an object of the parts of an upload."""
        parts = self.parts.pop(number)
        whole = self.memory(sum(map(len, parts.values())))
        position = 0
        for _, part in sorted(parts.items()):
            whole[position : position + len(part)] = part
            position += len(part)
            self._give_back(part)
        self.put(key, whole)

    def delete(self, key: str) -> None:
        if key in self.objects:
            self._give_back(self.objects.pop(key))

    def _give_back(self, view: memoryview) -> None:
        with self._lock:
            self._free.setdefault(len(view), []).append(view)


class Connection:
    """One client: request after request, until it hangs up."""

    def __init__(self, store: Store, peer: socket.socket) -> None:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._store = store
        self._peer = peer
        self._input: BinaryIO = peer.makefile("rb", buffering=1 << 16)

    def serve(self) -> None:
        with self._peer, self._input:
            try:
                while line := self._input.readline():
                    self._answer(line.decode("latin-1"))
            except OSError:
                return

    def _answer(self, line: str) -> None:
        method, target, _ = line.split(" ", 2)
        headers = {}
        while (field := self._input.readline().rstrip()) != b"":
            name, _, value = field.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("expect") == "100-continue":
            self._peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if method == "PUT":
            self._put(key and f"{bucket}/{key}", query, headers)
        elif method == "POST":
            self._post(bucket, key, query, bytes(self._body(headers)))
        elif method == "DELETE":
            self._store.delete(f"{bucket}/{key}")
            self._say(204)
        elif not key:
            self._list(bucket, query)
        else:
            self._get(f"{bucket}/{key}", headers, is_head=method == "HEAD")

    def _body(self, headers: dict[str, str]) -> memoryview:
        if "aws-chunked" not in headers.get("content-encoding", ""):
            view = self._store.memory(int(headers.get("content-length", 0)))
            self._fill(view)
            return view
        view = self._store.memory(int(headers["x-amz-decoded-content-length"]))
        position = 0
        while size := int(self._input.readline().partition(b";")[0], 16):
            self._fill(view[position : position + size])
            self._input.readline()
            position += size
        while self._input.readline().strip():  # checksums
            pass
        return view

    def _fill(self, view: memoryview) -> None:
        position = 0
        while position < len(view):
            piece = view[position : position + _PIECE_BYTES]
            count = self._input.readinto(piece)  # type: ignore[attr-defined]
            if not count:
                raise ConnectionError
            position += count

    def _put(self, key: str, query: dict[str, str], headers: dict[str, str]) -> None:
        body = self._body(headers)
        if key and "partNumber" in query:
            self._store.parts[query["uploadId"]][int(query["partNumber"])] = body
        elif key:
            self._store.put(key, body)
        self._say(200)

    def _post(self, bucket: str, key: str, query: dict[str, str], body: bytes) -> None:
        if "uploads" in query:
            number = str(next(self._store.numbers))
            self._store.parts[number] = {}
            self._xml("InitiateMultipartUploadResult", f"<UploadId>{number}</UploadId>")
        elif "uploadId" in query:
            self._store.join(f"{bucket}/{key}", query["uploadId"])
            self._xml("CompleteMultipartUploadResult", f'<Key>{escape(key)}</Key><ETag>"1"</ETag>')
        else:
            names = re.findall(r"<Key>([^<]*)</Key>", body.decode())
            for name in names:
                self._store.delete(f"{bucket}/{name}")
            deleted = (f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            self._xml("DeleteResult", "".join(deleted))

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix = f"{bucket}/{query.get('prefix', '')}"
        after = query.get("continuation-token", "")
        keys = sorted(k for k in self._store.objects if k.startswith(prefix) and k > after)
        page = keys[: int(query.get("max-keys", _PAGE))]
        items = "".join(
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><LastModified>{_MOMENT}"
            f'</LastModified><ETag>"1"</ETag><Size>{len(self._store.objects[key])}</Size>'
            "<StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        )
        more = len(page) < len(keys)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self._xml(
            "ListBucketResult",
            f"<Name>{bucket}</Name><KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}"
            f"</IsTruncated>{token}{items}",
        )

    def _get(self, key: str, headers: dict[str, str], *, is_head: bool) -> None:
        body = self._store.objects.get(key)
        if body is None:
            self._say(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        total = len(body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]), total - 1) if asked and asked[2] else total - 1
        more = f"Content-Range: bytes {first}-{last}/{total}\r\n" if asked else ""
        self._head(206 if asked else 200, last - first + 1, more)
        if not is_head:
            self._peer.sendall(body[first : last + 1])

    def _xml(self, name: str, inner: str) -> None:
        self._say(200, f"<?xml version='1.0'?><{name}>{inner}</{name}>".encode())

    def _say(self, status: int, body: bytes = b"") -> None:
        self._head(status, len(body))
        self._peer.sendall(body)

    def _head(self, status: int, length: int, more: str = "") -> None:
        text = (
            f'HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nETag: "1"\r\n'
            f"Last-Modified: {_DATE}\r\nAccept-Ranges: bytes\r\n{more}\r\n"
        )
        self._peer.sendall(text.encode())


def main() -> None:
    store = Store()
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)

    def accept() -> None:
        while True:
            connection = Connection(store, listener.accept()[0])
            threading.Thread(target=connection.serve, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
