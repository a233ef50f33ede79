"""The studies by name."""

from collections.abc import Iterable

from sba.core.errors import ConfigError
from sba.core.hyper import suggestion
from sba.records.schema import Record, RunRecord
from sba.studies.ablations import ON_SUBSETS
from sba.studies.ablations import STUDY as SWITCHES
from sba.studies.omega_eta import STUDY as OMEGA_ETA
from sba.studies.paper_runs import FIG2, FIG3, IMAGENETTE, TABLE1, TABLE1_IMAGENET, VGG_BASELINE
from sba.studies.planned import Study
from sba.studies.robustness import STUDY as ROBUSTNESS
from sba.studies.small_data import FULL_SIZE
from sba.studies.small_data import STUDY as SMALL_DATA

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        TABLE1,
        FIG2,
        FIG3,
        VGG_BASELINE,
        TABLE1_IMAGENET,
        IMAGENETTE,
        OMEGA_ETA,
        SWITCHES,
        ON_SUBSETS,
        ROBUSTNESS,
        SMALL_DATA,
        FULL_SIZE,
    )
}
"""Name on the command line → study."""


def shared(records: Iterable[Record]) -> list[Record]:
    """Leave out the records of exclusive studies: they were made for those alone, and stand in no other table."""
    exclusive = {name for name, study in STUDIES.items() if study.exclusive}
    return [r for r in records if not (isinstance(r, RunRecord) and r.study in exclusive)]


def study_named(name: str) -> Study:
    """Look up a study, or raise :class:`ConfigError` if there is none of this name."""
    if name not in STUDIES:
        raise ConfigError(f"study: {name!r} is not known; {suggestion(name, STUDIES)}")
    return STUDIES[name]
