"""The stand-in answers what a real Nomad 2.0.5 answered: every request of the 57 recordings, played in order.

Needs shared/data/nomad (SANKOFA_SHARED, or ../shared beside the checkout): loud where it is missing, and in CI a failure.
"""

import collections
import concurrent.futures
import glob
import os
import re
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import calls  # noqa: E402
import worlds  # noqa: E402
from replay import load  # noqa: E402
from urllib.parse import parse_qsl, unquote  # noqa: E402

# Recordings that are not matched in full, and why: what an operator may not rely on when it was tested here alone.
KNOWN = {}
HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.environ.get("SANKOFA_SHARED") or os.path.join(HERE, "..", "..", "..", "shared")
FOLDER = os.path.join(SHARED, "data", "nomad")
FILES = sorted(glob.glob(os.path.join(FOLDER, "*.jsonl.gz")))


def setUpModule():
    if not FILES:
        text = f"!!! NO RECORDINGS: {FOLDER} is missing (set SANKOFA_SHARED)"
        print(text, file=sys.stderr)
        if os.environ.get("CI") == "true":
            raise RuntimeError(text)
        raise unittest.SkipTest(text)


class Recordings(unittest.TestCase):
    def test_there_are_57_recordings(self):
        self.assertEqual(57, len(FILES))

    def test_every_recorded_call_is_known_and_no_other(self):
        used = collections.Counter()
        for file in FILES:
            for line in load(file):
                asked = line["request"]
                query = dict(parse_qsl(asked["query"], keep_blank_values=True))
                path = asked["path"] if asked["path"].startswith("/v1/job") else unquote(asked["path"])
                found = calls.find(asked["method"], path, query)
                self.assertIsNotNone(found, f"{asked['method']} {asked['path']} {sorted(query)}")
                used[found[0]] += 1
        self.assertEqual({name for _, name, _, _ in calls.CALLS}, set(used))

    def test_every_recording_is_answered_as_recorded(self):
        wanted = re.compile(os.environ.get("SANKOFA_RECORDING", ""))
        files = sorted((f for f in FILES if wanted.search(os.path.basename(f))), key=span, reverse=True)
        # Mostly waiting, so many at once; each in a process of its own, the longest first.
        with concurrent.futures.ProcessPoolExecutor(min(14, len(files))) as pool:
            results = dict(zip(files, pool.map(play, files)))
        text = ""
        for file, differences in sorted(results.items()):
            name = os.path.basename(file).removesuffix(".jsonl.gz")
            if name in KNOWN:
                print(f"{name}: {len(differences)} known differences: {KNOWN[name]}", file=sys.stderr)
            elif differences:
                text += f"\n{name}: {len(differences)} differences\n   " + "\n   ".join(differences[:6])
        self.assertFalse(text, text)


def play(file):
    """The differences; a second time where there are any, since this machine may have been too busy for the first."""
    differences = worlds.play(file, FOLDER)
    if differences and os.path.basename(file).removesuffix(".jsonl.gz") not in KNOWN:
        print(f"{os.path.basename(file)}: {len(differences)} differences, once more", file=sys.stderr)
        differences = worlds.play(file, FOLDER)
    return differences


def span(file):
    """How long a recording takes to play, in seconds."""
    name = os.path.basename(file).removesuffix(".jsonl.gz")
    return max(line.get("t") or 0 for line in load(file)) / worlds.FAST.get(name, 1.0)


if __name__ == "__main__":
    unittest.main()
