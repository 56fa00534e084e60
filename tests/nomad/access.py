"""ACL: which capability a call needs, and the words of the refusals.

In:    tokens with capabilities per namespace.
Out:   nothing, or the refusal that a real Nomad gave (shared/data/nomad, 16 and 16b).
"""

import re
import time

from cluster import Refused

KNOWN = {"alloc-exec", "alloc-lifecycle", "alloc-node-exec", "csi-list-volume", "deny", "deregister-job", "dispatch-job",
         "evaluate-job", "list-jobs", "list-scaling-policies", "parse-job", "purge-job", "read-fs", "read-job",
         "read-job-scaling", "read-logs", "read-scaling-policy", "register-job", "revert-job", "scale-job",
         "submit-job", "submit-recommendation"}
READ = {"list-jobs", "read-job", "parse-job"}
WRITE = READ | {"submit-job", "dispatch-job", "read-logs", "read-fs", "alloc-lifecycle", "alloc-exec"}
NEEDS = {"jobs": {"list-jobs"}, "dispatch": {"dispatch-job"}, "allocations": {"read-job"}, "evaluations": {"read-job"},
         "job": {"read-job"}, "summary": {"read-job"}, "allocation": {"read-job"}, "logs": {"read-logs", "read-fs"},
         "ls": {"read-fs"}, "stop": {"alloc-lifecycle"}, "evaluation": {"read-job"}, "force": {"submit-job"}}
DENIED = Refused(403, "Permission denied")


class Tokens:
    """Off until a token is made: then every call needs one."""

    def __init__(self):
        self.tokens, self.enabled = {}, False

    def add(self, secret, namespaces=(), management=False, ttl=None):
        self.enabled = True
        self.tokens[secret] = {"namespaces": {n: set(c) for n, c in dict(namespaces).items()},
                               "management": management, "expires": ttl and time.monotonic() + ttl}

    def is_alive(self, secret):
        token = self.tokens.get(secret)
        return bool(token) and not (token["expires"] and token["expires"] < time.monotonic())

    def check(self, call, namespace, secret, query):
        """Refused, when the token may not."""
        if not self.enabled or call in ("jwks", "openid", "health", "leader", "peers", "bootstrap"):
            return
        token = self.tokens.get(secret)
        if secret and token is None:
            self.unknown(call, secret)
        if token and token["expires"] and token["expires"] < time.monotonic():
            raise Refused(500, "ACL token expired") if call == "logs" else DENIED
        if token and token["management"]:
            return
        allowed = (token or {"namespaces": {}})["namespaces"]
        have = set().union(*allowed.values()) if namespace == "*" or call == "logs" else allowed.get(namespace, set())
        needs = self.needs(call, query)
        if not needs & have:
            raise DENIED

    @staticmethod
    def needs(call, query):
        if call != "deregister":
            return NEEDS.get(call, {"management"})
        return {"submit-job", "purge-job"} | (set() if query.get("purge") == "true" else {"deregister-job"})

    @staticmethod
    def unknown(call, secret):
        if call != "logs":
            raise DENIED
        if not re.fullmatch(r"[0-9a-f-]{36}", secret):
            raise Refused(500, "rpc error: failed to parse signed token: go-jose/go-jose: compact JWS format must have "
                          "three parts")
        raise Refused(500, "rpc error: Permission denied")

    def policy(self, rules):
        """Refuses rules that name what is no capability."""
        for name in re.findall(r'"([a-z-]+)"', rules.partition("capabilities")[2].partition("]")[0]):
            if name not in KNOWN:
                listed = ", ".join(f'"{n}"' for n in re.findall(r'"([a-z-]+)"', rules.partition("capabilities")[2]))
                namespace = re.search(r'namespace "([^"]+)"', rules)[1]
                raise Refused(400, "policy 0 invalid: 1 error occurred:\n\t* failed to parse rules: Invalid namespace "
                              f"capability '{name}': &acl.NamespacePolicy{{Name:\"{namespace}\", Policy:\"\", "
                              f"Capabilities:[]string{{{listed}}}, Variables:(*acl.VariablesPolicy)(nil)}}\n\n")
