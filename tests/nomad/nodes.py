"""What happens to machines: nodes that drain, die and come back; agents that restart.

In:    the cluster and a node.
Out:   the same documents, changed as shared/data/nomad saw them change.
Holds: a node that died keeps its processes running; that is the point.
"""

import threading

from cluster import LOST


def mine(cluster, node):
    return [a for a in cluster.allocs.values() if a.node is node and not cluster.terminal(a.doc)]


def drain(cluster, node, seconds):
    """Drain with a deadline: what still runs then is stopped, complete, and not replaced."""
    node.eligible = False

    def force():
        for allocation in mine(cluster, node):
            allocation.doc["DesiredTransition"]["Migrate"] = True
            cluster.touch("allocs", allocation.doc)
            doc = cluster.evaluate(allocation.job, "node-drain", wait=None)
            cluster.publish(lambda a=allocation, d=doc: migrate(cluster, a, d))

    threading.Timer(cluster.pace(seconds), lambda: cluster.publish(force)).start()


def migrate(cluster, allocation, doc):
    cluster.want_stopped(allocation, "alloc is being migrated")
    cluster.complete(doc, {"Migrate": 1}, group=allocation.group["Name"])
    cluster.settle(allocation.job)


def eligible(cluster, node, yes):
    with cluster.lock:
        node.eligible = yes
        cluster.index += 1
        cluster.tables["nodes"] = cluster.index
        if yes:
            unblock(cluster)
        return cluster.index


def unblock(cluster):
    """Blocked evaluations are tried again."""
    for doc in list(cluster.evals.values()):
        job = cluster.jobs.get((doc["Namespace"], doc["JobID"]))
        if doc["Status"] == "blocked" and job:
            cluster.publish(lambda job=job, doc=doc: cluster.process(job, doc), after=0.005)


def meta(cluster, node, values):
    node.meta.update(values)
    threading.Timer(cluster.pace(5), lambda: unblock(cluster)).start()


def down(cluster, node):
    """The client agent dies; its tasks live on. Servers notice after the grace time."""
    node.up = False
    threading.Timer(cluster.pace(cluster.grace), lambda: cluster.publish(lambda: missed(cluster, node))).start()


def missed(cluster, node):
    if node.up:
        return
    node.seen_down = True
    for allocation in mine(cluster, node):
        job, doc = allocation.job, cluster.evaluate(allocation.job, "node-update", wait=None, NodeID=node.id,
                                                    NodeModifyIndex=cluster.index)
        disconnect = allocation.group.get("Disconnect")
        if disconnect:
            unknown(cluster, allocation, doc, disconnect["LostAfter"])
            continue
        lost(cluster, allocation)
        cluster.place_or_block(job, doc, stop=1, before=allocation)
        cluster.settle(job)


def lost(cluster, allocation):
    allocation.doc.update(ClientStatus="lost", DesiredStatus="stop", DesiredDescription=LOST)
    cluster.touch("allocs", allocation.doc)


def unknown(cluster, allocation, doc, after):
    """`disconnect` with `replace = false`: unknown until it is back, or lost AND replaced after `lost_after`."""
    job = allocation.job
    later = cluster.evaluate(job, "max-disconnect-timeout", wait=None, PreviousEval=doc["ID"],
                             WaitUntil=cluster.moment(after))
    allocation.doc.update(ClientStatus="unknown", ClientDescription="alloc is unknown since its node is disconnected",
                          FollowupEvalID=later["ID"])
    cluster.touch("allocs", allocation.doc)
    cluster.complete(doc, {"Disconnect": 1, "Ignore": 1}, NextEval=later["ID"], group=allocation.group["Name"])

    def late():
        if allocation.node.up or allocation.doc["ClientStatus"] != "unknown":
            return
        lost(cluster, allocation)
        cluster.place_or_block(job, later, stop=1, before=allocation)

    threading.Timer(cluster.pace(after / 10**9), lambda: cluster.publish(late)).start()


def up(cluster, node):
    """The client agent is back: lost allocations show their true state once more, and are stopped."""
    node.up, node.seen_down = True, False
    for allocation in [a for a in cluster.allocs.values() if a.node is node]:
        if allocation.doc["ClientStatus"] == "unknown":
            for name in allocation.states:
                allocation.event(name, "Reconnected", "Client reconnected")
            with cluster.lock:
                for doc in cluster.evals.values():
                    if doc["ID"] == allocation.doc["FollowupEvalID"]:
                        doc.update(Status="canceled", StatusDescription="allocs reconnected")
                allocation.doc["FollowupEvalID"] = ""
        elif allocation.doc["DesiredStatus"] == "stop" and not allocation.over.is_set():
            allocation.lost_executor = True
            threading.Timer(cluster.pace(1), allocation.stop).start()
        else:
            allocation.report()
    unblock(cluster)


def agent_down(cluster):
    cluster.agent_up.clear()


def agent_up(cluster, crashed=True):
    """After a kill the node is looked at again; after an orderly end it is not."""
    cluster.agent_up.set()
    if not crashed:
        return
    with cluster.lock:
        for allocation in list(cluster.allocs.values()):
            if not cluster.terminal(allocation.doc):
                doc = cluster.evaluate(allocation.job, "node-update", wait=None, NodeID=allocation.node.id,
                                       NodeModifyIndex=cluster.index)
                cluster.complete(doc, {"Ignore": 1}, group=allocation.group["Name"])
