"""Turns what goes away in mid-study (storage, disk, Ray Tune) into one message."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from optuna.exceptions import StorageInternalError
from ray.tune.error import TuneError
from sqlalchemy.exc import SQLAlchemyError

from search.record.files.study_file import Addresses
from search.record.files.study_folder import StudyFiles
from search.record.storage import BrokenConnection
from trainables.addresses import first_line, scrubbed
from trainables.errors import Failure
from trainables.terminal.command_line import masked


@contextlib.contextmanager
def failures_of_storage(files: StudyFiles, addresses: Addresses, resume: str) -> Iterator[None]:
    """Turn what the storage, the disk and Tune raise in mid-study into one `Failure`.

    resume: the command that resumes the study.
    """
    try:
        yield
        return
    except OSError as error:
        cause: Exception = error
        named = error.filename is not None and Path(os.fsdecode(error.filename)).absolute()
        elsewhere = named and files.storage.absolute() not in named.parents
        whose = str(named) if elsewhere else "the study's files"
        what = f"{whose} cannot be read or written ({error})"
    except TuneError as error:
        # Its text may be a traceback, which ends with what was raised.
        cause, what = error, f"Ray Tune ended the study ({str(error).strip().splitlines()[-1]})"
    except (StorageInternalError, SQLAlchemyError, BrokenConnection) as error:
        cause, said = error, first_line(error.__cause__ or error)
        what = f"the study storage {masked(addresses.study_storage)!r} went away ({said})"
    raise Failure(
        f"{scrubbed(what, addresses.study_storage)}. Fix the cause, then resume by: {resume}"
    ) from cause
