"""Lists the files of raw data: those in the data root, each frame once, and no system's litter."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from trainables.errors import UserError

# What systems leave in folders beside the names that begin with a dot (`._x.png` is macOS's
# AppleDouble file of x.png): Windows' previews, indexes of network storage, unpacked archives.
_LITTER = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "#recycle", "#snapshot", "lost+found", "__macosx"),
    )
)


def is_litter(name: str) -> bool:
    """Return whether a file or folder of this name is none of the user's, or is hidden."""
    return name.startswith(".") or name.lower() in _LITTER


def list_files(folder: Path, *suffixes: str) -> list[Path]:
    """Return the files in a folder, by name; none for a folder that does not exist.

    suffixes: those to list, e.g. ".png", which stands for ".PNG" too; all if there are none.
    Hidden files and what operating systems leave (`.DS_Store`, `._x.png`, `Thumbs.db`) are passed
    over. Raises `UserError` for a folder that cannot be read.
    """
    wanted = {suffix.lower() for suffix in suffixes}
    return [
        path
        for path, is_folder in _entries(folder)
        if not is_folder and (not wanted or path.suffix.lower() in wanted)
    ]


def list_folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, by name, as `list_files` does."""
    return [path for path, is_folder in _entries(folder) if is_folder]


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    try:
        with os.scandir(folder) as entries:
            found = [(folder / e.name, e.is_dir()) for e in entries if not is_litter(e.name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(
            f"{folder} must be a readable folder, got {os.strerror(error.errno or 0)!r}; "
            "check its permissions"
        ) from None
    return sorted(found)


def located(path: Path) -> Path:
    """Return the path, or the file of that name whose suffix is in the other case (.PNG)."""
    for suffix in (path.suffix, path.suffix.upper(), path.suffix.lower()):
        other = path.with_suffix(suffix)
        if other.is_file():
            return other
    return path


class Listing:
    """Checks the files that a layout names: in the data root, and each frame once.

    root: the data root; it may itself be a link. index: the file or folder that names the frames,
    for messages. allow_outside: whether files outside the root may be read.
    """

    def __init__(self, root: Path, index: Path, *, allow_outside: bool) -> None:
        self._root, self._index, self._allow_outside = root, index, allow_outside
        self._real_root = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def require_inside(self, paths: Iterable[Path]) -> None:
        """Raise `UserError` naming the first of the paths that leads out of the data root."""
        if self._allow_outside:
            return
        for path in paths:
            real = self._real(path)
            if os.path.commonpath((real, self._real_root)) != self._real_root:
                raise UserError(
                    f"{self._index} must name files in the data root {self._root}, got {path}, "
                    f"which is {real}; copy it there, or convert the data with "
                    "`python -m trainables convert … --allow-outside` if you trust "
                    "where it leads"
                )

    def require_once(self, images: Mapping[str, Iterable[Path]]) -> None:
        """Raise `UserError` for an image that is in two splits, or twice in one, by any path."""
        seen: dict[str, tuple[str, Path]] = {}
        for split, paths in images.items():
            for path in paths:
                earlier, other = seen.setdefault(self._real(path), (split, path))
                if other is path:
                    continue
                if earlier != split:
                    raise in_two_splits(f"{self._index}: {path}", earlier, split)
                raise UserError(
                    f"{self._index} must list a frame once for {split!r}, got {other} and {path}, "
                    "which are one file; remove one of them"
                )

    def _real(self, path: Path) -> str:
        """Return the path without links; a folder is resolved once."""
        folder = os.path.dirname(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        if os.path.islink(path):
            return os.path.realpath(path)
        return os.path.join(self._folders[folder], os.path.basename(path))


def in_two_splits(frame: str, one: str, other: str) -> UserError:
    """Return the error for a frame that is in two splits."""
    return UserError(
        f"a frame must be in {one} or in {other}, got one in both, {frame}; take it out of one: "
        "a model is not tested by what it was trained on"
    )


def unread(files: Iterable[Path], rule: str) -> tuple[str, ...]:
    """Return the note on files that are not read, if there are any: how many, why, and one."""
    left = list(files)
    if not left:
        return ()
    first = f"{left[0]}" if len(left) == 1 else f"{left[0]} and {len(left) - 1} more"
    return (f"not read: {first}; {rule}",)
