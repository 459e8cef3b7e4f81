"""``twistd dscheduler`` and ``twistd dworker``; the code is loaded when they are asked for."""

from twisted.application.service import ServiceMaker

dscheduler = ServiceMaker(
    "dscheduler", "twisted_dist.cli.scheduler", "The meeting point of a network", "dscheduler"
)
dworker = ServiceMaker("dworker", "twisted_dist.cli.worker", "Runs tasks", "dworker")
