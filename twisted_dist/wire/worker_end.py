"""The worker's end of its task stream: what may come, and how its reports are told."""

from __future__ import annotations

from typing import Final

from twisted_dist.core.worker_side import messages as m
from twisted_dist.wire import schema

#: numbers of the messages that a scheduler sends to workers
FROM_SCHEDULER: Final = (
    schema.WELCOME.number,
    schema.KEYS.number,
    schema.PEERS.number,
    schema.GIVE_FUNCTION.number,
    schema.TASKS.number,
    schema.FORGET.number,
    schema.DROP.number,
    schema.STOP.number,
    schema.COPY.number,
    schema.RESTART.number,
    schema.LEAVE.number,
    schema.PASS.number,
    schema.UPLOADS.number,
    schema.UPLOAD_PIECE.number,
    schema.RELAY.number,
    schema.ERRAND.number,
    schema.STOP_ERRANDS.number,
)
#: what the worker's machine is told by messages that are for it alone
FACTS: Final[dict[int, type]] = {
    schema.TASKS.number: m.TasksGiven,
    schema.FORGET.number: m.DataForgotten,
    schema.DROP.number: m.DropRequested,
    schema.STOP.number: m.StopRequested,
    schema.COPY.number: m.CopiesAsked,
}
#: what each report of the worker's machine is on the wire
REPORTS: Final[dict[type, schema.Message]] = {
    m.ReportDone: schema.DONE,
    m.ReportFailed: schema.FAILED,
    m.ReportReturned: schema.RETURNED,
    m.ReportKilled: schema.KILLED,
    m.ReportStopped: schema.STOPPED,
    m.ReportMissing: schema.MISSING,
    m.ReportSeceded: schema.SECEDED,
    m.ReportCopies: schema.COPIES,
    m.ReportPut: schema.PUT,
    m.ClaimResults: schema.RESULTS_CLAIMED,
    m.ClaimTasks: schema.TASKS_CLAIMED,
    m.ClaimedAll: schema.ALL_CLAIMED,
}
