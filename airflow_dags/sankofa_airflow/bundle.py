"""DAG delivery on Airflow 3: the ref `deployed` of the analysts' repository, which outlives the loss of its remote.

In:    what `GitDagBundle` takes. Out: a bundle.
Holds: a run keeps the version it began with, also where a forced push has dropped that version; while the remote is
       away, what was fetched last goes on being parsed and run. The stock bundle deletes its copy then, and every
       task that begins on that host fails until the remote is back.
Not here: Airflow 2.11, which has no bundles (nomad/dag-sync.sh).
"""

from __future__ import annotations

from airflow.providers.git.bundles.git import GitDagBundle
from git.exc import GitCommandError

from sankofa_airflow.compat import AirflowException


class DeployedBundle(GitDagBundle):
    """A GitDagBundle that goes on with what it has while its remote is away."""

    def _fetch_bare_repo(self) -> None:
        """Fetch, or say that it could not be, where what is wanted is here already.

        Raises AirflowException where it is not; GitCommandError, at which the stock bundle makes its copy
        anew, only where that copy lacks the ref itself.
        """
        try:
            super()._fetch_bare_repo()
        except GitCommandError:
            if not self.is_here(self.tracking_ref):
                raise
            if self.version and not self.is_here(self.version):
                text = f"cannot fetch the repository, and version {self.version} is not here: retry when it answers"
                raise AirflowException(text) from None
            self._log.warning("the repository cannot be fetched: going on with what was fetched last")

    def is_here(self, name: str) -> bool:
        """Whether our copy has this commit. (GitPython takes any 40 digits for one.)"""
        try:
            self.bare_repo.git.cat_file("-e", f"{name}^{{commit}}")
        except GitCommandError:
            return False
        return True
