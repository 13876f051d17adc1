"""A downloader for pooch that asks for no byte twice: it goes on where it was dropped or killed, and tries again."""

import os
import shutil
import time
from pathlib import Path

import requests
import urllib3

from bipartition import files

TIMEOUT = (15, 60)
"""Seconds to wait for a connection, and for the next byte."""
PATIENCE = 4
"""Attempts in a row, at one address, that bring the file no further."""
SLOWEST, WATCHED = 1000, 60.0
"""Bytes a second that a server has to send, over so many seconds; a slower one counts as silent."""
PAUSE = 1.0
"""Seconds before the second attempt; doubled before each later one."""
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""Answers that may be another one a moment later."""
SLACK = 1.1
"""A file that is announced larger or smaller than expected by this factor is another file: often a page that asks to log in."""
CHUNK = 2**16
TOLD_ABOVE = 10**8


class Resuming:
    """What `pooch.retrieve` calls to download: ``(url, output_file, pooch)``.

    Bytes are kept in `folder` until the checksum was found right, so that a killed process loses none of them.  Where a server
    can send a part of a file, the rest is asked for, with If-Range at the address that the beginning came from; another
    address may go on if it announces a file of the same length.  Where not, the file is begun anew.

    Parameters
    ----------
    folder : Path
        Of this file alone.  Nothing in it is finished; the caller removes it in the end.
    size : int
        Bytes of the file, give or take a tenth.
    """

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._bytes, self._about, self._size, self._told = folder / "bytes", folder / "about.json", size, 0

    def __call__(self, url: str, output_file: str | Path, _: object, check_only: bool = False) -> None:
        """Bring the file to its end and link it to `output_file`.

        Raises
        ------
        OSError
            If the address has no such file, or `PATIENCE` attempts in a row brought it no further.
        """
        failed, farthest = 0, self.have
        while not self._is_complete():
            try:
                self._go_on(url)
            except requests.RequestException as error:
                gained, farthest = self.have - farthest, max(farthest, self.have)
                failed = 1 if gained > self._size / 100 else failed + 1
                if failed == PATIENCE or not _may_pass(error):
                    raise
                pause = PAUSE * 2**(failed - 1)
                print(f"{url}: {in_words(error)}; trying again in {pause:g} s", flush=True)
                time.sleep(pause)
        os.unlink(output_file)
        try:
            os.link(self._bytes, output_file)
        except OSError:  # a file system without links
            shutil.move(self._bytes, output_file)

    @property
    def have(self) -> int:
        """How many bytes are there to go on from."""
        return self._bytes.stat().st_size if self._about.is_file() and self._bytes.is_file() else 0

    def discard(self) -> None:
        """Begin anew next time."""
        self._bytes.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def _is_complete(self) -> bool:
        return self.have > 0 and files.read_json(self._about).get("length") == self.have

    def _go_on(self, url: str) -> None:
        about, have = files.read_json(self._about), self.have
        headers = {"Accept-Encoding": "identity"}
        if have and about["length"]:
            headers["Range"] = f"bytes={have}-"
            if about["url"] == url and about["validator"]:
                headers["If-Range"] = about["validator"]
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != 416:
                response.raise_for_status()
            start, length = _extent(response)
            if response.status_code == 416 or start not in (0, have) or (start and length != about["length"]):
                self.discard()
                raise requests.ConnectionError(f"cannot go on at byte {have}, its file is another one")
            if length and not self._size / SLACK <= length <= self._size * SLACK:
                raise requests.RequestException(f"announces {length} bytes, not about {self._size}: another file")
            if start == 0:
                self.discard()
                files.write_json(self._about, {"url": url, "length": length, "validator": _validator(response)})
            self._receive(response, length)
        if length and self.have < length:
            raise requests.ConnectionError(f"ended after {self.have} of {length} bytes")
        if not length:
            files.write_json(self._about, files.read_json(self._about) | {"length": self.have})

    def _receive(self, response: requests.Response, length: int | None) -> None:
        with open(self._bytes, "ab") as stream:
            try:
                since, had = time.monotonic(), stream.tell()
                while chunk := response.raw.read1(CHUNK, decode_content=False):
                    stream.write(chunk)
                    if (passed := time.monotonic() - since) > WATCHED:
                        if stream.tell() - had < SLOWEST * passed:
                            raise requests.ConnectionError(f"sends {(stream.tell() - had) / passed:.0f} bytes a second")
                        since, had = time.monotonic(), stream.tell()
                    if stream.tell() > (length or self._size * SLACK):
                        raise requests.RequestException(f"sends more than the {length or self._size} bytes expected")
                    self._tell(stream.tell(), length)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                if isinstance(error, requests.RequestException) or getattr(error, "errno", None) in files.DISK_FULL:
                    raise
                how = "fell silent" if isinstance(error, urllib3.exceptions.ReadTimeoutError) else "was dropped"
                raise requests.ConnectionError(f"{how} after {stream.tell()} of {length or 'unknown'} bytes") from error

    def _tell(self, have: int, length: int | None) -> None:
        """A line for each tenth of a large file."""
        if length and length > TOLD_ABOVE and 10 * have // length > self._told:
            self._told = 10 * have // length
            print(f"  {size_in_words(have)} of {size_in_words(length)}", flush=True)


def size_in_words(count: float) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def in_words(error: Exception) -> str:
    """The reason of a failed download on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _extent(response: requests.Response) -> tuple[int, int | None]:
    """First byte that is sent, and length of the whole file, None if that is not said."""
    if response.status_code == 206:
        span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        return (int(first), int(total)) if first.isdecimal() and total.isdecimal() else (-1, None)
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _validator(response: requests.Response) -> str | None:
    """What If-Range compares: a strong ETag, else the time of the last change."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _may_pass(error: requests.RequestException) -> bool:
    """Is it worth asking the same address again?  Not where it has no such file, or nobody listens."""
    if isinstance(error, requests.HTTPError):
        return error.response.status_code in BUSY
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, urllib3.exceptions.NewConnectionError):
        return False
    return isinstance(error, requests.ConnectionError | requests.Timeout)
