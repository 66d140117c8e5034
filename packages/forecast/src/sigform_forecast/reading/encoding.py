"""The bytes of a file, and the encoding of the text they hold."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class File:
    """A source that can be opened several times; stdin and streams are held in memory."""

    name: str
    path: Path | None
    content: bytes | None
    gzipped: bool
    head: bytes

    @classmethod
    def open(cls, source: str | Path | BinaryIO) -> File:
        """Look at a path, "-" for stdin, or a binary stream, which is read to its end."""
        if isinstance(source, (str, Path)) and str(source) != "-":
            path, content, name = Path(source), None, str(source)
            with path.open("rb") as stream:
                magic = stream.read(4)
        else:
            stream = sys.stdin.buffer if isinstance(source, (str, Path)) else source
            path, content = None, stream.read()
            name = "stdin" if stream is sys.stdin.buffer else str(getattr(stream, "name", "stream"))
            magic = content[:4]
        file = cls(name, path, content, magic.startswith(b"\x1f\x8b"), b"")
        with file.stream() as opened:
            return replace(file, head=file.read(opened, SAMPLE_BYTES))

    def stream(self) -> BinaryIO:
        """The bytes from the first on, unpacked."""
        source = self.path or io.BytesIO(self.content or b"")
        if self.gzipped:
            return cast(BinaryIO, gzip.open(source))
        return source.open("rb") if isinstance(source, Path) else source

    def read(self, stream: BinaryIO, size: int) -> bytes:
        """Up to size bytes; raises ValueError where the gzip data is broken."""
        try:
            return stream.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.name}: the gzip data is broken ({error})") from error

    def blocks(self) -> Iterator[bytes]:
        """All bytes, a block at a time."""
        with self.stream() as stream:
            while block := self.read(stream, SAMPLE_BYTES):
                yield block

    def fault(self, where: str, what: str) -> ValueError:
        """The error to raise, with the name of the file and the place in it."""
        return ValueError(f"{self.name}: {where}: {what}" if where else f"{self.name}: {what}")


def find_encoding(file: File, encoding: str | None) -> str:
    """The encoding asked for, or that of the byte order mark, or the first that fits.

    Raises ValueError for an unknown encoding and for a file that holds no text.
    """
    if encoding is not None:
        try:
            return codecs.lookup(encoding).name
        except LookupError as error:
            raise ValueError(f"encoding is {encoding!r}; needs one that Python knows") from error
    for mark, name in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                       (codecs.BOM_UTF16_BE, "utf-16")):  # fmt: skip
        if file.head.startswith(mark):
            return name
    if file.head.startswith(b"PK\x03\x04"):
        raise file.fault("", "is a zip or Excel file; needs a text table, saved as CSV")
    if b"\0" in file.head:
        raise file.fault("", "is a binary file; needs a text table (CSV) or parquet")
    for name in ("utf-8", "cp1252"):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            for block in file.blocks():
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


class Utf8Stream(io.RawIOBase):
    """The file's text as UTF-8 bytes for pyarrow; runs of blanks become one tab where asked."""

    def __init__(self, file: File, encoding: str, squeeze: bool) -> None:
        super().__init__()
        self._blocks = file.blocks()
        self._file, self._encoding, self._squeeze = file, encoding, squeeze
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._rest, self._ready = b"", b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            block = next(self._blocks, None)
            if block is None:
                self._ready, self._rest = self._tidy(self._rest), b""
                break
            if self._encoding not in ("utf-8", "ascii"):
                block = self._decode(block).encode()
            if self._squeeze:
                whole, end, rest = (self._rest + block).rpartition(b"\n")
                block, self._rest = self._tidy(whole + end), rest
            self._ready = block
        size = len(self._ready) if size < 0 else size
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def _decode(self, block: bytes) -> str:
        try:
            return self._decoder.decode(block)
        except UnicodeDecodeError as error:
            raise self._file.fault("", f"is not {self._encoding} ({error.reason})") from error

    def _tidy(self, text: bytes) -> bytes:
        if not self._squeeze:
            return text
        return re.sub(rb"\t+(?=\r?\n|$)|(?m:^)\t", b"", re.sub(rb"[ \t]+", b"\t", text))
