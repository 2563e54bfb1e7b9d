"""Handles the paths and URIs of stores, and errors of reading and writing them."""

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.fs

from trainables.addresses import first_line
from trainables.data.sources.listing import is_litter
from trainables.data.store.meta import digest
from trainables.errors import UserError


def require_folder(folder: Path, what: str) -> None:
    """Raise `UserError` unless `folder` is a readable folder with something in it."""
    try:
        empty = all(is_litter(path.name) for path in folder.iterdir())
    except FileNotFoundError:
        raise UserError(
            f"{what} must exist, got {folder}, which does not; check the path"
        ) from None
    except OSError as error:
        raise UserError(
            f"{what} must be a readable folder, got {folder} ({os.strerror(error.errno or 0)}); "
            "check the path and its permissions"
        ) from None
    if empty:
        raise UserError(f"{what} must hold data, got the empty folder {folder}; check the path")


@contextlib.contextmanager
def writing(path: Path, *, any_error: bool = False) -> Iterator[None]:
    """Turn errors of a full disk or a destination that cannot be written into a `UserError`.

    any_error: turn every `OSError` into one. Use it for blocks that touch only the destination,
      where any error means that the user must choose another (in /proc, for example, making a
      folder fails with "no such file").
    """
    try:
        yield
    except OSError as error:
        remedies = {
            errno.ENOSPC: "free some space or choose another destination",
            errno.EDQUOT: "free some of the quota or choose another destination",
            errno.EACCES: "choose a directory you may write to",
            errno.EPERM: "choose a directory you may write to",
            errno.EROFS: "choose a destination that is not read-only",
            errno.ENOTDIR: "choose a destination whose parents are directories",
            errno.EEXIST: "choose a destination that is not a file",
            errno.EISDIR: "choose a destination that is not a directory",
        }
        remedy = remedies.get(error.errno or 0)
        elsewhere = error.filename is not None and not _is_at(str(error.filename), path)
        if elsewhere or (remedy is None and not any_error):
            raise
        raise UserError(
            f"the store must be writable, got {os.strerror(error.errno or 0)!r} for {path}; "
            f"{remedy or 'choose another destination'}"
        ) from error


def _is_at(name: str, path: Path) -> bool:
    """Return whether a file that an error names is `path`, around it, or its scratch folder."""
    file, place = Path(name).absolute(), path.absolute()
    if place.parent not in file.parents:
        return file == place.parent or file in place.parents
    first = file.relative_to(place.parent).parts[0]
    return first == place.name or first.startswith(f".{place.name}.")


@contextlib.contextmanager
def building(destination: Path) -> Iterator[Path]:
    """Yield a scratch folder that replaces `destination` if the block ends without an error.

    Only one builder works at a time. The others wait and may then find `destination` finished, so
    look again inside the block; leaving the scratch folder empty changes nothing. The kernel frees
    the lock of a killed builder, and the next builder removes what it left. On a file system
    without locks the work may be done twice, but the rename still leaves one complete store.
    """
    destination = destination.absolute()
    with contextlib.ExitStack() as stack:
        with writing(destination, any_error=True):
            if destination.exists() and not destination.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", str(destination))
            destination.parent.mkdir(parents=True, exist_ok=True)
            lock_file = destination.parent / f".{destination.name}.lock"
            lock = stack.enter_context(open(lock_file, "w"))
            prefix, suffix = f".{destination.name}.", ".partial"
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
                for stale in destination.parent.glob(f"{glob.escape(prefix)}*{suffix}"):
                    shutil.rmtree(stale, ignore_errors=True)
            scratch = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=destination.parent))
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            # mkdtemp makes private folders; a store gets the usual permissions of a new folder.
            umask = os.umask(0)
            os.umask(umask)
            scratch.chmod(0o777 & ~umask)
        with writing(destination):
            yield scratch
            if any(scratch.iterdir()):
                _replace_directory(scratch, destination)


def _replace_directory(new: Path, destination: Path) -> None:
    """Rename `new` to `destination` and then remove what was there before."""
    try:
        os.rename(new, destination)  # succeeds over an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        old = Path(
            tempfile.mkdtemp(prefix=f".{destination.name}.", suffix=".partial", dir=new.parent)
        )
        os.rename(destination, old)
        os.rename(new, destination)
        shutil.rmtree(old, ignore_errors=True)


def local_path(location: str) -> Path:
    """Return a path on this node for a path or URI; a remote file is fetched once."""
    if "://" not in location:
        return Path(location)
    try:
        filesystem, path = pa.fs.FileSystem.from_uri(location)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise UserError(
            f"a store's URI must be one pyarrow.fs reads, got {location!r} ({first_line(error)}); "
            "use s3://, gs://, file:// or a plain path"
        ) from None
    if isinstance(filesystem, pa.fs.LocalFileSystem):
        return Path(path)
    return fetch(filesystem, path, location)


def fetch(filesystem: pa.fs.FileSystem, path: str, location: str) -> Path:
    """Copy a remote file into this node's cache, keyed by its address, length and change time.

    Processes that fetch at the same time each write a temporary file and rename it over the
    identical file of the other, so that none maps an incomplete file.
    """
    try:
        info = filesystem.get_file_info(path)
        if info.type != pa.fs.FileType.File:
            raise UserError(
                f"the store must hold the file {location}, got no such file; check the address"
            )
        key = digest([f"{location}|{info.size}|{info.mtime_ns}".encode()])
        root = os.environ.get("DISPARSE_CACHE") or Path(tempfile.gettempdir()) / "disparse-cache"
        target = Path(root) / key / Path(path).name
        if not target.exists():
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                with (
                    tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as part,
                    filesystem.open_input_stream(path) as source,
                ):
                    shutil.copyfileobj(source, part, 1 << 22)
                os.replace(part.name, target)
    except OSError as error:
        raise UserError(
            f"the store must be readable, got {first_line(error)!r} for {location}; "
            "check the address and the credentials"
        ) from error
    return target
