"""A study from start to end: locked, resumable, recorded. The same call starts or resumes it."""

import contextlib
import shutil

from search.execution.cluster.ray_cluster import set_ray_environment
from search.execution.launch_options import Launch, check_options
from search.execution.preparation import prepare
from search.execution.study_end import StudyEnd
from search.plans.plan import Plan
from search.record.files.driver_lock import StudyLock
from search.record.files.study_file import check_same_study
from search.record.files.study_folder import StudyFiles, read_json, study_files
from trainables.addresses import check_ray_answers, local_file
from trainables.terminal.answers import require_writable


def run_study(plan: Plan, launch: Launch) -> StudyEnd:
    """Start, resume or just report the study that `plan` describes.

    Raises `UserError` for what the user can change and `Failure` where Ray cannot be started or
    the study storage goes away. A study that could not be started leaves nothing behind.
    """
    files = study_files(launch.storage, plan.study)
    check_options(plan, launch)
    check_ray_answers(launch.ray_address)
    is_new = not files.directory.exists()
    if files.exists():  # of another study, it matters little who drives it
        check_same_study(plan, read_json(files.description), files, launch.study_storage)
    require_writable(files.directory, "--storage")
    with StudyLock(files.directory, plan.study):
        known = read_json(files.description) if files.exists() else {}
        try:
            prepared = prepare(plan, launch, files, known)
            set_ray_environment(launch.ray_address)
            # Imported late: `--help` and a user's mistakes should not wait for it.
            from search.execution.driver import Driver

            return Driver(prepared).run()
        except BaseException:
            if not known and not (files.exists() and read_json(files.description)["parent_run_id"]):
                _leave_nothing(files, is_new=is_new)  # no trial has begun
            raise


def _leave_nothing(files: StudyFiles, *, is_new: bool) -> None:
    if is_new:
        shutil.rmtree(files.directory, ignore_errors=True)
        with contextlib.suppress(OSError):  # of other studies
            files.storage.rmdir()
        return
    for path in (files.description, files.trials, local_file(files.default_study_storage)):
        with contextlib.suppress(OSError):  # what cannot be removed does not hide why
            if path is not None:
                path.unlink(missing_ok=True)
