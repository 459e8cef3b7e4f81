"""Parts of a network fail while it works: hosts of their own, real processes, real faults."""

import pytest

from tests.support import hosts as network
from tests.support.faults import CLIENT, FAULTS, Site
from tests.support.workload import GROUP, TASKS, times_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not network.available(), reason="hosts need root and iproute2"),
]


@pytest.fixture(scope="module")
def hosts():
    """Five hosts; the link of the first worker's can be made to lose packets."""
    with network.building(CLIENT, rough={2}) as five:
        yield five


@pytest.mark.parametrize("fault", FAULTS, ids=[each.name for each in FAULTS])
def test_fault(start, hosts, tmp_path, fault):
    """All is done and right, in time, nothing is lost or run in vain, and no process is left."""
    site = Site(start, hosts, tmp_path)
    with site.client() as user:
        fault.inject(site)
        report = user.report(fault.bound_s)
    runs = times_run(site.tally)
    again = {number: times for number, times in runs.items() if times > 1}
    # a row of the table in docs/reliability.md
    print(f"\n| {fault.name} | {report['outcome']} | {report['seconds']} | {len(again)} |")
    assert report["outcome"] == "right", report
    every = TASKS + TASKS // GROUP + 1
    assert report["states"] == {"finished": every}
    assert len(runs) == every
    assert max(runs.values()) <= 1 + fault.times, again
    if fault.again is not None:
        assert len(again) <= fault.again, again
    site.end()
