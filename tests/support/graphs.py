"""Computes a graph here: read as a client does, run as a worker does."""

from __future__ import annotations

import pickle

from twisted_dist.client.operations import as_graph
from twisted_dist.execution.payloads import dump_value, dumps, load_value
from twisted_dist.execution.runner import TaskRunner, TaskSpec


def compute(dsk, keys):
    """The results of *keys*, every task run in the order in which it would be submitted."""
    graph, shaped = as_graph(dsk, keys)
    runner = TaskRunner()
    for n, function in enumerate(graph.functions):
        runner.add_function(b"%d" % n, dumps(function))
    data = [dump_value(each) for each in graph.data]
    values = []
    for position, (which, call, deps) in enumerate(zip(graph.which, graph.calls, graph.deps)):
        inputs = [values[each] if each >= 0 else data[~each] for each in deps]
        outcome = runner.run(TaskSpec(position, 1, b"%d" % which, call, inputs))
        if outcome.error is not None:
            raise pickle.loads(outcome.error[0])
        values.append(outcome.value)
    return shaped([load_value(values[each]) for each in graph.outputs])
