"""A hub on the loopback device: answers `huggingface_hub` as the real one does, over folders.

    with Hub({"owner/name": folder}) as hub:   # HF_ENDPOINT is hub.url
        ...

What it answers, and with which headers, is what `huggingface_hub` asks and reads (its modules
`hf_api`, `file_download` and `utils._http`), and what https://huggingface.co/docs/hub/api says.
There is no Xet: files come over plain HTTP, large ones by way of a redirect as from the CDN.
"""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import unquote, urlsplit

_LARGE = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".model")
"""Endings that a repository's .gitattributes puts into Git LFS."""


@dataclass(frozen=True)
class Asked:
    """One request: its method, path and Range header (empty if none)."""

    method: str
    path: str
    range: str


@dataclass
class Hub:
    """The server; its folders may change while it runs.

    Attributes:
        repositories: repository -> folder of its main branch.
        gated: repositories that want a token.
        breaks: ends of paths; a download of one stops in the middle, and then the hub is down.
        down: every connection is closed without an answer.
        asked: the requests so far.
    """

    repositories: dict[str, Path]
    gated: set[str] = field(default_factory=set)
    breaks: set[str] = field(default_factory=set)
    down: bool = False
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> "Hub":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def commit(self, repo: str) -> str:
        """The commit of main: forty hex digits that change with the names of the files."""
        return hashlib.sha1("\n".join([repo, *self.files(repo)]).encode()).hexdigest()

    def files(self, repo: str) -> list[str]:
        """Names of a repository's files."""
        root = self.repositories[repo]
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def sha256(self, repo: str, name: str) -> str:
        """Digest of a file."""
        return _sha256(self.repositories[repo] / name)

    def downloaded(self) -> list[str]:
        """Names of the files that were asked for, without those that were only looked at."""
        return [
            one.path.partition("/resolve/")[2].partition("/")[2]
            for one in self.asked
            if one.method == "GET" and "/resolve/" in one.path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        self.hub.asked.append(Asked(self.command, path, self.headers.get("Range", "")))
        if self.hub.down:
            self._hang_up()
        elif path.startswith("cdn/"):
            self._send_file(path.removeprefix("cdn/"))
        elif path.startswith("api/models/"):
            repo, _, revision = path.removeprefix("api/models/").partition("/revision/")
            if self._knows(repo, revision or "main"):
                self._send_info(repo)
        else:
            repo, _, rest = path.partition("/resolve/")
            revision = next(
                (known for known in ("main", *self._commits(repo)) if rest.startswith(f"{known}/")),
                rest.partition("/")[0],
            )
            if self._knows(repo, revision) and self._may_read(repo):
                self._resolve(repo, rest.removeprefix(f"{revision}/"))

    def _commits(self, repo: str) -> list[str]:
        return [self.hub.commit(repo)] if repo in self.hub.repositories else []

    def _knows(self, repo: str, revision: str) -> bool:
        if repo not in self.hub.repositories:
            # The hub does not say whether a repository is private or not there: 401 to anyone.
            self._refuse(401, "RepoNotFound", "Repository not found")
            return False
        if revision not in ("main", self.hub.commit(repo)):
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return False
        return True

    def _may_read(self, repo: str) -> bool:
        if repo in self.hub.gated and not self.headers.get("Authorization"):
            self._refuse(401, "GatedRepo", f"Access to model {repo} is restricted.")
            return False
        return True

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_info(self, repo: str) -> None:
        root = self.hub.repositories[repo]
        siblings = []
        for name in self.hub.files(repo):
            size = (root / name).stat().st_size
            sibling = {"rfilename": name, "size": size, "blobId": _blob_id(root / name)}
            if name.endswith(_LARGE):
                lfs = {"sha256": _sha256(root / name), "size": size, "pointerSize": 134}
                sibling["lfs"] = lfs
            siblings.append(sibling)
        gated = "manual" if repo in self.hub.gated else False
        info = {"id": repo, "modelId": repo, "sha": self.hub.commit(repo), "gated": gated}
        body = json.dumps({**info, "private": False, "siblings": siblings}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _resolve(self, repo: str, name: str) -> None:
        path = self.hub.repositories[repo] / name
        if not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif name.endswith(_LARGE):
            self.send_response(302)
            self.send_header("X-Repo-Commit", self.hub.commit(repo))
            self.send_header("X-Linked-Size", str(path.stat().st_size))
            self.send_header("X-Linked-ETag", f'"{_sha256(path)}"')
            # Another host than the hub's: the library takes the headers of the last answer of the
            # hub's own host for the file's.
            cdn = self.hub.url.replace("127.0.0.1", "localhost")
            self.send_header("Location", f"{cdn}/cdn/{repo}/resolve/main/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(f"{repo}/resolve/main/{name}")

    def _send_file(self, address: str) -> None:
        repo, _, rest = address.partition("/resolve/main/")
        path = self.hub.repositories[repo] / rest
        size = path.stat().st_size
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{_blob_id(path)}"')
        self.send_header("X-Repo-Commit", self.hub.commit(repo))
        self.send_header("Content-Length", str(size - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = size // 2 if any(address.endswith(name) for name in self.hub.breaks) else size
        with path.open("rb") as stream:
            stream.seek(start)
            while stream.tell() < stop and (
                chunk := stream.read(min(1 << 20, stop - stream.tell()))
            ):
                self.wfile.write(chunk)
        if stop < size:
            self.hub.down = True
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True


def _sha256(path: Path) -> str:
    key = (path, path.stat().st_size, path.stat().st_mtime_ns)
    if key not in _DIGESTS:
        with path.open("rb") as stream:
            _DIGESTS[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _DIGESTS[key]


_DIGESTS: dict[tuple[Path, int, int], str] = {}


def _blob_id(path: Path) -> str:
    return _sha256(path)[:40]
