"""All set-ups, sound or with one bug each, by kind and by where they come from."""

from planted.first import bugs as first_bugs
from planted.first import healthy as first_healthy
from planted.later import bugs as later_bugs
from planted.later import healthy as later_healthy
from planted.parts import Case
from planted.posted import bugs as posted_bugs
from planted.posted import healthy as posted_healthy
from planted.tester import bugs as tester_bugs
from planted.tester import healthy as tester_healthy

KINDS: dict[str, tuple[Case, ...]] = {
    **first_bugs.KINDS,
    "written later": later_bugs.BUGS,
    "posted about": posted_bugs.BUGS,
    "by a tester": tester_bugs.BUGS,
}
BUGS = tuple(case for cases in KINDS.values() for case in cases)
HEALTHY = (
    *first_healthy.HEALTHY,
    *later_healthy.HEALTHY,
    *posted_healthy.HEALTHY,
    *tester_healthy.HEALTHY,
)
